"""An equation around another one: what schedules, weight decay and volumization share."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, PyTree

from .._base import AbstractEquation, check_contract
from .._checks.facts import refined
from .._checks.lineage import newer
from .._forwarder import AbstractForwarder
from .._scaling import ForwardedLimit
from .._splitting import ForwardedSplitting
from .._tree import add_scaled


class AbstractAround(AbstractForwarder):
    """What is made by a function around an equation."""

    _facts = refined(AbstractForwarder)

    @classmethod
    def around(cls, equation: Any, **values):
        """The same around `equation`."""
        check_contract(equation, twin=True)
        return cls(equation=equation, **values)


def check_inside(equation: AbstractEquation, averages: bool = False) -> None:
    """Raises a ValueError for what belongs outside of all that a training step does: a series, and unless `averages` are
    fine, an average."""
    series = equation.series()
    if series.maker is not None and not (averages and series.average):
        raise ValueError(
            f"Argument `equation` must not be {series.kind}: put `{series.maker}` outside, which is then that of all that "
            f"a training step does, but a {type(equation).__name__} was given."
        )


class AbstractWrapped(AbstractAround):
    """An equation whose rates are those of another one, changed by a linear map and with something added.

        dY = [A(t) u + b(t, Y)] dt + A(t) noise,    u and noise those of `equation`.

    The state, the noise and the clock are the inner equation's. What it knows better than the defaults of the base (a mean
    in closed form, noise that it injects) stays exact, since the map acts on its drift, flow and kick and not on its
    velocity. A subclass gives `mapped` or `added`, and `twin`. What is inside has order 1: a series in there would not be
    that of the step with the wrapper in it.
    """

    _facts = refined(AbstractAround, instead="`mapped` or `added`", singular=None)

    def __check_init__(self):
        check_inside(self.equation)

    def mapped(self, t: Array, rates: PyTree) -> PyTree:
        """A(t) applied to rates of the state; by default the identity."""
        return rates

    def added(self, t: Array, state: PyTree) -> PyTree | None:
        """b(t, state); None: nothing."""
        return None

    def changed(self, t: Array, state: PyTree, rates: PyTree, dt: ArrayLike = 1.0) -> PyTree:
        """A(t) rates + dt b(t, state)."""
        rates, more = self.mapped(t, rates), self.added(t, state)
        return rates if more is None else add_scaled(rates, (dt, more))

    def with_params(self, state: PyTree, params: PyTree) -> PyTree:
        """A state, or its rates, with other parameters."""
        inner = self.equation
        return params if inner.params(state) is state else eqx.tree_at(inner.params, state, params)

    def velocity(self, t, state, gradient):
        return self.changed(t, state, super().velocity(t, state, gradient))

    def drift(self, t, state, signal):
        return self.changed(t, state, super().drift(t, state, signal))

    def diffusion(self, t, state, signal):
        root = super().diffusion(t, state, signal)
        if root is None:
            return None
        return lx.FunctionLinearOperator(lambda normals: self.mapped(t, root.mv(normals)), root.in_structure())

    def splitting(self):
        return WrappedSplitting.of(self)

    def scaling_limit(self):
        return WrappedLimit(self)

    def moves(self, clock: ArrayLike, rate: Array) -> dict[str, Array]:
        """The wrapper's own fields where a step takes `clock` times its natural time, at `rate` times its learning rate."""
        return {}

    def around_moved(self, equation, clock):
        rate = equation.learning_rate / self.learning_rate
        moved = self.moves(clock, rate)
        return eqx.tree_at(
            lambda e: [e.equation, *(getattr(e, name) for name in moved)], self, [equation, *moved.values()]
        )


class WrappedSplitting(ForwardedSplitting):
    """That of the equation inside, with what is around it."""

    def start(self, state, signal, noise):
        started = self.inner.start(state, signal, noise)
        if started is None:
            return None
        step = jax.tree.map(jnp.subtract, started, state)
        rate = self.dynamics.learning_rate
        return add_scaled(state, (1.0, self.dynamics.changed(jnp.zeros(()), state, step, rate)))

    def flow(self, t, state, signal):
        return self.dynamics.changed(t, state, self.inner.flow(t, state, signal))

    def kick(self, t, state, signal, noise, dt):
        return self.dynamics.mapped(t, self.inner.kick(t, state, signal, noise, dt))

    def euler(self, t, state, signal, noise, dt):
        if newer(type(self), "flow", "euler") or newer(type(self), "kick", "euler"):
            return super().euler(t, state, signal, noise, dt)
        return self.dynamics.changed(t, state, self.inner.euler(t, state, signal, noise, dt), dt)


class WrappedLimit(ForwardedLimit):
    """That of the equation inside; whatever it corrects, it does not correct for the wrapper."""

    @property
    def threshold(self):
        """None, since what is around moves it: weight decay takes eta lambda of it."""
        return None

    def untold(self):
        return self.equation.equation.scaling_limit().untold()

    def claimed_order(self, measure):
        return min(1.0, super().claimed_order(measure))

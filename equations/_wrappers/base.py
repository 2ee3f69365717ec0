"""An equation around another one: what schedules, weight decay and volumization share."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, PyTree

from .._base import AbstractDynamics, AbstractEquation
from .._checks.overrides import series_of
from .._counts import around
from .._tree import add_scaled
from .._velocity import velocity_of


class AbstractWrapped(AbstractEquation):
    """An equation whose rates are those of another one, changed by a linear map and with something added.

        dY = [A(t) u + b(t, Y)] dt + A(t) noise,    u and noise those of `equation`.

    The state, the noise and the clock are the inner equation's. What it knows better than the defaults of the base (a mean
    in closed form, noise that it injects) stays exact, since the map acts on its drift, flow and kick and not on its
    velocity. A subclass gives `mapped` or `added`, and `twin`. What is inside has order 1: a series in there would not be
    that of the step with the wrapper in it.
    """

    equation: AbstractEquation = eqx.field(kw_only=True)

    @classmethod
    def around(cls, equation: Any, **values):
        """The wrapper around `equation`, with its learning rate, batches and noise."""
        if not isinstance(equation, AbstractEquation):
            raise TypeError(f"Argument `equation` must be an equations.AbstractEquation, but {equation!r} was given.")
        return cls(**_shared(equation), equation=equation, **values)

    def __post_init__(self):
        # The wrapper's batches are the inner equation's, also where `dataclasses.replace` gave the wrapper others.
        mine, inner = _shared(self), _shared(self.equation)
        other = {name: value for name, value in mine.items() if name != "learning_rate" and value is not inner[name]}
        if other:
            self.equation = dataclasses.replace(self.equation, **other)

    def __check_init__(self):
        maker = series_of(self.equation)
        if maker is not None:
            raise ValueError(
                f"Argument `equation` must not be a series: put `{maker}` outside, whose series is that of all that a "
                f"training step does, but a {type(self.equation).__name__} was given."
            )

    @property
    def inner(self) -> AbstractEquation:
        """The inner equation at the learning rate of this one."""
        return eqx.tree_at(lambda equation: equation.learning_rate, self.equation, self.learning_rate)

    def mapped(self, t: Array, rates: PyTree) -> PyTree:
        """A(t) applied to rates of the state; by default the identity."""
        return rates

    def added(self, t: Array, state: PyTree) -> PyTree | None:
        """b(t, state); None: nothing."""
        return None

    def _changed(self, t, state, rates, dt=1.0):
        rates, more = self.mapped(t, rates), self.added(t, state)
        return rates if more is None else add_scaled(rates, (dt, more))

    def init(self, params):
        return self.inner.init(params)

    def params(self, state):
        return self.inner.params(state)

    def with_params(self, state: PyTree, params: PyTree) -> PyTree:
        """A state, or its rates, with other parameters."""
        inner = self.inner
        return params if inner.params(state) is state else eqx.tree_at(inner.params, state, params)

    def velocity(self, t, state, gradient):
        return self._changed(t, state, velocity_of(self.inner, t, state, gradient))

    def drift(self, t, state, signal):
        return self._changed(t, state, self.inner.drift(t, state, signal))

    def flow(self, t, state, signal):
        return self._changed(t, state, self.inner.flow(t, state, signal))

    def kick(self, t, state, signal, noise, dt):
        return self.mapped(t, self.inner.kick(t, state, signal, noise, dt))

    def euler(self, t, state, signal, noise, dt):
        if self._new("kick", "euler"):
            return AbstractDynamics.euler(self, t, state, signal, noise, dt)
        return self._changed(t, state, self.inner.euler(t, state, signal, noise, dt), dt)

    def diffusion(self, t, state, signal):
        root = self.inner.diffusion(t, state, signal)
        if root is None:
            return None
        return lx.FunctionLinearOperator(lambda normals: self.mapped(t, root.mv(normals)), root.in_structure())

    def start(self, state, signal, noise):
        started = self.inner.start(state, signal, noise)
        if started is None:
            return None
        step = jax.tree.map(jnp.subtract, started, state)
        return add_scaled(state, (1.0, self._changed(jnp.zeros(()), state, step, self.learning_rate)))

    def noise(self, state, signal, kicks_per_step):
        return self.inner.noise(state, signal, kicks_per_step)

    @property
    def gradient_noise(self):
        return self.inner.gradient_noise

    @property
    def leapfrog(self):
        return self.inner.leapfrog

    @property
    def kicks(self):
        return self.inner.kicks

    @property
    def random(self):
        return self.inner.random

    @property
    def linear(self):
        return self.inner.linear

    def is_affine(self, state):
        return self.inner.is_affine(state)

    def held(self, step):
        return around(self, "equation", self.equation.held(step))

    def between(self, low, high):
        return around(self, "equation", self.equation.between(low, high))

    def learning_rate_at(self, step):
        return self.inner.learning_rate_at(step)

    @property
    def has_series(self):
        return self.inner.has_series

    @property
    def resumed(self):
        """That of the inner equation, where it has one: what it looks for in the twin's memory goes by the same names."""
        return self.inner.resumed

    def moves(self, clock: ArrayLike, rate: Array) -> dict[str, Array]:
        """The wrapper's own fields where a step takes `clock` times its natural time, at `rate` times its learning rate."""
        return {}

    def around_moved(self, equation: AbstractEquation, clock: ArrayLike) -> "AbstractWrapped":
        """Around `equation`, the inner one with other hyperparameters and a step of `clock` times its natural time."""
        rate = equation.learning_rate / self.learning_rate
        return dataclasses.replace(self, **_shared(equation), equation=equation, **self.moves(clock, rate))

    def rescaled(self, factor):
        scaled = self.inner.rescaled(factor)
        return self.around_moved(scaled, scaled.time_per_step() / self.time_per_step())

    def time_per_step(self):
        return self.inner.time_per_step()

    def claim(self, measure):
        """That of the inner equation, at most 1: whatever it corrects, it does not correct for the wrapper."""
        return min(1.0, self.inner.claim(measure))

    def variance_scale(self):
        return self.inner.variance_scale()

    def check(self, params, signal):
        self.inner.check(params, signal)


def _shared(equation: AbstractEquation) -> dict[str, Any]:
    """The fields that every equation has."""
    return {field.name: getattr(equation, field.name) for field in dataclasses.fields(AbstractEquation)}

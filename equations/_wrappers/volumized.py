"""Volumization: weights and first moments held back outside a box."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from .._base import AbstractEquation
from .._checks.arguments import nonnegative, number
from .._tree import add_scaled
from .base import AbstractWrapped, WrappedSplitting

_FIRST_MOMENTS = ("mu", "trace")  # by which names they go in Optax and here


def _alpha(value):
    return number("alpha", value, allowed="a number from 0 to 1", test=lambda x: (x >= 0) & (x <= 1))


def _map_moments(function, state: PyTree, params: PyTree) -> PyTree:
    """`function(leaf, parameter)` of every leaf of a first moment in a state, all other leaves as they are."""
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}

    def change(path, leaf):
        for place, key in enumerate(path):
            if getattr(key, "name", None) in _FIRST_MOMENTS:
                parameter = named.get(jax.tree_util.keystr(path[place + 1 :]))
                if parameter is not None:
                    return function(leaf, parameter)
        return leaf

    return jax.tree_util.tree_map_with_path(change, state)


class Volumized(AbstractWrapped):
    r"""After each step, where |w| > V: w <- sign(w) [alpha |w| + (1 - alpha) V] and the first moment m <- alpha m.

        dw = dw of the equation - (1 - alpha)/eta (w - V sign w) 1[|w| > V] dt,    t = eta * step
        dm = dm of the equation - (1 - alpha)/eta m 1[|w| > V] dt

    alpha = 0 clips, alpha = 1 does nothing, V = 0 is weight decay. At fixed alpha < 1 the limit is a process reflected at
    the walls of the box, which no differential equation without a boundary term is. Bounces (alpha < 0) have none.

    Source: Ziyin, Wang, Yamada and Ueda 2020, arXiv:2003.11243, in the form of its public code; continuous model derived.
    Scaling: 1 - alpha ~ natural time of a step, V fixed. Natural clock: that of the equation. Weak order 1.

    **Attributes:** those of the equation, and `equation`, `volume`, `alpha`.
    """

    volume: Array = eqx.field(kw_only=True, converter=nonnegative("volume"))
    alpha: Array = eqx.field(kw_only=True, converter=_alpha)

    def _beyond(self, parameter):
        """What a parameter has beyond the box."""
        return parameter - jnp.clip(parameter, -self.volume, self.volume)

    def _outside(self, parameter):
        return jnp.abs(parameter) > self.volume

    def added(self, t, state):
        rate, params = (1 - self.alpha) / self.learning_rate, self.params(state)
        still = self.with_params(state, jax.tree.map(jnp.zeros_like, params))
        change = lambda m, p: jnp.where(self._outside(p), (1 - rate) * m, m).astype(m.dtype)  # noqa: E731
        rates = jax.tree.map(jnp.subtract, _map_moments(change, still, params), still)
        back = jax.tree.map(lambda p: (-rate * self._beyond(p)).astype(p.dtype), params)
        return self.with_params(rates, back)

    def twin(self):
        inner = optax.with_extra_args_support(self.equation.twin())

        def update(updates, state, params: Any = None, **more):
            updates, memory = inner.update(updates, state, params, **more)
            params = optax.apply_updates(params, updates)
            pulled = lambda u, p: (u - (1 - self.alpha) * self._beyond(p)).astype(u.dtype)  # noqa: E731
            held = lambda m, p: jnp.where(self._outside(p), self.alpha * m, m).astype(m.dtype)  # noqa: E731
            return jax.tree.map(pulled, updates, params), _map_moments(held, memory, params)

        return optax.GradientTransformationExtraArgs(inner.init, update)

    def splitting(self):
        return VolumizedSplitting.of(self)

    def moves(self, clock, rate):
        return {"alpha": 1 - (1 - self.alpha) * clock}


class VolumizedSplitting(WrappedSplitting):
    """The box acts on what the step has come to."""

    def start(self, state, signal, noise):
        started = self.inner.start(state, signal, noise)
        if started is None:
            return None
        box = self.dynamics
        return add_scaled(started, (box.learning_rate, box.added(jnp.zeros(()), started)))


def volumized(equation: AbstractEquation, volume, alpha=0.0) -> Volumized:
    """An equation whose weights are held back outside a box.

    **Arguments:**

    - `equation`: any equation; first moments go by the names `mu` and `trace`.
    - `volume`: V, zero or more: half the side of the box.
    - `alpha`: what a weight outside keeps of its distance in a step, from 0 (it is clipped) to 1 (nothing happens).

    **Raises:** TypeError or ValueError, naming the argument.
    """
    return Volumized.around(equation, volume=volume, alpha=alpha)

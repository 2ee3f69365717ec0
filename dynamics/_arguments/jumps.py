"""A velocity of one's own that jumps in time: told of, since a solver's stages would read across the jump."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractDynamics, AbstractEquation
from equations.internal import definer, is_free, is_ours, once, velocity_of, warn

from .._paths.held import jumps

_LONGEST = 4096  # training steps that are looked at


class _Reading(eqx.Module):
    """A velocity at one state and gradient, projected on one number: a function of the training step."""

    equation: AbstractEquation
    state: PyTree
    gradient: PyTree

    def learning_rate_at(self, step: Array) -> Array:
        """Of the name by which `jumps` reads a schedule."""
        dtype = jnp.result_type(*jax.tree.leaves(self.state))
        rates = velocity_of(
            self.equation, (step * self.equation.learning_rate).astype(dtype), self.state, self.gradient
        )
        leaves = [leaf.ravel() for leaf in jax.tree.leaves(rates)]
        return sum(jnp.dot(leaf, jnp.cos(1.0 + jnp.arange(leaf.size, dtype=leaf.dtype))) for leaf in leaves)


def warn_of_jumps(dynamics: AbstractDynamics, params: PyTree, steps: int) -> None:
    """Warns where a velocity of the user's jumps with the training step and nothing says so; made once."""
    inner: Any = dynamics
    while isinstance(inner, AbstractEquation):
        kind = type(inner)
        own = not is_ours(definer(kind, "velocity")) and is_ours(definer(kind, "held"))
        found = once(_first_jump, inner, params, min(steps, _LONGEST)) if own else None
        if found is not None:
            warn(
                f"Argument `equation`: {kind.__name__}.velocity jumps in time, first with training step {found}, and the "
                "stages of a solver read across the jump: put what is counted into `scheduled`, or give `held` and "
                "`between`."
            )
            return
        inner = getattr(inner, "equation", None)


def _first_jump(equation, params, steps) -> int | None:
    state, gradient = equation.init(params), jax.tree.map(jnp.ones_like, params)
    time = jnp.asarray(equation.learning_rate).astype(jnp.result_type(*jax.tree.leaves(state)))
    if is_free(lambda t: velocity_of(equation, t, state, gradient), time):
        return None
    stops, _ = jumps(_Reading(equation, state, gradient), steps)
    return int(stops[0]) if stops.size else None

"""Which algorithms are gradient descent."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .._checks.once import once
from .._modified.increment import AbstractIncrement
from .._signals.base import is_parameter
from .._velocity import velocity_of


def check_descent(flow: Any, params: PyTree) -> None:
    """Raises a ValueError unless the algorithm of an equation is gradient descent, without a memory."""
    if not is_descent(flow.equation, eqx.filter(params, is_parameter)):
        raise ValueError(
            f"Argument `equation` must be gradient descent, as SGD(...), for a {type(flow).__name__}, but a "
            f"{type(flow.equation.algorithm).__name__} was given; RodFlow takes any algorithm."
        )


def is_descent(increment: AbstractIncrement, params: PyTree) -> bool:
    """Whether a step changes the parameters by minus the gradient, and nothing else but counts."""
    if increment.several_gradients:
        return False
    state = jax.eval_shape(increment.init, params)
    averages = increment.averages(params).memory
    if any(jax.tree.leaves(averages)) or jax.tree.leaves(state.memory):
        return False
    return bool(once(_goes_down, increment, params))


def _goes_down(increment: AbstractIncrement, params: PyTree) -> bool:
    gradient = jax.tree.map(
        lambda leaf: jnp.cos(1.0 + jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), params
    )
    rate = velocity_of(increment, jnp.zeros(()), increment.init(params), gradient).params
    pairs = zip(jax.tree.leaves(rate), jax.tree.leaves(gradient), strict=True)
    return all(bool(jnp.allclose(r, -g, rtol=1e-4, atol=1e-6)) for r, g in pairs)

"""A velocity that is asked for in many places and runs, as Python, once; and whether it is affine in the gradient."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree

from ._jaxpr.structure import is_affine
from ._shapes import abstract_value


def velocity_of(equation: Any, t: ArrayLike, state: PyTree, gradient: PyTree) -> PyTree:
    """`equation.velocity(t, state, gradient)`, traced once for a structure and its shapes and put in where it is asked for.

    A check of shapes, whether the rule is affine, the flow, the kick and the derivatives of these then all see one trace of
    it. As for every function under jit: what it does by a global that it reads is not noticed when that changes.
    """
    return _traced(equation, jnp.asarray(t), state, gradient)


def response(equation: Any, t: ArrayLike, state: PyTree, direction: PyTree) -> PyTree:
    """The linear part of an affine velocity, applied to a gradient."""
    zeros = jax.tree.map(jnp.zeros_like, direction)
    return jax.jvp(lambda g: velocity_of(equation, t, state, g), (zeros,), (direction,))[1]


@eqx.filter_jit(inline=True)  # pyright: ignore[reportCallIssue, reportArgumentType]  # its overloads leave jit's options out
def _traced(equation, t, state, gradient):
    return equation.velocity(t, state, gradient)


def reads_affine(equation: Any, state: PyTree) -> bool:
    """Whether the velocity is affine in the gradient as its jaxpr tells, decided once for a structure and its shapes."""
    return abstract_value(_affine, equation, state) is not None


def _affine(equation, state) -> Array | None:
    """A number where it is, None elsewhere: so the answer is remembered."""
    velocity = lambda g: velocity_of(equation, equation.learning_rate, state, g)  # noqa: E731
    return jnp.zeros(()) if is_affine(velocity, equation.params(state)) else None

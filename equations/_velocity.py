"""A velocity that is asked for in many places and runs, as Python, once."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import ArrayLike, PyTree


def velocity_of(equation: Any, t: ArrayLike, state: PyTree, gradient: PyTree) -> PyTree:
    """`equation.velocity(t, state, gradient)`, traced once for a structure and its shapes and put in where it is asked for.

    A check of shapes, whether the rule is affine, the flow, the kick and the derivatives of these then all see one trace of
    it. As for every function under jit: what it does by a global that it reads is not noticed when that changes.
    """
    return _traced(equation, jnp.asarray(t), state, gradient)


@eqx.filter_jit(inline=True)
def _traced(equation, t, state, gradient):
    return equation.velocity(t, state, gradient)

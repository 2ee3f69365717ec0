"""The logarithm of a near-identity map, that is the field whose flow over one step reproduces the map, as a series.

For the map y + h f(y) (h the step) the field is

    f - (h/2) f'f + h^2 [f''(f, f)/12 + f'f'f/3] + O(h^3)

(Hairer, Lubich and Wanner 2006, Geometric Numerical Integration, chapter IX), or, without any derivative, from the
forward differences of the iterates y_0 = y, y_{k+1} = y_k + h f(y_k),

    (1/h) [D y - D^2 y/2 + D^3 y/3 - ... +- D^n y/n] + O(h^n)        (derived: log(1 + D) on functions along the iterates).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._tree import add_scaled


def by_derivatives(field: Callable[[PyTree], PyTree], state: PyTree, step: Array | float, order: int) -> PyTree:
    """The series to order 1, 2 or 3 by nested Jacobian-vector products.

    They cost about 1, 2 and 4 evaluations of the field of a network; less where it is small, and more where matrix products
    of several layers are all that counts, up to 1, 3 and 7.
    """
    if order == 1:
        return field(state)
    value = field(state)
    # XLA shares the value inside these products; a linearization, which stores what they share, is slower from order 3 on.
    first = jax.jvp(field, (state,), (value,))[1]
    if order == 2:
        return add_scaled(value, (-step / 2, first))

    def directional_derivative(y):
        return jax.jvp(field, (y,), (value,))[1]

    curvature = jax.jvp(directional_derivative, (state,), (value,))[1]
    second = jax.jvp(field, (state,), (first,))[1]
    return add_scaled(value, (-step / 2, first), (step**2 / 12, curvature), (step**2 / 3, second))


def by_map(field: Callable[[PyTree], PyTree], state: PyTree, step: Array | float, order: int) -> PyTree:
    """The series to any order from as many steps of the map itself, whatever is inside."""
    # D^k y_0 = h sum_j (-1)^(k-1-j) binom(k-1, j) f(y_j): in terms of the increments nothing cancels but them.
    weights = [
        sum((-1) ** j * math.comb(k - 1, j) / k for k in range(j + 1, order + 1)) for j in range(order)
    ]  # fmt: skip

    def body(carry, weight):
        y, total = carry
        value = field(y)
        return (add_scaled(y, (step, value)), add_scaled(total, (weight, value))), None

    zero = jax.tree.map(jnp.zeros_like, state)
    dtype = jnp.result_type(*jax.tree.leaves(state))
    return jax.lax.scan(body, (state, zero), jnp.asarray(weights, dtype))[0][1]

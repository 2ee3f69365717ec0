"""How stiff a step was, from the stages of its Runge-Kutta method, without a further evaluation.

As Hairer and Wanner 2010 (Solving ODEs II, IV.2) detect stiffness: with g, g' the last two stages and k, k' the
increments there, |k' - k|/|g' - g| is dt |lambda| once the stiffest mode is what is left of the difference, as is one
that the solver lets grow. Elsewhere it is less: a small quotient at every step says that nothing has grown, unless the
stages lie on either side of what is steep. Then the last increment is against the first, and that counts as beyond any
limit.
"""

from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

_AGAINST = 0.25  # the square of the cosine between two increments, beyond which one is against the other
_LEAPT = 20.0  # beyond the limits of all solvers


class Peak(NamedTuple):
    """The largest quotient of a path so far, and the training step, from 1, that it was in."""

    quotient: Array
    step: Array

    def or_later(self, quotient: Array, step: Array) -> "Peak":
        larger = quotient > self.quotient
        return Peak(jnp.where(larger, quotient, self.quotient), jnp.where(larger, step, self.step))


def no_peak(state: PyTree) -> Peak:
    return Peak(no_quotient(state), jnp.zeros((), jnp.int32))


def no_quotient(state: PyTree) -> Array:
    return jnp.zeros((), jnp.result_type(*jax.tree.leaves(state)))


def stage_quotient(solver: dfx.AbstractSolver, stages: dict) -> Array:
    """dt |lambda| along the last two stages of a step; 0 for Euler's method, which has one."""
    zero = no_quotient(stages["y0"])
    if not isinstance(solver, dfx.AbstractERK) or "k" not in stages:
        return zero
    tableau: Any = solver.tableau
    lower = tableau.a_lower
    before = np.append(lower[-2], 0.0) if len(lower) > 1 else np.zeros(1)
    weights = np.append(lower[-1] - before, 0.0)

    def squares(k):
        between = jnp.tensordot(jnp.asarray(weights, k.dtype), k, 1)
        sums = k[-1] - k[-2], between, k[0], k[-1]
        return *(jnp.sum(jnp.square(one)) for one in sums), jnp.sum(k[0] * k[-1])

    pairs = [squares(k) for k in jax.tree.leaves(stages["k"])]
    change, between, first, last, along = (
        sum(part.astype(zero.dtype) for part in parts) for parts in zip(*pairs, strict=True)
    )
    found = jnp.sqrt(jnp.where(between > 0, change / jnp.where(between > 0, between, 1), 0))
    return jnp.where((along < 0) & (along**2 > _AGAINST * first * last), jnp.maximum(found, _LEAPT), found)


def secant(places: tuple[PyTree, PyTree], increments: tuple[PyTree, PyTree]) -> Array:
    """dt |lambda| along the difference of two places, from the increments of the flow there."""
    squares = [
        sum(jnp.sum(jnp.square(b - a)).astype(no_quotient(one).dtype) for a, b in _leaves(one, two))
        for one, two in (increments, places)
    ]
    change, between = squares
    return jnp.sqrt(jnp.where(between > 0, change / jnp.where(between > 0, between, 1), 0))


def _leaves(one: PyTree, two: PyTree) -> zip:
    return zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)

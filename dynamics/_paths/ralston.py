"""Runge-Kutta steps of flows."""

from typing import Any, ClassVar

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


class Ralston3(dfx.AbstractERK):
    """Ralston's third-order Runge-Kutta method in three stages.

    Diffrax's Bosh3 is the same method with a fourth stage that serves the next step; after a kick there is no such use.
    """

    tableau: ClassVar[dfx.ButcherTableau] = dfx.ButcherTableau(
        a_lower=(np.array([1 / 2]), np.array([0.0, 3 / 4])),
        b_sol=np.array([2 / 9, 1 / 3, 4 / 9]),
        b_error=np.array([2 / 9, 1 / 3 - 1, 4 / 9]),
        c=np.array([1 / 2, 3 / 4]),
    )
    interpolation_cls: ClassVar = dfx.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms):
        return 3


def flow_stages(method: Any, term: dfx.ODETerm, t0: Any, t1: Any, y0: PyTree, args: PyTree) -> tuple[PyTree, dict]:
    """One step of an explicit method from t0 to t1, and what is known of its stages: `y0`, and increments `k` stacked.

    From the tableau, one stage after another. Diffrax's own step writes the stages into buffers of a loop, which takes a
    third of the time of a step where the field is cheap.
    """
    if not isinstance(method, dfx.AbstractERK):
        y1, _, stages, _, _ = method.step(term, t0, t1, y0, args, method.init(term, t0, t1, y0, args), made_jump=False)
        return y1, stages
    tableau: Any = method.tableau
    control, increments = term.contr(t0, t1), []
    for stage in range(tableau.num_stages):
        row = tableau.a_lower[stage - 1] if stage else ()
        time = t0 + (t1 - t0) * float(tableau.c[stage - 1]) if stage else t0
        increments.append(term.vf_prod(time, moved(y0, row, increments), args, control))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *increments)
    return moved(y0, tableau.b_sol, increments), dict(y0=y0, k=stacked)


def moved(state: PyTree, weights: Any, increments: Any) -> PyTree:
    """state + sum of weight * increment, in the state's dtypes."""
    terms = [(float(w), k) for w, k in zip(weights, increments, strict=True) if w]
    if not terms:
        return state
    factors, trees = zip(*terms, strict=True)
    return jax.tree.map(lambda y, *ks: (y + _sum(factors, ks)).astype(y.dtype), state, *trees)


def _sum(factors, leaves):  # first, since beside a large state every addition rounds
    return sum(factor * leaf for factor, leaf in zip(factors, leaves, strict=True))

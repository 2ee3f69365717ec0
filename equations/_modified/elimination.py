"""Whether the memory of an algorithm follows its parameters, so that it can be eliminated."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._checks.once import quick_jit, silent

LARGEST_CORRECTION = 1.0  # of a slow manifold, over the memory: beyond it there is none


def check_elimination(slow: Any, signal: Any, params: PyTree) -> None:
    """Raises a ValueError where at these parameters a `SlowManifold`'s correction is larger than the memory itself.

    So it is where a memory lasts longer than the parameters take to move: of an Adam of b2 = .999 at every usual rate.
    """
    if silent((slow, signal, params)):
        return
    found = _correction(slow, signal, params)  # in every call, for it moves with all hyperparameters
    if not found < LARGEST_CORRECTION:
        raise ValueError(
            f"Argument `memory` must be 'dynamic' for {type(slow.equation.algorithm).__name__} at the learning rate "
            f"{float(slow.learning_rate):g}, but 'adiabatic' was given: its memory lasts longer than the parameters stay "
            f"where they are (what follows of their motion is {found:.3g} times the memory), and does not follow them. "
            "A smaller learning rate, or a memory that forgets faster, has a slow manifold."
        )


def _correction(slow, signal, params) -> float:
    return correction_of(_lengths(slow, signal, params))


@quick_jit(level=0)
def _lengths(slow, signal, params):
    settled, there = (slow.manifold(params, signal, order, count=jnp.zeros(())) for order in (1, 2))
    return moment_lengths(settled, there, params)


def moment_lengths(settled: PyTree, there: PyTree, params: PyTree) -> Float[Array, "2 moments"]:
    """Squared lengths of the moments in a memory where it has settled, and of what it has more where it is."""
    pairs = zip(jax.tree.leaves(settled), jax.tree.leaves(there), strict=True)
    lengths = [jnp.stack([jnp.sum(a**2), jnp.sum((b - a) ** 2)]) for a, b in pairs]
    if not lengths:
        return jnp.zeros((2, 0))
    found, leaves = jnp.stack(lengths), len(jax.tree.leaves(params))
    if len(found) % leaves == 0:  # moments like the parameters, one after another
        found = found.reshape(-1, leaves, 2).sum(1)
    return found.T


def correction_of(lengths: Float[Array, "2 moments"]) -> float:
    """How large the correction of a slow manifold is beside the memory, the most of all moments, by `moment_lengths`."""
    settled, off = np.sqrt(np.asarray(lengths, float))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(np.where(off == 0, 0, off / settled), initial=0.0))

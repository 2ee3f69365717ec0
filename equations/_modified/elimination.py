"""Whether the memory of an algorithm follows its parameters, so that it can be eliminated."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks.once import quick_jit, silent

_LARGEST = 1.0  # correction of a slow manifold, over the memory: beyond it there is none


def check_elimination(slow: Any, signal: Any, params: PyTree) -> None:
    """Raises a ValueError where at these parameters a `SlowManifold`'s correction is larger than the memory itself.

    So it is where a memory lasts longer than the parameters take to move: of an Adam of b2 = .999 at every usual rate.
    """
    if silent((slow, signal, params)):
        return
    found = _correction(slow, signal, params)  # in every call, for it moves with all hyperparameters
    if not found < _LARGEST:
        raise ValueError(
            f"Argument `memory` must be 'dynamic' for {type(slow.equation.algorithm).__name__} at the learning rate "
            f"{float(slow.learning_rate):g}, but 'adiabatic' was given: its memory lasts longer than the parameters stay "
            f"where they are (what follows of their motion is {found:.3g} times the memory), and does not follow them. "
            "A smaller learning rate, or a memory that forgets faster, has a slow manifold."
        )


def _correction(slow, signal, params) -> float:
    leaves = len(jax.tree.leaves(params))
    squares = np.asarray(_squares(slow, signal, params), float)
    if len(squares) % leaves == 0:  # moments like the parameters, one after another
        squares = squares.reshape(-1, leaves, 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sqrt(np.max(np.where(squares[:, 1] == 0, 0.0, squares[:, 1] / squares[:, 0]), initial=0.0)))


@quick_jit(level=0)
def _squares(slow, signal, params):
    """Of each average the squared length where it has settled, and of what the motion of the parameters adds, `(n, 2)`."""
    count = jnp.zeros(())
    first, second = (jax.tree.leaves(slow.manifold(params, signal, order, count=count)) for order in (1, 2))
    pairs = [jnp.stack([jnp.sum(a**2), jnp.sum((b - a) ** 2)]) for a, b in zip(first, second, strict=True)]
    return jnp.stack(pairs) if pairs else jnp.zeros((0, 2))

"""How stiff steps without stages were, from how the parameters move in each after the one before.

A mode that such a step multiplies by mu takes the parameters by mu times what they moved in the step before: beyond the
limit of stability ever farther to and fro, mu < -1. mu - 1 is then dt lambda, as of Euler's step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .quotient import no_quotient

# Of what is remembered a step later: with no more of it, moves that are noise go to and fro by chance, in one dimension
# without any momentum in five steps of 10^5, with less once in 300. With momentum .5 or .9 in none of 6 10^5.
_KEPT = 0.875
_KNOWN = 5.0  # moves, faded: eight in a row


class Trail(NamedTuple):
    """How the parameters moved in the last step, and sums over the last steps, fading: of the products of a move with the
    one before it, of the squares of the latter, and of ones."""

    move: PyTree
    products: Array
    squares: Array
    count: Array

    @classmethod
    def none(cls, params: PyTree) -> "Trail":
        zero = no_quotient(params)
        return cls(jax.tree.map(jnp.zeros_like, params), zero, zero, zero)

    def after(self, before: PyTree, params: PyTree) -> "Trail":
        """After a step from some parameters to others."""
        move = jax.tree.map(lambda a, b: jax.lax.stop_gradient(b - a), before, params)
        products, squares = (self._times(other) for other in (move, self.move))
        return Trail(move, _KEPT * self.products + products, _KEPT * self.squares + squares, _KEPT * self.count + 1)

    def _times(self, other: PyTree) -> Array:
        pairs = zip(jax.tree.leaves(self.move), jax.tree.leaves(other), strict=True)
        return sum((jnp.sum(a * b).astype(self.products.dtype) for a, b in pairs), jnp.zeros_like(self.products))

    @property
    def quotient(self) -> Array:
        """1 - mu, where the parameters moved often enough."""
        moved = (self.squares > 0) & (self.count > _KNOWN)
        return jnp.where(moved, 1 - self.products / jnp.where(moved, self.squares, 1), 0)

"""Standard normal numbers for the kicks, a function of the key and of the training step alone.

They do not depend on how often a run is recorded, and a run with more kicks per training step refines the same Brownian
motion: the kicks of step k add up to the same increment whatever their number. (VirtualBrownianTree does this for any
times, at 50 to 95 times the cost of a hand-written loop.)
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

# Small noise is drawn for several steps at once, which costs a third of drawing it step by step; the number of rows keeps
# a block within this many numbers per path.
_BLOCK = 128


class Brownian(eqx.Module):
    """The increments of one path's Brownian motion, as standard normals, `per_step` of them in a training step."""

    key: Array
    structure: PyTree[jax.ShapeDtypeStruct] = eqx.field(static=True)
    per_step: int = eqx.field(static=True)

    @property
    def rows(self) -> int:
        """Training steps in a block."""
        size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.structure))
        return max(1, min(64, _BLOCK // max(size, 1)))

    def whole(self, step: Array) -> PyTree:
        """The increment of a whole training step: leaves of the structure's shapes."""
        block = self._draw(step // self.rows, 0, ())
        return jax.tree.map(lambda leaf: leaf[step % self.rows], block)

    def block(self, index: Array) -> PyTree:
        """The increments of the training steps `index * rows, ...`: leaves `(rows, per_step, *shape)`."""
        whole = self._draw(index, 0, ())
        if self.per_step == 1:
            return jax.tree.map(lambda leaf: leaf[:, None], whole)
        # Independent normals whose mean over a step is replaced by that of the step: a Brownian bridge.
        fine = self._draw(index, 1, (self.per_step,))

        def refine(whole, fine):
            return fine - jnp.mean(fine, axis=1, keepdims=True) + whole[:, None] / self.per_step**0.5

        return jax.tree.map(refine, whole, fine)

    def _draw(self, index, stream, extra) -> PyTree:
        leaves, treedef = jax.tree.flatten(self.structure)
        key = (
            jax.random.fold_in(jax.random.fold_in(self.key, index), stream)
            if stream
            else (jax.random.fold_in(self.key, index))
        )
        keys = [key] if len(leaves) == 1 else jax.random.split(key, len(leaves))
        draws = [
            jax.random.normal(k, (self.rows, *extra, *leaf.shape), leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(treedef, draws)


class Increments(eqx.Module):
    """The increments that one call of Diffrax needs: a drawn block, or the Brownian motion if blocks hold one step."""

    brownian: Brownian
    drawn: PyTree | None
    first: Array

    def __call__(self, step: Array) -> PyTree:
        """Leaves `(per_step, *shape)` for a training step."""
        drawn = self.brownian.block(step) if self.drawn is None else self.drawn
        row = step - self.first if self.drawn is not None else 0
        return jax.tree.map(lambda leaf: leaf[row], drawn)

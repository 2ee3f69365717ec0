"""Standard normal numbers for the kicks, a function of the key and of the training step alone.

They do not depend on how often a run is recorded, and a run with more kicks per training step refines the same Brownian
motion: the kicks of step k add up to the same increment whatever their number. (VirtualBrownianTree does this for any
times, at 50 to 95 times the cost of a hand-written loop.)
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

# Small noise is drawn for several steps at once, which costs a third of drawing it step by step. A block holds at most so
# many numbers per path, leaf and kick, and so many steps: more gain nothing, and with 10^4 paths the block falls out of
# the cache.
_BLOCK = 128
_ROWS = 16
# One call of Diffrax makes at most this many substeps: its float32 clock loses steps beyond about 10^5.
_LONGEST = 10_000


def block_rows(structure: PyTree[jax.ShapeDtypeStruct], longest: int = _ROWS) -> int:
    """Training steps in a block of noise of this structure, at most `longest`."""
    size = max(math.prod(leaf.shape) for leaf in jax.tree.leaves(structure))
    return max(1, min(longest, _BLOCK // max(size, 1)))


def segments(rows: int, save_every: int, substeps: int) -> tuple[int, int]:
    """The training steps of one call of Diffrax at most, and how many calls make an interval between records, where blocks
    of noise have so many rows."""
    longest = max(1, min(save_every, _LONGEST // substeps, rows if rows > 1 else _LONGEST))
    if rows == 1:
        return longest, -(-save_every // longest)
    if rows > _LONGEST // substeps:  # and the calls within what belongs to a block
        return longest, -(-save_every // longest) + (save_every - 2) // rows + 2
    if rows % save_every == 0 or save_every % rows == 0:
        return longest, -(-save_every // rows)
    # At most so many blocks have steps in an interval; where there are fewer, segments are empty.
    return longest, (save_every - 2) // rows + 2


class Brownian(eqx.Module):
    """The increments of one path's Brownian motion, as standard normals, `per_step` of them in a training step.

    `shares`: the factors with which those of a substep add up to its own; None: all are equal.
    """

    key: Array
    structure: PyTree[jax.ShapeDtypeStruct] = eqx.field(static=True)
    per_step: int = eqx.field(static=True)
    longest: int = eqx.field(static=True, default=_ROWS)
    shares: tuple[float, ...] | None = eqx.field(static=True, default=None)

    @property
    def rows(self) -> int:
        """Training steps in a block."""
        return block_rows(self.structure, self.longest)

    def whole(self, step: Array) -> PyTree:
        """The increment of a whole training step: leaves of the structure's shapes."""
        block = self._draw(step // self.rows, 0, ())
        return jax.tree.map(lambda leaf: leaf[step % self.rows], block)

    def first_block(self) -> tuple[Array, PyTree] | None:
        """The first block with its index; None where blocks hold one step and are drawn when they are used."""
        index = jnp.zeros((), jnp.int32)
        return None if self.rows == 1 else (index, self.block(index))

    def read(self, step: Array, block: tuple | None) -> tuple["Increments", tuple | None, Array | None]:
        """The increments from a training step on, the block they come from, and the step where it ends (None: never)."""
        if block is None:
            return Increments(self, None, step), None, None
        index = step // self.rows
        drawn = jax.lax.cond(index == block[0], lambda: block[1], lambda: self.block(index))
        return Increments(self, drawn, index * self.rows), (index, drawn), (index + 1) * self.rows

    def block(self, index: Array) -> PyTree:
        """The increments of the training steps `index * rows, ...`: leaves `(rows, per_step, *shape)`."""
        whole = self._draw(index, 0, ())
        if self.per_step == 1:
            return jax.tree.map(lambda leaf: leaf[:, None], whole)
        if self.shares is not None:
            return self._shared(index, whole)
        # Independent normals whose mean over a step is replaced by that of the step: a Brownian bridge.
        fine = self._draw(index, 1, (self.per_step,))

        def refine(whole, fine):
            return fine - jnp.mean(fine, axis=1, keepdims=True) + whole[:, None] / self.per_step**0.5

        return jax.tree.map(refine, whole, fine)

    def _shared(self, index: Array, whole: PyTree) -> PyTree:
        """The same where the normals have unequal shares in the increment of the step, which stays what it is."""
        count = self.per_step // len(self.shares or ())
        unit = np.tile(np.asarray(self.shares), count) / count**0.5
        if self.per_step == 2:  # one draw more: what is perpendicular to that of the step
            frame = np.stack([unit, [-unit[1], unit[0]]], axis=1)
            return jax.tree.map(
                lambda *pair: jnp.einsum("kj,jr...->rk...", jnp.asarray(frame, pair[0].dtype), jnp.stack(pair)),
                whole,
                self._draw(index, 1, ()),
            )

        def refine(whole, fine):
            units = jnp.asarray(unit, whole.dtype).reshape(-1, *[1] * (whole.ndim - 1))
            return fine + units * (whole - jnp.sum(units * fine, axis=1))[:, None]

        return jax.tree.map(refine, whole, self._draw(index, 1, (self.per_step,)))

    def _draw(self, index: Array, stream: int, extra: tuple[int, ...]) -> PyTree:
        """The normals of a block: leaves `(rows, *extra, *shape)`; streams are independent."""
        key = jax.random.fold_in(self.key, index)
        key = jax.random.fold_in(key, stream) if stream else key
        leaves, treedef = jax.tree.flatten(self.structure)
        # The first leaf has the key to itself, so that it does not depend on what is drawn beside it.
        keys = [key if place == 0 else jax.random.fold_in(key, 1 + place) for place in range(len(leaves))]
        draws = [
            jax.random.normal(key, (self.rows, *extra, *leaf.shape), leaf.dtype)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(treedef, draws)


class Increments(eqx.Module):
    """The increments that one call of Diffrax needs: a drawn block, or the Brownian motion if blocks hold one step."""

    brownian: Brownian
    drawn: PyTree | None
    first: Array

    def __call__(self, step: Array) -> PyTree:
        """Leaves `(per_step, *shape)` for a training step."""
        if self.drawn is None:
            return jax.tree.map(lambda leaf: leaf[0], self.brownian.block(step))
        return jax.tree.map(lambda leaf: leaf[step - self.first], self.drawn)

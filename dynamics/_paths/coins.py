"""Two- and three-point numbers in place of normal ones, many from one random word."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .brownian import block_rows
from .lanes import row

# Bits of a word for one number. A third of 2^16 is no integer: the values make up for it, so that the variance is one and
# the fourth moment is 3 (1 - 3e-5).
BITS = {"two-point": 1, "three-point": 16}
_THIRD = 10_923
_WORD = 32


class Coins(eqx.Module):
    r"""Independent numbers of mean 0 and variance 1 for the kicks of one path, `per_step` of them in a training step.

    Two-point ones are -1 and 1, with the moments of a normal number up to the third: for weak first order. Three-point ones
    are 0 with probability 2/3 and else -sqrt 3 or sqrt 3, with moments up to the fifth: for weak second order (Kloeden and
    Platen 1992, sections 14.1 and 14.2; Milstein and Tretyakov 2004, section 2.1). They stand for a `Brownian` in a path: a
    function of the key and of the training step alone. Those of other `per_step` are others.

    **Arguments:** `law`, `"two-point"` or `"three-point"`; the others as of `Brownian`.
    """

    key: Array
    structure: PyTree[jax.ShapeDtypeStruct] = eqx.field(static=True)
    per_step: int = eqx.field(static=True)
    law: str = eqx.field(static=True)

    @property
    def per_word(self) -> int:
        """Training steps that one word serves."""
        return _WORD // BITS[self.law]

    @property
    def words(self) -> int:
        """Words of a block for one number."""
        return block_rows(self.structure)

    @property
    def rows(self) -> int:
        """Training steps in one call of Diffrax: one word of two-point numbers, or all of a block."""
        return self.per_word * (1 if self.law == "two-point" else self.words)

    def first_block(self) -> tuple[Array, PyTree]:
        """The first block with its index."""
        index = jnp.zeros((), jnp.int32)
        return index, self.block(index)

    def read(self, step: Array, block: tuple) -> tuple["Tosses", tuple, Array]:
        """The numbers from a training step on, the block they come from, and the step where they end."""
        index = step // (self.per_word * self.words)
        words = jax.lax.cond(index == block[0], lambda: block[1], lambda: self.block(index))
        first, here = step // self.rows * self.rows, words
        if self.rows == self.per_word:
            here = jax.tree.map(lambda leaf: leaf[(step // self.rows % self.words)[None]], words)
        return Tosses(self, here, first), (index, words), first + self.rows

    def block(self, index: Array) -> PyTree:
        """All words of a block: leaves `(words, per_step, *shape)` of 32 bits."""
        key = jax.random.fold_in(self.key, index)
        leaves, treedef = jax.tree.flatten(self.structure)
        keys = [key if place == 0 else jax.random.fold_in(key, 1 + place) for place in range(len(leaves))]
        words = [
            jax.random.bits(key, (self.words, self.per_step, *leaf.shape), jnp.uint32)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(treedef, words)

    def number(self, words: Array, place: Array, dtype: Any) -> Array:
        """The numbers of one place in words."""
        bits = BITS[self.law]
        piece = (words >> (bits * place).astype(words.dtype)) & jnp.asarray(2**bits - 1, words.dtype)
        if bits == 1:
            return (1 - 2 * piece.astype(jnp.int32)).astype(dtype)
        size = (2**bits / (2 * _THIRD)) ** 0.5
        sign = (piece < _THIRD).astype(jnp.int32) - (piece >= 2**bits - _THIRD).astype(jnp.int32)
        return size * sign.astype(dtype)


class Tosses(eqx.Module):
    """The numbers that one call of Diffrax needs, still in their words."""

    coins: Coins
    words: PyTree
    first: Array

    def __call__(self, step: Array) -> PyTree:
        """Leaves `(per_step, *shape)` for a training step."""
        per, here = self.coins.per_word, step - self.first

        def number(words, leaf):
            return self.coins.number(row(words, here // per), here % per, leaf.dtype)

        return jax.tree.map(number, self.words, self.coins.structure)

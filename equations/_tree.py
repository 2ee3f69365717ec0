"""Arithmetic on PyTrees that share a structure."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree


def add_scaled(state: PyTree, *terms: tuple[ArrayLike, PyTree]) -> PyTree:
    """state + sum of factor * tree over pairs (factor, tree), in the state's dtypes."""

    def leaf(y, *trees):
        return (y + sum(factor * x for (factor, _), x in zip(terms, trees, strict=True))).astype(y.dtype)

    return jax.tree.map(leaf, state, *(tree for _, tree in terms))


def scaled_sum(*terms: tuple[Any, PyTree]) -> PyTree:
    """The sum of factor * tree over pairs (factor, tree)."""
    factors, trees = zip(*terms, strict=True)
    return jax.tree.map(lambda *leaves: sum(f * leaf for f, leaf in zip(factors, leaves, strict=True)), *trees)


def zeros_of(structure: PyTree) -> PyTree[Array]:
    """Zeros of the shapes and dtypes of a PyTree of arrays or of `jax.ShapeDtypeStruct`."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), structure)


def normals_of(structure: PyTree, key: Array) -> PyTree:
    """Independent standard normal numbers of these shapes and dtypes."""
    leaves, treedef = jax.tree.flatten(structure)
    keys = jax.random.split(key, max(1, len(leaves)))
    drawn = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=False)]
    return jax.tree.unflatten(treedef, drawn)

"""Leaves that nothing moves: taken out of the parameters at the front door."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from equations.internal import is_parameter, is_traced


def check_frozen(frozen: Any, params: PyTree) -> PyTree[bool]:
    """Like `params`: True for a leaf that is to stay.

    **Arguments:** `frozen`: a function that gives what is to stay of the parameters, one of their nodes or a tuple of them,
    as of `equinox.tree_at`; or a tree of bools, which may stand for whole branches.

    **Raises:** TypeError or ValueError, naming `frozen`.
    """
    if callable(frozen) and not isinstance(frozen, eqx.Module):
        try:
            mask = _selected(frozen, params)
        except Exception as error:
            raise ValueError(
                "Argument `frozen` must give what is to stay of the parameters, such as lambda net: net.embedding, but it "
                f"fails: {type(error).__name__}: {error}"
            ) from error
    else:
        if not all(_is_bool(leaf) for leaf in jax.tree.leaves(frozen)):
            raise TypeError(
                "Argument `frozen` must be a function of the parameters, a tree of bools like them or None, but "
                f"{frozen!r} was given."
            )
        try:
            mask = jax.tree.map(lambda stays, part: jax.tree.map(lambda leaf: bool(stays), part), frozen, params)
        except ValueError as error:
            raise ValueError(
                f"Argument `frozen` must be a tree of bools that branches as `params` do, but {frozen!r} was given: {error}"
            ) from error
    stays = [stays for stays, leaf in zip(*map(jax.tree.leaves, (mask, params)), strict=True) if is_parameter(leaf)]
    if all(stays) or not any(stays):
        which = "all" if all(stays) else "none"
        raise ValueError(
            f"Argument `frozen` must keep some of the arrays of `params` and leave others, but it keeps {which} of them."
        )
    return mask


def _is_bool(leaf: Any) -> bool:
    """Whether a leaf is True or False, known, in any library's words."""
    if isinstance(leaf, jax.Array):
        return not is_traced(leaf) and leaf.shape == () and leaf.dtype == bool
    return isinstance(leaf, bool | np.bool_) or (
        isinstance(leaf, np.ndarray) and (leaf.shape, leaf.dtype) == ((), bool)
    )


def _selected(frozen: Any, params: PyTree) -> PyTree[bool]:
    """What a function marks: the nodes that it gives, or the leaves of which it says True."""
    try:
        given = frozen(params)
    except Exception as error:  # a filter may ask leaves for what the whole has not
        if not all(map(_is_bool, jax.tree.leaves(_filtered(frozen, params, error)))):
            raise
        given = True
    if not _is_bool(given):
        nothing = jax.tree.map(lambda leaf: False, params)
        return eqx.tree_at(frozen, nothing, replace_fn=lambda node: jax.tree.map(lambda leaf: True, node))
    mask = jax.tree.map(frozen, params)
    if not all(map(_is_bool, jax.tree.leaves(mask))):
        raise TypeError("as a filter it must say True or False of every leaf.")
    return jax.tree.map(bool, mask)


def _filtered(frozen: Any, params: PyTree, error: Exception) -> PyTree:
    """What a function says of every leaf; where it says nothing, the error with which it failed on the whole."""
    try:
        return jax.tree.map(frozen, params)
    except Exception:
        raise error from None


def on_all_paths(stays: PyTree, paths: int) -> PyTree:
    """What stays, its arrays with a leading axis of paths."""

    def leaf(x):
        return jnp.broadcast_to(x, (paths, *x.shape)) if is_parameter(x) else x

    return jax.tree.map(leaf, stays)


def which_stay(stays: PyTree, whole: PyTree) -> tuple[bool, ...] | None:
    """Which leaves of the whole stay; None where none does."""
    if not jax.tree.leaves(stays):
        return None
    return tuple(jax.tree.leaves(jax.tree.map(lambda leaf, own: own is not None, whole, stays)))

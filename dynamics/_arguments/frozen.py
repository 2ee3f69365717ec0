"""Leaves that nothing moves: taken out of the parameters at the front door."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from equations.internal import is_parameter


def check_frozen(frozen: Any, params: PyTree) -> PyTree[bool]:
    """Like `params`: True for a leaf that is to stay.

    **Arguments:** `frozen`: a function that gives what is to stay of the parameters, one of their nodes or a tuple of them,
    as of `equinox.tree_at`; or a tree of bools, which may stand for whole branches.

    **Raises:** TypeError or ValueError, naming `frozen`.
    """
    if callable(frozen) and not isinstance(frozen, eqx.Module):
        nothing = jax.tree.map(lambda leaf: False, params)
        try:
            mask = eqx.tree_at(frozen, nothing, replace_fn=lambda node: jax.tree.map(lambda leaf: True, node))
        except Exception as error:
            raise ValueError(
                "Argument `frozen` must give what is to stay of the parameters, such as lambda net: net.embedding, but it "
                f"fails: {type(error).__name__}: {error}"
            ) from error
    else:
        if not all(isinstance(leaf, bool) for leaf in jax.tree.leaves(frozen)):
            raise TypeError(
                "Argument `frozen` must be a function of the parameters, a tree of bools like them or None, but "
                f"{frozen!r} was given."
            )
        try:
            mask = jax.tree.map(lambda stays, part: jax.tree.map(lambda leaf: stays, part), frozen, params)
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

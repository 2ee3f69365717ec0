"""Parameters of its own for every path."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from equations.internal import integer, is_parameter, is_traced


def first_of_all(params: PyTree) -> tuple[PyTree, PyTree]:
    """The parameters of the first path, by which those of all are checked, and those of all.

    **Raises:** ValueError, naming `params`.
    """
    every = jax.tree.map(lambda leaf: jnp.asarray(leaf) if is_parameter(leaf) else leaf, params)
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(every) if is_parameter(leaf)}
    if len(sizes) != 1 or () in sizes or (0,) in sizes:
        raise ValueError(
            "Argument `params` must hold arrays with one leading axis `paths` where `per_path` is True, but they begin "
            f"with {sorted(sizes)}."
        )
    if not all(_is_finite(leaf) for leaf in jax.tree.leaves(every)):
        raise ValueError("Argument `params` must be finite, but holds NaN or infinity for some path.")
    return jax.tree.map(lambda leaf: leaf[0] if is_parameter(leaf) else leaf, every), every


def _is_finite(leaf: Any) -> bool:
    """Whether a leaf is known to be finite, is not known, or is no array."""
    return not eqx.is_array(leaf) or is_traced(leaf) or bool(jnp.all(jnp.isfinite(leaf)))


def of_all(every: PyTree, dynamic: PyTree, stays: PyTree) -> PyTree:
    """What of the parameters of all paths is trained, like `dynamic`.

    **Raises:** ValueError, naming `frozen`: what stays is one for all paths.
    """
    if jax.tree.leaves(eqx.filter(stays, is_parameter)):
        raise ValueError(
            "Argument `frozen` must be None where `per_path` is True, since what stays is one for all paths."
        )
    return jax.tree.map(lambda leaf, own: None if own is None else leaf, every, dynamic)


def paths_of(every: PyTree, paths: Any) -> int:
    """The number of paths, which may be left out.

    **Raises:** TypeError or ValueError, naming `paths`.
    """
    own = jax.tree.leaves(every)[0].shape[0]
    if paths is not None and integer("paths", paths) != own:
        raise ValueError(
            f"Argument `paths` must be left out, or be the leading axis of `params`, {own}, but {paths!r} was given."
        )
    return own

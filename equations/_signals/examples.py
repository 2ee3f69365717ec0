"""The examples of a signal: arrays with a common leading axis, checked."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks.arguments import leaf_name
from .._checks.once import is_traced, silent
from .sources import Sampled, held, is_elsewhere, sampled, source_of


def checked_examples(data: PyTree, argument: str = "data") -> PyTree:
    """The data as arrays with a common leading axis, checked; `argument` is what the user calls it."""
    data = sampled(data)
    source = source_of(data)
    if source is not None:
        return Sampled(checked_examples(held(data), argument), source)
    leaves = jax.tree_util.tree_leaves_with_path(data)
    if not leaves:
        raise ValueError(f"Argument `{argument}` must hold at least one array, but {data!r} was given.")
    sizes = {}
    for path, leaf in leaves:
        name = leaf_name(argument, path)
        if not (eqx.is_array_like(leaf) and np.ndim(leaf) >= 1):
            elsewhere = " (equations.Stored takes arrays that are not in memory)" if is_elsewhere(leaf) else ""
            raise TypeError(
                f"Argument `{argument}` must hold arrays whose leading axis counts the examples, but {name} is {leaf!r}"
                f"{elsewhere}."
            )
        sizes[name] = np.shape(leaf)[0]
    if len(set(sizes.values())) > 1:
        given = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(f"Argument `{argument}` must have the same number of examples in every leaf, but {given}.")
    if not all(sizes.values()):
        raise ValueError(f"Argument `{argument}` must hold at least one example, but its leading axis has length 0.")

    def convert(path, leaf):
        name = leaf_name(argument, path)
        wording = f"Argument `{argument}` must be finite, but {name} holds NaN or infinity."
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) or isinstance(leaf, np.ma.MaskedArray):
            kind = "is a masked array" if isinstance(leaf, np.ma.MaskedArray) else f"has dtype {leaf.dtype}"
            raise TypeError(f"Argument `{argument}` must hold plain arrays of numbers, but {name} {kind}.")
        if is_traced(leaf):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact) or silent():
                return leaf
            return eqx.error_if(leaf, ~jnp.all(jnp.isfinite(leaf)), wording)
        if not (np.issubdtype(leaf.dtype, np.number) or leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.inexact)):
            raise TypeError(f"Argument `{argument}` must hold numbers, but {name} has dtype {leaf.dtype}.")
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.all(np.isfinite(leaf)):
            raise ValueError(wording)
        try:
            with np.errstate(over="ignore"):
                array = jnp.asarray(leaf)
        except TypeError:  # a time span, a quadruple
            raise TypeError(
                f"Argument `{argument}` must hold numbers of a type that JAX knows, but {name} has dtype {leaf.dtype}."
            ) from None
        if array.dtype == leaf.dtype:
            return array
        # Without 64 bits JAX halves what has them, and says nothing of a number that is lost.
        inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
        kept = np.isfinite(array) if inexact else np.equal(array, leaf)
        if not np.all(kept):
            lost = np.asarray(leaf)[~np.asarray(kept)][0]
            raise ValueError(f"Argument `{argument}` must fit {array.dtype}, but {name} holds {lost}.")
        return array

    return jax.tree_util.tree_map_with_path(convert, data)

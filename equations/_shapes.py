"""Shapes and dtypes of what a function returns, without computing it; remembered, since every run asks again."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import PyTree


def abstract_value(function: Callable, *args: PyTree) -> PyTree[jax.ShapeDtypeStruct]:
    """What `function(*args)` returns, abstractly. Whatever is no array in `args` is passed as it is.

    Remembered by the function, the shapes and dtypes of the arrays and the values of everything else: give a function that
    is defined once, not a closure made for the call. What cannot be hashed is traced anew. As for jit, a function that
    changes what it does without changing its identity (by a global it reads, say) is not noticed.
    """
    arrays, rest = eqx.partition(args, eqx.is_array)
    leaves, treedef = jax.tree.flatten(arrays)
    structs = tuple(
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=jax.typeof(leaf).weak_type) for leaf in leaves
    )
    rest_leaves, rest_treedef = jax.tree.flatten(rest)
    key = (function, structs, treedef, tuple(rest_leaves), rest_treedef)
    try:
        hash(key)
    except TypeError:
        return _evaluate(*key)
    # Values that are equal but of different type (1, 1.0, True) are not the same.
    return _remembered(tuple(map(type, rest_leaves)), *key)


def _evaluate(function, structs, treedef, rest_leaves, rest_treedef):
    rest = jax.tree.unflatten(rest_treedef, rest_leaves)

    def call(leaves):
        return function(*eqx.combine(jax.tree.unflatten(treedef, leaves), rest))

    return jax.eval_shape(call, list(structs))


@functools.lru_cache(maxsize=256)
def _remembered(types, *key):
    return _evaluate(*key)

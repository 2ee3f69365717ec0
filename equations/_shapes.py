"""What a function returns, without compiling it: its shapes and dtypes, or all of it where nothing is computed; remembered,
since every run asks again."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from ._jaxpr.interpreter import CALLS, interpret


def abstract_value(function: Callable, *args: PyTree) -> PyTree[jax.ShapeDtypeStruct]:
    """What `function(*args)` returns, abstractly. Whatever is no array in `args` is passed as it is.

    Remembered by the function, the shapes and dtypes of the arrays and the values of everything else: give a function that
    is defined once, not a closure made for the call. What cannot be hashed is traced anew. As for jit, a function that
    changes what it does without changing its identity (by a global it reads, say) is not noticed.
    """
    return _once(_evaluate, function, args)[0]


def filled_value(function: Callable, *args: PyTree) -> PyTree | None:
    """What `function(*args)` returns, by NumPy, where it does no more than hand arrays on and fill others with constants.

    So does an `init` with an empty memory. None where it computes. Remembered as `abstract_value` is.
    """
    (plan, treedef), leaves = _once(_planned, function, args)
    if plan is None:
        return None
    found = [leaves[one] if isinstance(one, int) else np.full(one.shape, one.value, one.dtype) for one in plan]
    return jax.tree.unflatten(treedef, found)


def _once(evaluate: Callable, function: Callable, args: tuple) -> tuple[Any, list]:
    """What `evaluate` makes of a function and the structure of its arguments, and the arrays in these."""
    arrays, rest = eqx.partition(args, eqx.is_array)
    leaves, treedef = jax.tree.flatten(arrays)
    structs = tuple(
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=jax.typeof(leaf).weak_type) for leaf in leaves
    )
    rest_leaves, rest_treedef = jax.tree.flatten(rest)
    key = (evaluate, function, structs, treedef, tuple(rest_leaves), rest_treedef)
    try:
        hash(key)
    except TypeError:
        return evaluate(*_call(*key[1:])), leaves
    # Values that are equal but of different type (1, 1.0, True) are not the same.
    return _remembered(tuple(map(type, rest_leaves)), *key), leaves


def _call(function, structs, treedef, rest_leaves, rest_treedef):
    rest = jax.tree.unflatten(rest_treedef, rest_leaves)

    def call(leaves):
        return function(*eqx.combine(jax.tree.unflatten(treedef, leaves), rest))

    return call, list(structs)


@functools.lru_cache(maxsize=256)
def _remembered(types, evaluate, *key):
    return evaluate(*_call(*key))


def _evaluate(call, structs):
    return jax.eval_shape(call, structs)


class _Constant(NamedTuple):
    value: Any
    shape: tuple[int, ...]
    dtype: Any


class _Computes(Exception):
    """Raised where more is done than handing on and filling."""


def _planned(call, structs):
    """For each array that is returned the place of the argument that it is, or the constant that it is filled with."""
    closed, shapes = jax.make_jaxpr(call, return_shape=True)(structs)
    try:
        plan = interpret(closed, list(range(len(structs))), _rule, _lifted)
    except _Computes:
        return None, None
    return plan, jax.tree.structure(shapes)


def _lifted(value):
    if np.ndim(value) or jax.numpy.issubdtype(jax.numpy.result_type(value), jax.dtypes.extended):
        raise _Computes
    return _Constant(np.asarray(value)[()], (), jax.numpy.result_type(value))


def _rule(eqn, values):
    name = eqn.primitive.name
    if name in CALLS:
        return None
    if name == "copy":
        return values
    (aval,) = [var.aval for var in eqn.outvars] if len(eqn.outvars) == 1 else (None,)
    known = len(values) == 1 and not isinstance(values[0], int)
    if aval is None or not known or name not in ("broadcast_in_dim", "convert_element_type"):
        raise _Computes
    return [_Constant(values[0].value, aval.shape, aval.dtype)]

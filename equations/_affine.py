"""Whether a function is affine in its argument, does not depend on it, or is even in it, decided from its jaxpr."""

from collections.abc import Callable

import jax
import jax.extend.core
import jax.numpy as jnp
from jaxtyping import PyTree

_LINEAR = {
    "add", "sub", "neg", "add_any", "copy", "copy_p", "convert_element_type", "reshape", "broadcast_in_dim", "transpose",
    "squeeze", "expand_dims", "reduce_sum", "slice", "split", "concatenate", "pad", "rev", "cumsum", "real",
}  # fmt: skip
_LINEAR_IN_FIRST = {"div", "dynamic_slice", "gather", "reduce_precision"}
_BILINEAR = {"mul", "dot_general"}
_EVEN_OF_ODD = {"abs", "square"}
_CALLS = {"jit", "pjit", "closed_call", "core_call"}


# How a value depends on the argument: not at all, affinely, or otherwise as far as is known.
_FREE, _AFFINE, _OTHER = range(3)
# The same for parity.
_EVEN, _ODD = 1, 3


def _propagate(rule: Callable, jaxpr, inputs: list[int]) -> list[int]:
    """The marks of a jaxpr's outputs, given those of its inputs; `rule(eqn, marks)` is that of what one equation gives."""
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(atom):
        return _FREE if isinstance(atom, jax.extend.core.Literal) else known.get(atom, _FREE)

    for eqn in jaxpr.eqns:
        marks = [of(atom) for atom in eqn.invars]
        if not any(marks):
            continue
        if eqn.primitive.name in _CALLS:
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            outputs = _propagate(rule, getattr(inner, "jaxpr", inner), marks)
        else:
            outputs = [rule(eqn, marks)] * len(eqn.outvars)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [of(atom) for atom in jaxpr.outvars]


def _dependence(eqn, marks: list[int]) -> int:
    name = eqn.primitive.name
    if name in _LINEAR:
        # A cast to integers rounds.
        linear = all(jnp.issubdtype(var.aval.dtype, jnp.inexact) for var in eqn.outvars)
    elif name in _LINEAR_IN_FIRST:
        linear = not any(marks[1:])
    elif name == "select_n":
        linear = not marks[0]
    else:
        linear = name in _BILINEAR and not all(marks)
    return max(marks) if linear else _OTHER


def _parity(eqn, marks: list[int]) -> int:
    name = eqn.primitive.name
    if not set(marks) - {_FREE, _EVEN}:
        return _EVEN  # whatever is done to what does not see the sign
    if _OTHER in marks:
        return _OTHER
    if name in _BILINEAR | {"div"}:
        return _ODD if marks.count(_ODD) == 1 else _EVEN
    if name in {"abs", "square"} or (name == "integer_pow" and eqn.params["y"] % 2 == 0):
        return _EVEN
    return _ODD if name in _LINEAR and set(marks) == {_ODD} else _OTHER


def _gain(eqn, marks: list[int]) -> int:
    name, known = eqn.primitive.name, set(marks) - {_FREE}
    itself = name == "mul" and eqn.invars[0] is eqn.invars[1]
    if name in _EVEN_OF_ODD or itself or (name == "integer_pow" and eqn.params["y"] % 2 == 0):
        return _EVEN
    keeps = name in _LINEAR | {"mul", "div", "max", "select_n"}
    return _EVEN if known == {_EVEN} and keeps else _OTHER


def is_affine(function: Callable, argument: PyTree) -> bool:
    """Whether `function` is provably affine in `argument`; only shapes and dtypes of the argument matter.

    Conservative: primitives that are not known to be linear (a loop, a square root, a sign) count as not affine.
    """
    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    return _OTHER not in _propagate(_dependence, jaxpr, [_AFFINE] * len(jaxpr.invars))


def is_free(function: Callable, argument: PyTree) -> bool:
    """Whether `function` provably does not depend on `argument`."""
    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    return not any(_propagate(_dependence, jaxpr, [_AFFINE] * len(jaxpr.invars)))


def is_even(function: Callable, argument: PyTree) -> PyTree:
    """Which leaves of the function's value provably depend on `argument`, but not on its sign."""
    return jax.tree.map(lambda mark: mark == 1, squares(function, argument))


def squares(function: Callable, argument: PyTree) -> PyTree[int]:
    """For every leaf of the function's value 1 if it provably depends on `argument`, but not on its sign; 2 if it sees it
    through other squares only, such as that of a deviation from a mean; 0 for all others.

    Squares are added, with factors that do not depend on the argument; the signs of these are not looked at.
    """
    jaxpr, value = jax.make_jaxpr(function, return_shape=True)(argument)
    inputs = len(jaxpr.jaxpr.invars)
    even = _propagate(_parity, jaxpr.jaxpr, [_ODD] * inputs)
    gain = _propagate(_gain, jaxpr.jaxpr, [_OTHER] * inputs)
    marks = [1 if e == _EVEN else 2 if g == _EVEN else 0 for e, g in zip(even, gain, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(value), marks)

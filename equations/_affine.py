"""Whether a function is affine in its argument, decided from its jaxpr."""

from collections.abc import Callable

import jax
import jax.extend.core
import jax.numpy as jnp
from jaxtyping import PyTree

_LINEAR = {
    "add", "sub", "neg", "add_any", "copy", "copy_p", "convert_element_type", "reshape", "broadcast_in_dim", "transpose",
    "squeeze", "expand_dims", "reduce_sum", "slice", "concatenate", "pad", "rev", "cumsum", "real",
}  # fmt: skip
_LINEAR_IN_FIRST = {"div", "dynamic_slice", "gather", "reduce_precision"}
_BILINEAR = {"mul", "dot_general"}
_CALLS = {"jit", "pjit", "closed_call", "core_call"}


def _affine_jaxpr(jaxpr, depends: list[bool]) -> list[bool] | None:
    """Which outputs depend on the marked inputs, or None if one might do so other than affinely."""
    marked = {var for var, mark in zip(jaxpr.invars, depends, strict=True) if mark}

    def is_marked(atom):
        return not isinstance(atom, jax.extend.core.Literal) and atom in marked

    for eqn in jaxpr.eqns:
        marks = [is_marked(atom) for atom in eqn.invars]
        if not any(marks):
            continue
        name = eqn.primitive.name
        outputs = [True] * len(eqn.outvars)
        if name in _LINEAR:
            if not all(jnp.issubdtype(var.aval.dtype, jnp.inexact) for var in eqn.outvars):
                return None  # a cast to integers rounds
        elif name in _LINEAR_IN_FIRST or name == "select_n":
            where = marks[1:] if name in _LINEAR_IN_FIRST else marks[:1]
            if any(where):
                return None
        elif name in _BILINEAR:
            if all(marks):
                return None
        elif name in _CALLS:
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            outputs = _affine_jaxpr(getattr(inner, "jaxpr", inner), marks)
            if outputs is None:
                return None
        else:
            return None
        marked.update(var for var, mark in zip(eqn.outvars, outputs, strict=True) if mark)
    return [is_marked(atom) for atom in jaxpr.outvars]


def is_affine(function: Callable, argument: PyTree) -> bool:
    """Whether `function` is provably affine in `argument`; only shapes and dtypes of the argument matter.

    Conservative: primitives that are not known to be linear (a loop, a square root, a sign) count as not affine.
    """
    closed = jax.make_jaxpr(function)(argument)
    return _affine_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.invars)) is not None

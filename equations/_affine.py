"""Whether a function is affine in its argument, decided from its jaxpr."""

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
_CALLS = {"jit", "pjit", "closed_call", "core_call"}


# How a value depends on the argument: not at all, affinely, or otherwise as far as is known.
_FREE, _AFFINE, _OTHER = range(3)


def _dependence(jaxpr, inputs: list[int]) -> list[int]:
    """How the outputs of a jaxpr depend on the argument, given how its inputs do."""
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(atom):
        return _FREE if isinstance(atom, jax.extend.core.Literal) else known.get(atom, _FREE)

    for eqn in jaxpr.eqns:
        marks = [of(atom) for atom in eqn.invars]
        if not any(marks):
            continue
        name = eqn.primitive.name
        outputs = [max(marks)] * len(eqn.outvars)
        if name in _LINEAR:
            # A cast to integers rounds.
            linear = all(jnp.issubdtype(var.aval.dtype, jnp.inexact) for var in eqn.outvars)
        elif name in _LINEAR_IN_FIRST:
            linear = not any(marks[1:])
        elif name == "select_n":
            linear = not marks[0]
        elif name in _BILINEAR:
            linear = not all(marks)
        elif name in _CALLS:
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            outputs, linear = _dependence(getattr(inner, "jaxpr", inner), marks), True
        else:
            linear = False
        known.update(zip(eqn.outvars, outputs if linear else [_OTHER] * len(outputs), strict=True))
    return [of(atom) for atom in jaxpr.outvars]


def is_affine(function: Callable, argument: PyTree) -> bool:
    """Whether `function` is provably affine in `argument`; only shapes and dtypes of the argument matter.

    Conservative: primitives that are not known to be linear (a loop, a square root, a sign) count as not affine.
    """
    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    return _OTHER not in _dependence(jaxpr, [_AFFINE] * len(jaxpr.invars))


def is_free(function: Callable, argument: PyTree) -> bool:
    """Whether `function` provably does not depend on `argument`."""
    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    return not any(_dependence(jaxpr, [_AFFINE] * len(jaxpr.invars)))

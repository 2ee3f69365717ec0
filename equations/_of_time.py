"""What a function makes of its time alone, before anything else meets it: a rate, a condition, a phase."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._affine import _CALLS
from ._bind import bound


class _Value(NamedTuple):
    """A value, known where no data are in it, and whether time is."""

    value: Any = None
    timed: bool = False
    data: bool = False


def of_time(function: Callable, time: Array, *data: PyTree) -> Callable[[Array], tuple[Array, ...]]:
    """The numbers in `function(time, *data)` that are functions of time alone and meet data next, one for each array.

    However large the data are, these are cheap. An array counts as one number, a sum of its own with fixed weights.
    """
    closed = jax.make_jaxpr(function)(time, *data)

    def read(time):
        met: list = []
        inputs = [_Value(time, timed=True)] + [_Value(data=True)] * (len(closed.jaxpr.invars) - 1)
        outputs = _follow(closed.jaxpr, closed.consts, inputs, met)
        met += [out.value for out in outputs if out.timed and not out.data]
        return tuple(map(_number, met))

    return read


def _number(value: Array) -> Array:
    flat = jnp.ravel(value).astype(float)
    return jnp.dot(flat, jnp.cos(1.0 + jnp.arange(flat.size, dtype=flat.dtype)))


def _follow(jaxpr, constants, arguments: list[_Value], met: list) -> list[_Value]:
    known = dict(zip(jaxpr.constvars, map(_Value, constants), strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(atom):
        return _Value(atom.val) if isinstance(atom, jax.extend.core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr")) if eqn.primitive.name in _CALLS else None
        if not any(value.data for value in values):
            timed = any(value.timed for value in values)
            results = [_Value(result, timed) for result in bound(eqn, [value.value for value in values])]
        elif inner is not None:
            results = _follow(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), values, met)
        else:
            met += [value.value for value in values if value.timed and not value.data]
            results = [_Value(data=True)] * len(eqn.outvars)
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

"""What a function makes of its time alone, before anything else meets it: a rate, a condition, a phase."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .interpreter import bound, called, interpret


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
        outputs = interpret(closed, inputs, _rule(met), _Value)
        met += [out.value for out in outputs if out.timed and not out.data]
        return tuple(map(_number, met))

    return read


def _number(value: Array) -> Array:
    flat = jnp.ravel(value).astype(float)
    return jnp.dot(flat, jnp.cos(1.0 + jnp.arange(flat.size, dtype=flat.dtype)))


def _rule(met: list):
    """What an equation does to values; what is of time alone and meets data is added to `met`."""

    def rule(eqn, values):
        if not any(value.data for value in values):
            timed = any(value.timed for value in values)
            return [_Value(result, timed) for result in bound(eqn, [value.value for value in values])]
        if called(eqn) is not None:
            return None
        met.extend(value.value for value in values if value.timed and not value.data)
        return [_Value(data=True)] * len(eqn.outvars)

    return rule

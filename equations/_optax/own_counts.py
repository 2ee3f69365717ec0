"""Counts in an optimizer's memory that nobody has said to be a schedule's: whether they act as one."""

from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks.once import is_traced
from .._counts import schedule_counts
from .._jaxpr.interpreter import called, interpret
from .._shapes import abstract_value

# How a number depends on a count: not at all; it is one, but for a constant; b^k; of 1 - b^k alone; otherwise.
_NONE, _COUNT, _POWER, _CORRECTION, _OTHER = range(5)
_COPIES = {"convert_element_type", "copy", "copy_p", "broadcast_in_dim", "reshape", "squeeze"}
_MOVES = _COPIES | {"add", "sub", "min", "max", "select_n", "add_any"}
_COMPARES = {"lt", "le", "gt", "ge", "eq", "ne"}
_NEVER = 2**20  # a count is compared to so many only to keep it from overflowing
# Optax's own states whose counts act otherwise than by corrections though they are no schedules: the rectified Adam's, the
# decay rates of Adafactor, the averages of schedule-free methods, the weights of Madgrad; and what gathers gradients.
_KNOWN = (
    "ScaleByAdamState", "FactoredState", "ScheduleFreeState", "MadgradState", "ApplyEvery", "MultiStepsState", "SAMState",
)  # fmt: skip


class _Value(NamedTuple):
    """A number, its kind of dependence on a count, and whether the gradient, parameters or the rest of memory are in it."""

    value: Any = None
    kind: int = _NONE
    data: bool = False


def acts_as_schedule(equation: Any, params: PyTree) -> bool:
    """Whether a count of a state that is not known multiplies gradient or memory as a schedule does.

    A bias correction is a function of 1 - b^k alone.
    """
    return abstract_value(_acting, equation, params) is not None


def _unknown(memory: PyTree) -> PyTree[bool]:
    """Which leaves of a memory count in a state that is not known."""
    children, treedef = jax.tree.flatten(memory, is_leaf=lambda node: node is not memory)
    if treedef == jax.tree.structure(0):
        return bool(jnp.issubdtype(memory.dtype, jnp.integer))
    marks = jax.tree.unflatten(treedef, [_unknown(child) for child in children])
    return jax.tree.map(lambda mark: False, marks) if type(memory).__name__ in _KNOWN else marks


def _acting(equation, params):
    with jax.numpy_dtype_promotion("standard"):
        memory = jax.tree.map(jnp.asarray, equation.twin().init(params))
        unknown = jax.tree.map(lambda mark, known: mark and not known, _unknown(memory), schedule_counts(memory))
        if not any(jax.tree.leaves(unknown)):
            return None

        def update(memory, gradient):
            return equation.twin().update(gradient, memory, params)

        closed = jax.make_jaxpr(update)(memory, params)
    given = [_Value(kind=_COUNT) if mark else _Value(data=True) for mark in jax.tree.leaves(unknown)]
    given += [_Value(data=True)] * len(jax.tree.leaves(params))
    found: list[bool] = []
    interpret(closed, given, _rule(found), _Value)
    return jnp.zeros(()) if found else None


def _rule(found: list[bool]):
    return lambda eqn, values: None if called(eqn) is not None else [_after(eqn, values, found)] * len(eqn.outvars)


def _after(eqn, values, found) -> _Value:
    kinds = [value.kind for value in values if not value.data]
    if len(kinds) < len(values):  # data meet what depends on a count, and are judged there
        if eqn.primitive.name in {"mul", "div"} and set(kinds) & {_COUNT, _POWER, _OTHER}:
            found.append(True)
        return _Value(data=True)
    constant = values[0].value if eqn.primitive.name in _COPIES else None
    return _Value(constant, _kind(eqn.primitive.name, values) if any(kinds) else _NONE)


def _is_never(limit) -> bool:
    """Whether no count comes to a number, None where that is not known."""
    return not (limit is None or is_traced(limit)) and bool(np.all(np.abs(np.asarray(limit)) > _NEVER))


def _kind(name: str, values: list[_Value]) -> int:
    kinds = [value.kind for value in values]
    if name in _COMPARES and set(kinds) <= {_NONE, _COUNT}:
        limits = [value.value for value in values if value.kind == _NONE]
        return _NONE if limits and all(map(_is_never, limits)) else _OTHER
    if name in _COPIES:
        return kinds[0]
    if name in _MOVES and set(kinds) <= {_NONE, _COUNT}:
        return _COUNT
    if name == "select_n" and set(kinds[1:]) == {_COUNT}:  # the count before the step or after it
        return _COUNT
    if name in ("pow", "exp", "exp2"):
        if name == "pow" and kinds == [_NONE, _COUNT]:
            return _POWER
        if kinds[0] == _CORRECTION and set(kinds) <= {_CORRECTION, _NONE}:
            return _CORRECTION
        return _OTHER
    if name == "sub" and kinds == [_NONE, _POWER]:
        return _CORRECTION
    return _CORRECTION if set(kinds) <= {_NONE, _CORRECTION} else _OTHER

"""The learning rate of a training step of an Optax optimizer that has a schedule inside.

Optax hides a schedule in a closure; what it makes of the count is a number in the jaxpr of an update. The one that
multiplies what comes of the gradient is the learning rate of the step, or a factor of it where something else in the update
has the learning rate: `scale_by_schedule(s)` beside `scale(-learning_rate)`.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.extend.core
import jax.numpy as jnp
from jaxtyping import Array

from .._checks.once import warn
from .._counts import schedule_counts
from .._jaxpr.interpreter import bound, called, interpret
from .._jaxpr.structure import AFFINE, FREE, OTHER, dependence
from .._shapes import abstract_value
from .own_counts import acts_as_schedule


class _Value(NamedTuple):
    """What is known of a value in an update: itself where it comes of the count and the learning rate alone.

    `data`: it comes of the parameters or the gradient, and `gradient`: of that; `mark`: how it depends on the factor that a
    schedule gave the gradient; `rate`: the learning rate is in it otherwise; `source`: the number that it is a copy of, in
    another dtype or shape.
    """

    value: Any = None
    source: Any = None
    step: bool = False
    rate: bool = False
    data: bool = False
    gradient: bool = False
    mark: int = FREE


def takes_any_parameters(equation: Any) -> bool:
    """Whether the optimizer runs on parameters that are invented, and not only on trees like the user's."""
    return abstract_value(_memory, equation, _invented()) is not None


def _invented():
    return {"w": jnp.ones((2, 2))}


def _memory(equation, params):
    """The memory on some parameters; None where the optimizer does not take them."""
    try:
        with jax.numpy_dtype_promotion("standard"):
            return jax.tree.map(jnp.asarray, equation.twin().init(params))
    except Exception:
        return None


def rate_at(equation: Any, step: Array, like: tuple | None = None) -> Array:
    """The learning rate of training step `step`, an integer or a real number, as the schedule inside gives it.

    Where the update has none it is `learning_rate`, the same object. Where schedules do something else to the gradient than
    to multiply the step, it is that too, with a warning.
    """
    probe = _invented()
    if like is not None:
        probe = jax.tree.unflatten(like[1], [jnp.ones(struct.shape, struct.dtype) for struct in like[0]])
    memory = jax.eval_shape(lambda params: _memory(equation, params), probe)
    if memory is None:  # a factory that takes trees like the user's parameters only, which nobody has shown yet
        return equation.learning_rate
    if acts_as_schedule(equation, probe):
        warn(
            "Argument `factory`: the step depends on a count of the optimizer's own, as on a schedule inside that Optax "
            "does not tell of, so that the times of a run are sums of `learning_rate`, whatever it does. A schedule "
            "outside, optax.chain(optimizer, optax.scale_by_schedule(...)), has its times."
        )
        return equation.learning_rate
    counts = schedule_counts(memory)
    if not any(jax.tree.leaves(counts)):
        return equation.learning_rate

    def update(rate, step, gradient, params):
        twin = eqx.tree_at(lambda e: e.learning_rate, equation, rate).twin()
        begin = twin.init(params)
        memory = jax.tree.map(lambda leaf, is_count: leaf + step if is_count else leaf, begin, counts)
        return twin.update(gradient, memory, params)

    with jax.numpy_dtype_promotion("standard"):
        closed, (_, after) = jax.make_jaxpr(update, return_shape=True)(equation.learning_rate, step, probe, probe)
        inputs = [
            _Value(equation.learning_rate, rate=True),
            _Value(step, step=True),
            *[_Value(data=True, gradient=True)] * len(jax.tree.leaves(probe)),
            *[_Value(data=True)] * len(jax.tree.leaves(probe)),
        ]
        factors: list = []
        outputs = interpret(closed, inputs, _rule(factors), _Value)
    count = len(jax.tree.leaves(probe))
    updates, memory = outputs[:count], outputs[count:]
    remembered = [value for value, leaf in zip(memory, jax.tree.leaves(after), strict=True) if value.mark != FREE]
    marks = {value.mark for value in updates}
    if not factors and marks == {FREE}:
        return equation.learning_rate
    if len(factors) != 1 or marks != {AFFINE} or remembered or len({v.rate for v in updates}) > 1:
        warn(
            "Argument `factory`: a schedule inside acts otherwise than by one factor of the step, so that the times of a "
            "run are sums of `learning_rate`, whatever the schedule does."
        )
        return equation.learning_rate
    factor = jnp.abs(jnp.ravel(factors[0])[0])
    return (factor * equation.learning_rate if updates[0].rate else factor).astype(jnp.result_type(float))


def _rule(factors: list):
    """What an equation does to values; what schedules multiply gradients by is added to `factors`."""

    def rule(eqn, values):
        if not any(value.data for value in values):
            return _computed(eqn, values)
        return None if called(eqn) is not None else [_met(eqn, values, factors)] * len(eqn.outvars)

    return rule


def _computed(eqn, values: list[_Value]) -> list[_Value]:
    """What an equation gives that has nothing to do with parameters and gradient."""
    results = bound(eqn, [value.value for value in values])
    step, rate = (any(getattr(value, name) for value in values) for name in ("step", "rate"))
    copied = eqn.primitive.name in {"convert_element_type", "copy", "copy_p", "broadcast_in_dim", "reshape"}
    return [_Value(result, _source(values[0]) if copied else None, step, rate) for result in results]


def _source(value: _Value):
    return value.value if value.source is None else value.source


def _met(eqn, values: list[_Value], factors: list) -> _Value:
    """What an equation gives with parameters or gradient in it."""
    multiplies = eqn.primitive.name in {"mul", "div"}
    gradient = any(value.gradient for value in values)
    counted = [value for value in values if value.step and not value.data]
    marks = [value.mark for value in values]
    mark: Any = dependence(eqn, marks) if any(marks) else FREE
    if counted and gradient:
        if multiplies and mark == FREE and len(counted) == 1:
            source = _source(counted[0])
            if not any(source is factor for factor in factors):
                factors.append(source)
            mark = AFFINE
        else:
            mark = OTHER
    of = [value for value in values if not (value.step and not value.data)]
    if any(marks) and not multiplies:  # what is added to it does not scale it
        of = [value for value in of if value.mark != FREE]
    return _Value(rate=any(value.rate for value in of), data=True, gradient=gradient, mark=mark)

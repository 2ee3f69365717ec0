"""Learning rates that change in the course of training."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from .._base import AbstractEquation
from .._checks.arguments import positive
from .._counts import clip_count, put
from .._scaling import ForwardedLimit
from .base import AbstractWrapped, WrappedLimit, WrappedSplitting


def _schedule(value):
    wording = "Argument `schedule` must be an Optax schedule, a function from the training step to a factor, but "
    if not callable(value):
        raise TypeError(f"{wording}{value!r} was given.")
    try:
        with jax.numpy_dtype_promotion("standard"):
            factor = jax.eval_shape(
                lambda step: jnp.asarray(value(step)), jax.ShapeDtypeStruct((), jnp.result_type(float))
            )
    except Exception as error:
        raise ValueError(f"{wording}it fails at a real step: {type(error).__name__}: {error}") from error
    if factor.shape != () or not jnp.issubdtype(factor.dtype, jnp.floating):
        raise ValueError(f"{wording}it returns {factor.dtype} of shape {factor.shape}.")
    return value


class Scheduled(AbstractWrapped):
    r"""A learning rate eta s(k) in training step k, for any equation.

        d theta = s(t/eta) d theta of the equation,    t = eta * step
        memory                                         as it is

    s is counted: within a training step it has one value, in every stage of a solver (`held`), so that the integral of
    the rate is the sum of the steps' rates. Solvers that choose their steps read it continuously.

    The noise of the parameters has the factor s too, in a step eta s delta (derived). The recorded times are
    sum_k eta s(k).

    Source: Li, Tai and E 2017, ICML, for SGD; derived for others.
    Scaling: that of the equation, s a function of its natural time. Natural clock: that of the equation. Weak order 1.

    **Attributes:** those of the equation, and `equation`, `schedule`, `stretch`: the steps of the schedule in a training
    step, which `rescaled` changes.
    """

    schedule: Callable = eqx.field(kw_only=True, static=True, converter=_schedule)
    stretch: Array = eqx.field(default=1.0, kw_only=True, converter=positive("stretch"), metadata={"internal": True})
    _factor: Array | None = eqx.field(default=None, kw_only=True, repr=False)  # where it is held
    _window: tuple[Array, Array] | None = eqx.field(default=None, kw_only=True, repr=False)  # where it is read between

    def factor(self, step: Any) -> Array:
        """s at a training step, a real number; at a whole one, Optax's count, what the schedule gives there."""
        with jax.numpy_dtype_promotion("standard"):
            factor = jnp.asarray(self.schedule(step * self.stretch))
            if not jnp.issubdtype(jnp.result_type(step), jnp.integer):
                return factor
            return jnp.where(self.stretch == 1, jnp.asarray(self.schedule(step)), factor)

    def factor_at(self, t: Array) -> Array:
        """s as it is read at time t."""
        return self.factor(clip_count(t / self.learning_rate, self._window)) if self._factor is None else self._factor

    def held(self, low, high=None):
        inside_held = super().held(low, high)
        if high is not None:
            return put(inside_held, _window=(low, high))
        return put(inside_held, _factor=self.factor(low).astype(jnp.result_type(float)))

    def mapped(self, t, rates):
        factor = self.factor_at(t)
        scaled = jax.tree.map(lambda rate: factor.astype(rate.dtype) * rate, self.equation.params(rates))
        return self.with_params(rates, scaled)

    def twin(self):
        return optax.chain(self.equation.twin(), optax.scale_by_schedule(self.factor))

    def splitting(self):
        return ScheduledSplitting.of(self)

    def scaling_limit(self):
        return ScheduledLimit(self)

    def moves(self, clock, rate):
        return {"stretch": self.stretch * clock}


class ScheduledSplitting(WrappedSplitting):
    """Of rules without memory, and with nothing else that counts, the schedule is one factor of all rates."""

    def scales_all(self, state):
        inner = self.dynamics.equation
        return inner.params(state) is state and inner.held(jnp.zeros((), jnp.int32)) is inner


class ScheduledLimit(WrappedLimit):
    """The schedule tells the learning rate of a step, which is the eta of the threshold."""

    threshold = ForwardedLimit.threshold

    def learning_rate_at(self, step):
        return self.equation.factor(step) * super().learning_rate_at(step)


def scheduled(equation: AbstractEquation, schedule: Callable) -> Scheduled:
    """An equation whose learning rate is multiplied by a schedule.

    **Arguments:**

    - `equation`: any equation.
    - `schedule`: any Optax schedule, such as `optax.cosine_decay_schedule(1.0, 1000)`: the factor of the learning rate as a
        function of the training step, counted from 0, which the equation asks at real numbers too. A schedule defined
        afresh on every call recompiles on every call.

    **Returns:** a `Scheduled`. The memory of the optimizer is not scheduled: for momentum and Adam the schedule acts on how
    far the parameters move, as `optax.chain(optimizer, optax.scale_by_schedule(schedule))` does, to the last bit. Optax
    computes many schedules in float32, as it counts in int32: `optimizer(lambda step: rate * schedule(step))` rounds that
    product too, to some 1e-8 of the learning rate.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    return Scheduled.around(equation, schedule=schedule)

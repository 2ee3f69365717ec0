"""Learning rates that change in the course of training."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from .._base import AbstractEquation, check_contract
from .._checks.arguments import positive
from .._checks.batch_sizes import sizes_of
from .._checks.lineage import inside, newer, within
from .._checks.schedules import schedule_of, stretched
from .._counts import around, clip_count, put
from .._scaling import ForwardedLimit
from .._splitting import ForwardedSplitting, split
from .base import AbstractAround, AbstractWrapped, WrappedLimit, WrappedSplitting, check_inside


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

    schedule: Callable = eqx.field(kw_only=True, static=True, converter=schedule_of)
    stretch: Array = eqx.field(default=1.0, kw_only=True, converter=positive("stretch"), metadata={"internal": True})
    _factor: Array | None = eqx.field(default=None, kw_only=True, repr=False)  # where it is held
    _window: tuple[Array, Array] | None = eqx.field(default=None, kw_only=True, repr=False)  # where it is read between

    def factor(self, step: Any) -> Array:
        """s at a training step, a real number; at a whole one, Optax's count, what the schedule gives there."""
        return stretched(self.schedule, step, self.stretch)

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


def _sizes(schedule):
    sizes_of(schedule)
    return schedule


class ScheduledBatches(AbstractAround):
    r"""B(k) examples in the batch of training step k, for any equation.

        d theta = d theta of the equation, its noise that of batches of B(t/eta),    t = eta * step

    for plain gradient steps d theta = -\bar g dt + sqrt(eta) (C/B(t/eta))^{1/2} dW. The algorithm draws as many examples as
    the largest batch has, and weighs the first B(k). Noise that a model injects stays as it is; what `clipped` adds to the
    sum over a batch is divided by B(k). B is counted, as a schedule of the learning rate is. To first order half the
    learning rate is twice the batch.

    Source: Smith, Kindermans, Ying and Le 2018, ICLR, arXiv:1711.00489, for SGD; derived for others.
    Scaling: that of the equation, B a function of its natural time. Natural clock: that of the equation. Weak order 1.

    **Attributes:** those of the equation, of which `batch_size` is the largest, and `equation`, `schedule`, `stretch`: the
    steps of the schedule in a training step, which `rescaled` changes.
    """

    schedule: Callable = eqx.field(kw_only=True, static=True, converter=_sizes)
    stretch: Array = eqx.field(default=1.0, kw_only=True, converter=positive("stretch"), metadata={"internal": True})
    _size: Array | None = eqx.field(default=None, kw_only=True, repr=False)  # where it is held

    def __check_init__(self):
        check_inside(self.equation, averages=True)
        _check_unscheduled(self.equation)
        largest = int(sizes_of(self.schedule).max())
        if self.batch_size not in (None, largest):
            raise ValueError(
                f"Argument `batch_size` must be the largest of the schedule, {largest}, but {self.batch_size} was given: "
                "another schedule makes another batch, or equations.accumulated one that is so many times as large."
            )

    def size(self, step: Any) -> Array:
        """B at a training step, a real number; NaN where it is none, or more than the largest that is drawn."""
        with jax.numpy_dtype_promotion("standard"):
            size = jnp.round(stretched(self.schedule, step, self.stretch).astype(jnp.result_type(float)))
            return jnp.where((size >= 1) & (size <= self.batch_size), size, jnp.nan)

    def inside(self, t: Array | None = None) -> AbstractEquation:
        """The equation inside with the noise of its batch at time t, or of the training step that is held.

        Where there is neither, that of the largest.
        """
        if self.batch_size is None or (self._size is None and t is None):
            return self.equation
        size = self.size(t / self.learning_rate) if self._size is None else self._size
        return dataclasses.replace(self.equation, noise_model=self.noise_model.of_size(size))

    def held(self, low, high=None):
        held = super().held(low, high)
        if self.batch_size is None:
            return held
        if high is not None:
            raise ValueError(
                "Argument `stepsize_controller` must be None where the batch size is scheduled, which belongs to whole "
                "training steps."
            )
        return put(held, _size=self.size(low))

    gradient_noise = property(
        lambda self: self.inside().gradient_noise, doc="That of the batch of the step that is held."
    )

    def gradient(self, params, signal, normals):
        return self.inside().gradient(params, signal, normals)

    def drift(self, t, state, signal):
        return self.inside(t).drift(t, state, signal)

    def diffusion(self, t, state, signal):
        return self.inside(t).diffusion(t, state, signal)

    def check(self, params, signal):
        if self.batch_size is not None:
            self.gradient_noise.of_size(jnp.ones(()))
        super().check(params, signal)
        if self.batch_size is not None and self.sampling == "shuffled":
            raise ValueError(
                "Argument `sampling` must be 'with_replacement' or 'without_replacement' where batch sizes are scheduled, "
                "since epochs are of batches of one size, but 'shuffled' was given."
            )

    def splitting(self):
        return ScheduledBatchesSplitting.of(self)

    def scaling_limit(self):
        return ScheduledBatchesLimit(self)

    def around_moved(self, equation, clock):
        return eqx.tree_at(lambda e: [e.equation, e.stretch], self, [equation, self.stretch * clock])


class ScheduledBatchesSplitting(ForwardedSplitting):
    """That of the equation inside, at the size of the batch at each time."""

    def _at(self, t):
        return split(self.dynamics.inside(t))

    def start(self, state, signal, noise):
        return self._at(jnp.zeros(())).start(state, signal, noise)

    def flow(self, t, state, signal):
        return self._at(t).flow(t, state, signal)

    def kick(self, t, state, signal, noise, dt):
        return self._at(t).kick(t, state, signal, noise, dt)

    def euler(self, t, state, signal, noise, dt):
        if newer(type(self), "flow", "euler") or newer(type(self), "kick", "euler"):
            return super().euler(t, state, signal, noise, dt)
        return self._at(t).euler(t, state, signal, noise, dt)


class ScheduledBatchesLimit(ForwardedLimit):
    """That of the equation inside; rules for the batch size are for one."""

    def untold(self):
        return self.equation.equation.scaling_limit().untold()

    def at_batch_size(self, rule, batch_size):
        raise ValueError(
            "Argument `equation` must have one batch size for a rule from that to another, but it is scheduled: "
            f"{self.equation!r} was given."
        )


def _check_unscheduled(equation: Any) -> None:
    """Raises a ValueError where the batch size of an equation is scheduled, anywhere inside of it."""
    for part in within(equation):
        if isinstance(part, ScheduledBatches):
            raise ValueError(
                "Argument `equation` must not have a scheduled batch size already, of which a step has one, but "
                f"{part!r} was given: put both into one schedule."
            )


@dataclasses.dataclass(frozen=True)
class _Times:
    """So many times a schedule, equal for equal ones."""

    schedule: Callable
    times: int

    def __call__(self, step):
        return self.times * jnp.asarray(self.schedule(step))


def gathered(equation: AbstractEquation, every: int) -> AbstractEquation:
    """An equation with batches that are `every` times as large, in every step where they are scheduled."""

    def inward(e):
        if isinstance(e, ScheduledBatches):
            return dataclasses.replace(e, schedule=_Times(e.schedule, every), batch_size=every * e.batch_size)
        inner = inside(e)
        return e if inner is None else around(e, "equation", inward(inner))

    found = inward(equation)
    size: Any = equation.batch_size
    return found if found is not equation else dataclasses.replace(equation, batch_size=every * size)


def scheduled(
    equation: AbstractEquation, schedule: Callable | None = None, *, batch_size: Callable | None = None
) -> AbstractAround:
    """An equation whose learning rate is multiplied by a schedule, or whose batch size is one, or both.

    **Arguments:**

    - `equation`: any equation; with `batch_size` one whose batches are not scheduled already.
    - `schedule`: any Optax schedule, such as `optax.cosine_decay_schedule(1.0, 1000)`: the factor of the learning rate as a
        function of the training step, counted from 0, which the equation asks at real numbers too. A schedule defined
        afresh on every call recompiles on every call.
    - `batch_size`: the number of examples in the batch of a training step, a function of that like `schedule`. Its largest
        value in the first 65536 steps, in place of the equation's own batch size, is what `train` draws in each step; a
        larger one later fails.

    **Returns:** a `Scheduled`, a `ScheduledBatches`, or the first around the second. The memory of the optimizer is not
    scheduled: for momentum and Adam the schedule acts on how far the parameters move, as
    `optax.chain(optimizer, optax.scale_by_schedule(schedule))` does, to the last bit. Optax computes many schedules in
    float32, as it counts in int32: `optimizer(lambda step: rate * schedule(step))` rounds that product too, to some 1e-8 of
    the learning rate.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    if schedule is None and batch_size is None:
        raise TypeError("Argument `schedule` or `batch_size` must be given, but both are None.")
    if batch_size is None:
        return Scheduled.around(equation, schedule=schedule)
    check_contract(equation, twin=True)
    _check_unscheduled(equation)
    largest = int(sizes_of(batch_size).max())
    sized = ScheduledBatches.around(equation, schedule=batch_size, batch_size=largest)
    return sized if schedule is None else Scheduled.around(sized, schedule=schedule)

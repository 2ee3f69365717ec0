"""The grid in time on which a stream is solved: stimuli and delays are whole numbers of steps of the solver."""

import math
from typing import NamedTuple

from equations import AbstractDynamics, AbstractStream
from equations.internal import acts_late, learning_rate_of, seconds

_ROUNDING = 1e-6  # relative; 0.05/0.001 is no integer in floating point


def whole_number(ratio: float) -> int | None:
    """The integer that a ratio is but for rounding, or None."""
    nearest = round(ratio)
    return nearest if math.isclose(ratio, nearest, rel_tol=_ROUNDING, abs_tol=_ROUNDING) else None


def stimulus_steps(duration: float, dt: float) -> int:
    """The steps of the solver in a stimulus."""
    if duration < dt * (1 - _ROUNDING):
        raise ValueError(
            f"Argument `dt` must be at most the duration of a stimulus, {duration:g}, but {dt:g} was given: the stimulus "
            "would be shorter than a step."
        )
    count = whole_number(duration / dt)
    if count is None:
        raise ValueError(f"Argument `dt` must divide the duration of a stimulus, {duration:g}, but {dt:g} was given.")
    return count


def delay_steps(delay: float, dt: float) -> int:
    """The steps of the solver in a delay."""
    count = whole_number(delay / dt)
    if count is None:
        below = math.floor(delay / dt)
        raise ValueError(
            f"Argument `delay` must be a multiple of the step `dt`, {dt:g}, such as {below * dt:g} or "
            f"{(below + 1) * dt:g}, but {delay:g} was given."
        )
    return count


def windows(steps: int, delay: int) -> tuple[int, ...]:
    """The lengths of the pieces of a stimulus in which nothing jumps and all that arrives is known at the start.

    The input jumps at the start of a stimulus of `steps` steps and what arrives late jumps `delay` steps after; a piece is
    no longer than the delay, so that nothing from within it arrives within it.
    """
    if not delay or delay % steps == 0:
        return (steps,)
    if delay > steps:
        return (delay % steps, steps - delay % steps)
    full, rest = divmod(steps, delay)
    return (delay,) * full + ((rest,) if rest else ())


class Grid(NamedTuple):
    """The solver's step in seconds, and what is counted in such steps."""

    dt: float
    stimulus: int
    delay: int


def stream_grid(dynamics: AbstractDynamics, stream: AbstractStream, dt, substeps: int) -> Grid:
    """The grid of a dynamics under a stream, checked."""
    name = type(dynamics).__name__
    if learning_rate_of(dynamics) is not None:
        raise ValueError(
            f"Argument `objective` must not be a stream of stimuli for {name}, which has a learning rate and counts "
            f"training steps, but {stream!r} was given."
        )
    if dt is None:
        raise ValueError(
            f"Argument `dt` must be the step of the solver in seconds for {name} under a stream of stimuli, but None was "
            "given."
        )
    if substeps != 1:
        raise ValueError(
            f"Argument `substeps` must be 1 under a stream of stimuli, whose solver makes steps of `dt`, but {substeps} "
            "was given."
        )
    dt = seconds("dt", dt)
    delay = 0.0
    if acts_late(type(dynamics)):
        dynamics.check_step(dt)
        delay = float(dynamics.delay)
    elif "delay" in dir(dynamics):  # elsewhere a number like all others
        raise TypeError(
            f"Argument `equation` must derive from AbstractCircuit for its `delay` to act under a stream of stimuli, but "
            f"{name}, which has one, does not."
        )
    return Grid(dt, stimulus_steps(stream.duration, dt), delay_steps(delay, dt))


def check_time(dynamics: AbstractDynamics, steps: int | None, time, length) -> int | None:
    """The number of training steps, or of stimuli, from exactly one of `steps` and `time`; each takes `length`.

    `steps` as given, to be checked as an integer.
    """
    if time is None:
        if steps is None and learning_rate_of(dynamics) is None:
            raise ValueError(
                f"Argument `steps` must be given, or `time`, for {type(dynamics).__name__} without a learning rate, but "
                "neither was given."
            )
        return steps
    if steps is not None:
        raise ValueError(f"Argument `time` must be None where `steps` is given, but {time!r} was given.")
    if learning_rate_of(dynamics) is not None:
        raise ValueError(
            f"Argument `time` must be None for {type(dynamics).__name__}, which counts training steps of its learning "
            f"rate (`steps`), but {time!r} was given."
        )
    time, length = seconds("time", time), seconds("dt", length)
    count = whole_number(time / length)
    if not count:
        raise ValueError(
            f"Argument `time` must be a multiple of {length:g}, the time of a stimulus or a step, but {time!r} was given."
        )
    return count

"""`first_passage`: when each path first passes a level, and how many have not yet."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from equations import AbstractDynamics
from equations.internal import flag, integer, real_array

from .._train import train
from .._trajectory import Trajectory
from .segments import check_run, records, segments
from .time_average import Average


@dataclasses.dataclass(frozen=True)
class FirstPassage:
    """What `first_passage` returns; times in training steps. `print(result)` says it in a line.

    **Attributes:**

    - `times`: of the first record at or beyond the level, `(paths,)`; infinite for a path that was not seen there.
    - `crossed`: `(paths,)`. `censored`, `failed`: how many were not, and of these how many because they failed.
    - `exposure`: how long each path was at risk, from `after` to its passage, its failure or the end, `(paths,)`.
    - `rate`: an `Average`, passages over exposure per training step: the most likely one of exponential times that are cut
        off, with its error, the rate over the root of the passages. NaN without any.
    - `mean`: an `Average`, the mean time from `after` on, 1/rate.
    - `steady`: how far the rates before and after half of the passages are apart, in normal deviations: exponential times
        have one rate, and where this is above 3 or so `rate` and `mean` are not those of an escape without memory.
    - `after`, `steps`: from where on passages count, and to where.
    - `time_per_step`: the time of the equation in a training step, its learning rate where that is constant.
    """

    times: Float[np.ndarray, " paths"]
    crossed: Bool[np.ndarray, " paths"]
    exposure: Float[np.ndarray, " paths"]
    rate: Average
    mean: Average
    steady: float
    failed: int
    after: int
    steps: int
    time_per_step: float

    @property
    def censored(self) -> int:
        return int(np.sum(~self.crossed))

    def __str__(self):
        return (
            f"{np.sum(self.crossed)} of {len(self.times)} paths passed in {self.steps} steps ({self.failed} failed): mean "
            f"time {self.mean.value:.4g} ± {self.mean.error:.2g} steps after step {self.after}, rates early and late "
            f"{self.steady:.2g} deviations apart"
        )


def first_passage(
    equation: AbstractDynamics,
    objective: Any,
    params: PyTree = None,
    *,
    observable: Callable,
    level: float,
    steps: int,
    below: bool = False,
    after: int = 0,
    key: Array | None = None,
    paths: int | None = None,
    run: Callable = train,
    save_every: int = 1,
    segment: int | None = None,
    start: Trajectory | None = None,
    **options: Any,
) -> FirstPassage:
    """When each path of the algorithm, or of its equation, first passes a level; paths that have not are counted.

    The run goes in segments, none of which is kept, and ends when all paths have passed.

    **Arguments:**

    - `equation`, `objective`, `params`, `key`, `paths`, `start`: as of `train` and `solve`.
    - `observable`: a function of the parameters, or of parameters and state, that gives a number.
    - `level`: a path passes where the observable is at or above it, at a record; `below`: at or below it. An equation may
        pass and return between two records: seen every time dt, noise of strength s passes a level about
        .583 s sqrt(dt) too late in space (Broadie, Glasserman and Kou 1997, Mathematical Finance 7, 325).
    - `steps`: after which paths that have not passed are cut off; a multiple of `segment`, and that of `save_every`.
    - `after`: a training step from which on time is counted, when the start is forgotten; paths that passed before are left
        out of rate and mean.
    - `run`: `dynamics.train`, the algorithm, or `dynamics.solve`, its equation.
    - `save_every`: the steps between two records. `segment`: steps of a segment, by default a sixteenth of them, or all.
    - `options`: others of `train` or `solve`: `noise`, `frozen`, `per_path`, `substeps`, ...

    **Returns:** a `FirstPassage`.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    if not callable(observable):
        raise ValueError(f"Argument `observable` must be a function of the parameters, but {observable!r} was given.")
    observe = {"observable": observable}
    run, sign = check_run(run, observe, options), -1.0 if flag("below")(below) else 1.0
    level = float(real_array("level", level, "a number"))
    steps, save_every, after = (
        integer("steps", steps),
        integer("save_every", save_every),
        integer("after", after, minimum=0),
    )
    if segment is None:
        segment = steps // 16 if steps % (16 * save_every) == 0 else steps
    if steps % integer("segment", segment) or segment % save_every:
        raise ValueError(
            f"Argument `segment` must divide `steps`, {steps}, and be a multiple of `save_every`, {save_every}, but "
            f"{segment} was given."
        )
    parts = steps // segment
    times: Any = None
    failed: Any = None
    time_per_step, done = np.nan, 0
    for part in segments(
        run, equation, objective, params, parts=parts, steps=steps // parts, start=start, observe=observe,
        save_every=save_every, key=key, paths=paths, **options,
    ):  # fmt: skip
        values = sign * records(part)["observable"]
        if values.ndim != 2:
            raise ValueError(
                f"Argument `observable` must give one number, but an array of {values.ndim - 2} axes came."
            )
        if times is None:
            begun = sign * np.asarray(part.observables["observable"][:, 0], float)
            times = np.where(begun >= sign * level, 0.0, np.inf)
            first = int(part.steps[0])
            time_per_step = float(part.times[-1] - part.times[0]) / int(part.steps[-1] - part.steps[0])
        beyond = values >= sign * level
        seen = done + save_every * (1 + np.argmax(beyond, axis=1))
        times = np.where(np.isinf(times) & beyond.any(axis=1), seen, times)
        failed = np.asarray(part.failed_at)
        done += steps // parts
        if np.all(np.isfinite(times) | (failed >= 0)):
            break
    lost = (failed >= 0) & np.isinf(times)
    ends = np.minimum(times, np.where(lost, failed - first, done))
    rate, mean, steady = _rates(times, ends, after)
    return FirstPassage(
        times=times, crossed=np.isfinite(times), exposure=np.maximum(ends - after, 0.0), rate=rate, mean=mean,
        steady=steady, failed=int(lost.sum()), after=after, steps=done, time_per_step=time_per_step,
    )  # fmt: skip


def _rates(times: np.ndarray, ends: np.ndarray, after: int) -> tuple[Average, Average, float]:
    """Rate and mean of exponential times that are cut off, and how far two rates are apart."""

    def counted(low, high):
        """Passages, and the time at risk, between two steps."""
        passed = np.sum(np.isfinite(times) & (times > low) & (times <= high))
        return float(passed), float(np.sum(np.clip(ends, low, high) - low))

    passed, exposed = counted(after, np.inf)
    if passed == 0:
        nothing = Average(np.asarray(np.nan), np.asarray(np.nan))
        return nothing, nothing, float("nan")
    # Of the chance of a passage per step, and of the rate in continuous time, it is the most likely value.
    rate, relative = passed / exposed, passed**-0.5
    early, late = (
        counted(after, middle := np.median(times[(times > after) & np.isfinite(times)])),
        counted(middle, np.inf),
    )
    steady = float("nan")
    if min(early[0], late[0]) >= 4:
        one, two = (np.log(count / risk) for count, risk in (early, late))
        steady = float(abs(one - two) / np.sqrt(1 / early[0] + 1 / late[0]))
    return (
        Average(np.asarray(rate), np.asarray(rate * relative)),
        Average(np.asarray(1 / rate), np.asarray(relative / rate)),
        steady,
    )

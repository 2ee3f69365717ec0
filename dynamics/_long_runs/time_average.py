"""`time_average`: averages along a run that is not kept, with errors, and whether it has arrived where it stays."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from equations import AbstractDynamics

from .._train import train
from .._trajectory import Trajectory
from .arrival import FAR, NEAR, burn_in, halves_apart, mean_and_error, starts_apart
from .correlation import RELIABLE, autocorrelation_time
from .segments import check_parts, check_run, records, segments, well

_KEPT = 2**22  # numbers of the thinned series, 32 MB
_LEAST = 8  # batches


class Average(NamedTuple):
    """A mean along runs and over them, and its standard error, each of the shape of the observable."""

    value: Float[np.ndarray, "..."]
    error: Float[np.ndarray, "..."]


@dataclasses.dataclass(frozen=True)
class TimeAverage:
    """What `time_average` returns; dicts are by observable. `print(result)` is a table.

    **Attributes:**

    - `mean`: an `Average` of each, over all paths that did not fail and all steps after `burn_in`. Its error is from the
        spread of 16 paths or more; of fewer from batch means, too small by a third or more where a path is shorter than 50
        autocorrelation times.
    - `freedom`: the degrees of freedom of its standard error, by which Student's t says how much it means.
    - `samples`: the average of each path, `(paths, ...)`: independent samples, for `validation.judge_number`.
    - `batch_means`: `(paths, batches, ...)` after `burn_in`.
    - `series`: what was observed after `burn_in` every `thinning` steps, `(paths, n, ...)`, for `validation.judge_density`.
    - `autocorrelation_time`: in training steps, `(...)`: the variance of a mean over n steps is that of the observable
        times it over n. By Sokal's estimate on `series`; a time shorter than `thinning` shows as `thinning`.
    - `effective_samples`: so many independent ones all records after `burn_in` are worth, `(...)`.
    - `burn_in`: training steps that are left out.
    - `halves`: how far the later half of the rest is from the earlier one, in normal deviations.
    - `starts`: how much more the paths differ than what each does in time lets them, in normal deviations; NaN for one.
    - `arrived`: `"not arrived"` where halves or paths are more than 4 deviations apart; `"arrived"` where none are more
        than 3 and every path is 50 autocorrelation times long, so that these can be trusted; else `"cannot tell"`. Paths
        with parameters of their own (`per_path`) show what no run from one place does: a place that it does not leave.
    - `steps`, `thinning`: training steps of all, and between two points of `series`.
    - `failed`: paths that failed, of which nothing is here. `paths`: those which did not, their places `(paths,)`.
    - `end`: the `Trajectory` of the last batch, from which `time_average(..., start=)` or a run goes on.
    """

    mean: dict[str, Average]
    freedom: dict[str, float]
    samples: dict[str, Float[np.ndarray, "paths ..."]]
    batch_means: dict[str, Float[np.ndarray, "paths batches ..."]]
    series: dict[str, Float[np.ndarray, "paths n ..."]]
    autocorrelation_time: dict[str, Float[np.ndarray, "..."]]
    effective_samples: dict[str, Float[np.ndarray, "..."]]
    burn_in: int
    halves: dict[str, float]
    starts: dict[str, float]
    arrived: str
    steps: int
    thinning: int
    failed: int
    paths: Int[np.ndarray, " paths"]
    end: Trajectory

    def __str__(self):
        rows = []
        for name, (value, error) in self.mean.items():
            size = np.max(self.autocorrelation_time[name], initial=0.0)
            first = np.argmax(np.abs(np.ravel(value)))
            more = "" if np.ndim(value) == 0 else f" (largest of {np.size(value)})"
            rows.append(
                f"{name}: {np.ravel(value)[first]:.5g} ± {np.ravel(error)[first]:.2g}{more}, autocorrelation time "
                f"{size:.3g} steps, {np.min(self.effective_samples[name], initial=np.inf):.3g} effective samples, halves "
                f"{self.halves[name]:.2g} and paths {self.starts[name]:.2g} deviations apart"
            )
        lost = f", {self.failed} failed and left out" if self.failed else ""
        head = f"{self.arrived}: {self.steps} steps of {len(self.paths)} paths{lost}, the first {self.burn_in} left out"
        return "\n".join([head, *rows])


def time_average(
    equation: AbstractDynamics,
    objective: Any,
    params: PyTree = None,
    *,
    steps: int,
    observe: dict,
    key: Array | None = None,
    paths: int | None = None,
    run: Callable = train,
    save_every: int = 1,
    batches: int = 32,
    start: Trajectory | None = None,
    **options: Any,
) -> TimeAverage:
    """Averages of observables along long runs of the algorithm or its equation, of which no trajectory is kept.

    The run goes in `batches` segments, each from the end of the one before; what stays of a segment is its mean and a
    thinned series, so that memory does not grow with `steps`.

    **Arguments:**

    - `equation`, `objective`, `params`, `key`, `paths`, `start`: as of `train` and `solve`.
    - `steps`: of the whole run, burn-in included: a multiple of `batches` times `save_every`.
    - `observe`: a dict of functions, at least one; averages of vectors and matrices are theirs.
    - `run`: `dynamics.train`, the algorithm, or `dynamics.solve`, its equation.
    - `save_every`: the steps between two records. Records that are further apart than what they remember lose little.
    - `batches`: an even number, 8 or more.
    - `options`: others of `train` or `solve`: `noise`, `frozen`, `per_path`, `substeps`, `solver`, ...

    **Returns:** a `TimeAverage`.

    **Raises:** TypeError or ValueError, naming the argument; RuntimeError where all paths fail.
    """
    run = check_run(run, observe, options)
    steps, save_every, batches = check_parts(steps, save_every, batches, "batches")
    if batches < _LEAST or batches % 2:
        raise ValueError(f"Argument `batches` must be an even number from {_LEAST} on, but {batches} was given.")
    means: dict[str, list] = {name: [] for name in observe}
    series: dict[str, list] = {name: [] for name in observe}
    stride, end = 0, None
    parts = segments(
        run, equation, objective, params, parts=batches, steps=steps // batches, start=start, observe=observe,
        save_every=save_every, key=key, paths=paths, **options,
    )  # fmt: skip
    for end in parts:
        for name, values in records(end).items():
            if not stride:  # one for all observables, that of the records of a segment divides
                stride = _stride(records(end), batches)
            means[name].append(values.mean(axis=1))
            series[name].append(values[:, stride - 1 :: stride].copy())
    assert end is not None
    alive = np.flatnonzero(well(end))
    if not alive.size:
        raise RuntimeError(f"All {len(well(end))} paths failed: there is nothing to average.")
    stacked = {name: np.stack(parts, axis=1)[alive] for name, parts in means.items()}
    cut = burn_in([part.reshape(*part.shape[:2], -1) for part in stacked.values()])
    kept = {name: part[:, cut:] for name, part in stacked.items()}
    thinned = {name: np.concatenate(parts[cut:], axis=1)[alive] for name, parts in series.items()}
    times = {name: stride * save_every * np.maximum(autocorrelation_time(part), 1.0) for name, part in thinned.items()}
    length = steps // batches * (batches - cut)
    found = {name: mean_and_error(part) for name, part in kept.items()}
    halves = {name: halves_apart(part) for name, part in kept.items()}
    starts = {name: starts_apart(part) for name, part in kept.items()}
    return TimeAverage(
        mean={name: Average(value, error) for name, (value, error, _) in found.items()},
        freedom={name: freedom for name, (*_, freedom) in found.items()},
        samples={name: part.mean(axis=1) for name, part in kept.items()},
        batch_means=kept,
        series=thinned,
        autocorrelation_time=times,
        effective_samples={
            name: alive.size * np.minimum(length / time, length / save_every) for name, time in times.items()
        },
        burn_in=cut * (steps // batches),
        halves=halves,
        starts=starts,
        arrived=_verdict(halves, starts, times, length),
        steps=steps,
        thinning=stride * save_every,
        failed=len(well(end)) - alive.size,
        paths=alive,
        end=end,
    )


def _stride(observed: dict[str, np.ndarray], batches: int) -> int:
    """How many records apart the points of the thinned series are, a divisor of the number of those of a segment."""
    first = next(iter(observed.values()))
    count = first.shape[1]
    wanted = batches * sum(part.size for part in observed.values()) / _KEPT
    return next(
        stride for stride in range(1, count + 1) if count % stride == 0 and (stride >= wanted or stride == count)
    )


def _verdict(halves: dict, starts: dict, times: dict, length: int) -> str:
    apart = [*halves.values(), *(value for value in starts.values() if not np.isnan(value))]
    if max(apart) > FAR:
        return "not arrived"
    longest = max(float(np.max(time, initial=1.0)) for time in times.values())
    return "arrived" if max(apart) <= NEAR and length >= RELIABLE * longest else "cannot tell"

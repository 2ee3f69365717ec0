"""Figures of spectra, and of the entropy that steps produce."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dynamics import EntropyProduction, Trajectory
from equations.internal import choice, real_array

from .._axes import finish
from .axes import COLORS, axes, check_labels
from .trajectories import band_of

_PARTS = "medium", "system", "total", "housekeeping", "excess"
_ERRORS = 2  # standard errors, in bars
_WIDE = 30  # a range of rates that takes a logarithmic axis


def plot_spectrum(
    *spectra: Any,
    threshold: float | None = None,
    labels: Sequence[str] | None = None,
    name: str = "eigenvalue",
    ax: Any = None,
) -> Any:
    """Eigenvalues or Lyapunov exponents by their rank, the largest first: one spectrum or several.

    **Arguments:**

    - `spectra`: eigenvalues `(k,)`, as of `hessian_eigenpairs` or of a covariance; or what `lyapunov` returns, drawn with
        two standard errors.
    - `threshold`: a value to compare them with, drawn as a line, such as `stability_threshold(equation)`.
    - `labels`: one for each spectrum; `name`: of the vertical axis; `ax`: as of `plot`.

    **Returns:** the axes.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    check_labels(labels, spectra, "spectra", "spectrum")
    read = [_spectrum(one) for one in spectra]
    ax = axes(ax)
    for place, (values, errors) in enumerate(read):
        order = np.argsort(-values)
        bars = None if errors is None else _ERRORS * errors[order]
        label = None if labels is None else labels[place]
        color = COLORS[place % len(COLORS)]
        ax.errorbar(np.arange(1, values.size + 1), values[order], yerr=bars, fmt="o", ms=4, color=color, label=label)
    if threshold is not None:
        (line,) = _numbers("threshold", threshold, 1)
        ax.axhline(line, color="0.3", lw=1, ls="--", label=f"threshold, {line:.4g}")
    elif min(values.min() for values, _ in read) < 0:
        ax.axhline(0, color="0.6", lw=0.8)
    ax.xaxis.get_major_locator().set_params(integer=True)
    finish(ax, f"{name} by rank", "rank", name, legend=labels is not None or threshold is not None)
    return ax


def _spectrum(given: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The values and, where they have them, their standard errors."""
    try:
        values, errors = given.exponents, np.asarray(given.standard_errors, float)
    except AttributeError:
        values, errors = given, None
    values = real_array("spectra", values, "real numbers")
    if values.ndim != 1 or not values.size or not np.all(np.isfinite(values)):
        raise ValueError(
            f"Argument `spectra` must be finite numbers of shape (k,), but one of shape {values.shape} was given."
        )
    return values, errors


def _numbers(name: str, given: Any, count: int) -> list[float]:
    """So many numbers, as floats."""
    allowed = "a real number" if count == 1 else f"{count} real numbers"
    values = real_array(name, given, allowed).ravel()
    if values.size != count:
        raise ValueError(f"Argument `{name}` must hold {allowed}, but {values.size} were given.")
    return values.tolist()


def plot_entropy(
    entropy: EntropyProduction,
    trajectory: Trajectory,
    *,
    part: str = "medium",
    rest: float | None = None,
    bound: Any = None,
    time: bool = False,
    ax: Any = None,
) -> Any:
    """The entropy that steps produce per unit of time along a run: the mean over paths with two standard errors.

    **Arguments:**

    - `entropy`, `trajectory`: what `entropy_production` returned, and of which run.
    - `part`: `"medium"`, `"system"`, `"total"`, `"housekeeping"` or `"excess"`.
    - `rest`: the rate at rest, such as `stationary(...).entropy_production_rate`, drawn as a line.
    - `bound`: a lower bound with its standard error, `(value, error)`, as `short_time_bound` gives it: a point at the end,
        with two of its errors.
    - `time`, `ax`: as of `plot`.

    **Returns:** the axes.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    part = choice("part", part, _PARTS)
    try:
        known = {name: value for name, value in vars(entropy).items() if name in _PARTS}
        values, ok = known[part], np.asarray(entropy.ok)
    except (AttributeError, TypeError, KeyError):
        raise TypeError(
            f"Argument `entropy` must be what `entropy_production` returns, but {type(entropy).__name__} was given."
        ) from None
    if values is None:
        there = [name for name, value in known.items() if value is not None]
        raise ValueError(
            f"Argument `part` must be one of what was computed, {there}, but {part!r} was given: a `reference` gives more."
        )
    values = np.asarray(values, float)[ok]
    try:
        times, steps, unit = np.asarray(trajectory.times, float), np.asarray(trajectory.steps), trajectory.units[0]
    except AttributeError:
        times, steps, unit = np.zeros(0), np.zeros(0), ""
    if values.shape[1] >= times.size:
        raise ValueError(
            f"Argument `trajectory` must be the run that `entropy` is of, with more than {values.shape[1]} records, but "
            f"{type(trajectory).__name__} with {times.size} was given."
        )
    rates = values / np.diff(times)[-values.shape[1] :]
    x = (times if time else steps)[-values.shape[1] :]
    ax, (low, mean, high) = axes(ax), band_of(rates, "standard error")
    ax.plot(x, mean, color=COLORS[0], lw=1.5, label=f"entropy of the steps, {part}")
    if len(rates) > 1:
        ax.fill_between(x, low, high, color=COLORS[0], alpha=0.2, lw=0)
    if rest is not None:
        (line,) = _numbers("rest", rest, 1)
        ax.axhline(line, color="0.3", lw=1, ls="--", label="at rest")
    if bound is not None:
        value, error = _numbers("bound", bound, 2)
        ax.errorbar([x[-1]], [value], yerr=_ERRORS * error, fmt="o", ms=4, color=COLORS[1], label="lower bound")
    if np.all(mean > 0) and mean.max() > _WIDE * mean.min():  # while a run comes to rest
        ax.set_yscale("log")
    finish(ax, "entropy production", "time" if time else unit, "entropy per unit of time")
    return ax

"""Figures of a comparison. Each takes an axes or makes one, and returns it; no global state of pyplot is touched."""

import numpy as np

from .._axes import finish
from .._plots.axes import BLUE, GREEN, VERMILION, axes
from .._plots.trajectories import label_of, paths_of
from .student import quantile

EQUATION, DISCRETE, SOLVER = BLUE, VERMILION, GREEN


def _finish(ax, title, y):
    finish(ax, title, "training step", y)
    ax.margins(x=0.02)
    ax.locator_params(axis="x", integer=True)
    return ax


def plot_fan(comparison, observable: str, component: tuple[int, ...] = (), ax=None):
    """A fan chart of the equation (median, 25-75 % and 10-90 % of its paths) with the discrete ensemble over it.

    **Arguments:** a `Comparison`, the name of an observable, the index of its component, and matplotlib axes or None.

    **Returns:** the axes.
    """
    ax = axes(ax)
    steps = comparison.steps
    quantiles = (0.1, 0.25, 0.5, 0.75, 0.9)
    flow = paths_of(comparison.flow, observable, component)
    run = paths_of(comparison.run, observable, component)
    if len(flow):
        low, lower, middle, upper, high = np.quantile(flow, quantiles, axis=0)
        ax.fill_between(steps, low, high, color=EQUATION, alpha=0.15, lw=0, label="equation, 10–90 %")
        ax.fill_between(steps, lower, upper, color=EQUATION, alpha=0.3, lw=0, label="equation, 25–75 %")
        ax.plot(steps, middle, color=EQUATION, lw=1.5, label="equation, median")
    if len(run):
        low, _, middle, _, high = np.quantile(run, quantiles, axis=0)
        at = slice(None, None, max(1, len(steps) // 25))  # more points than this hide the fan
        spread = np.stack([middle - low, high - middle])
        ax.errorbar(steps[at], middle[at], yerr=spread[:, at], fmt="o", ms=2.5, lw=0.8, color=DISCRETE,
                    label="discrete, median and 10–90 %")  # fmt: skip
    label = label_of(observable, component)
    return _finish(ax, label, label)


def plot_difference(comparison, observable: str, statistic: str = "mean", component: tuple[int, ...] = (), ax=None):
    """The model error (equation - discrete, solver error taken out) with its intervals of 68 and 95 %: 1 and 2 standard
    errors, and more where these come from few paths (Student's t) or skewed ones (Hall). Without randomness there are none.

    **Arguments:** as for `plot_fan`; `statistic` is `"mean"` or `"variance"`.

    **Returns:** the axes.
    """
    ax = axes(ax)
    paths_of(comparison.flow, observable, component)  # checks both
    if statistic not in ("mean", "variance"):
        raise ValueError(f"Argument `statistic` must be 'mean' or 'variance', but {statistic!r} was given.")
    steps, moment = comparison.steps, comparison.moments[observable][statistic]
    at = (slice(None), *component)
    value, error = moment.model_error.value[at], moment.model_error.error[at]
    ax.axhline(0, color="0.6", lw=0.8)
    for sigmas, alpha, label in ((2, 0.15, "95 %"), (1, 0.25, "68 %")):
        half = error if not np.any(error > 0) else quantile(sigmas, moment.freedom[at], moment.skewness[at]) * error
        ax.fill_between(steps, value - half, value + half, color=EQUATION, alpha=alpha, lw=0, label=label)
    ax.plot(steps, value, color=EQUATION, lw=1.5, label="model error")
    solver, solver_error = moment.solver_error.value[at], moment.solver_error.error[at]
    ax.plot(steps, solver, color=SOLVER, lw=1, ls="--", label="solver error")
    ax.fill_between(steps, solver - solver_error, solver + solver_error, color=SOLVER, alpha=0.2, lw=0)
    title = f"{statistic} of {label_of(observable, component)}: model error"
    return _finish(ax, title, "equation − discrete")

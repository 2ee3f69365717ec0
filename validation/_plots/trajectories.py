"""Figures of trajectories, several of them in one."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dynamics import Trajectory
from dynamics.internal import title
from equations.internal import choice, real_array

from .._axes import finish
from .axes import COLORS, axes, check_labels

_BANDS = "quantiles", "standard error", "none"
_POINTS = 400  # of a curve of a density


def paths_of(trajectory: Any, observable: str, component: tuple[int, ...] = ()) -> np.ndarray:
    """A component of an observable on the paths that did not diverge, `(paths, saves)`.

    **Raises:** TypeError for what is no trajectory; ValueError, naming the argument.
    """
    try:
        known = trajectory.observables
    except AttributeError:
        raise TypeError(
            f"Argument `trajectories` must be results of `solve` or `train`, but {type(trajectory).__name__} was given."
        ) from None
    if observable not in known:
        raise ValueError(f"Argument `observable` must be one of {sorted(known)}, but {observable!r} was given.")
    values = np.asarray(known[observable], dtype=float)
    if values.ndim - 2 != len(component):
        raise ValueError(
            f"Argument `component` must index the {values.ndim - 2} axes of {observable!r}, but {component!r} was given."
        )
    return values[(np.asarray(trajectory.ok), slice(None), *component)]


def label_of(observable: str, component: tuple[int, ...]) -> str:
    return observable + "".join(f"[{i}]" for i in component)


def plot(
    *trajectories: Trajectory,
    observable: str,
    component: tuple[int, ...] = (),
    band: str = "quantiles",
    time: bool = False,
    labels: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """An observable along one trajectory or several, over training steps: a line each, with a band about it.

    **Arguments:**

    - `trajectories`: of `solve` or `train`.
    - `observable`, `component`: the name of what was recorded, and the index of its component.
    - `band`: `"quantiles"`, the median with 10 to 90 % of the paths; `"standard error"`, the mean with two of its standard
        errors; `"none"`, the mean.
    - `time`: whether the axis is time, the sum of the learning rates, in place of steps.
    - `labels`: one for each trajectory; None: what was run, and whether as equation or algorithm.
    - `ax`: Matplotlib axes, or None for those of a new figure.

    **Returns:** the axes.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    check_labels(labels, trajectories, "trajectories", "trajectory")
    band, shown = choice("band", band, _BANDS), [paths_of(one, observable, component) for one in trajectories]
    ax = axes(ax)
    for place, (one, values) in enumerate(zip(trajectories, shown, strict=True)):
        label = f"{title(one.equation)}, {one.kind}" if labels is None else labels[place]
        color, x = COLORS[place % len(COLORS)], np.asarray(one.times if time else one.steps)
        if not len(values):
            continue  # all of its paths diverged
        low, middle, high = band_of(values, band)
        ax.plot(x, middle, color=color, lw=1.5, label=label)
        if len(values) > 1 and band != "none":
            ax.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
    label = label_of(observable, component)
    finish(ax, label, "time" if time else trajectories[0].units[0], label)
    return ax


def plot_phase(
    *trajectories: Trajectory,
    x: str | tuple,
    y: str | tuple,
    paths: int = 5,
    labels: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """Two observables against each other along paths: a phase portrait.

    **Arguments:** as of `plot`; `x` and `y` are names of observables, or `(name, index, ...)` of a component; `paths` is
    how many of the paths of each trajectory are drawn.

    **Returns:** the axes.
    """
    (x_name, *x_at), (y_name, *y_at) = ((one,) if isinstance(one, str) else tuple(one) for one in (x, y))
    chosen = [
        (paths_of(one, x_name, tuple(x_at))[:paths], paths_of(one, y_name, tuple(y_at))[:paths]) for one in trajectories
    ]
    ax = axes(ax)
    for place, (one, (across, up)) in enumerate(zip(trajectories, chosen, strict=True)):
        label = f"{title(one.equation)}, {one.kind}" if labels is None else labels[place]
        color = COLORS[place % len(COLORS)]
        for number, (a, b) in enumerate(zip(across, up, strict=True)):
            ax.plot(a, b, color=color, lw=1, alpha=0.8, label=label if number == 0 else None)
            ax.plot(a[:1], b[:1], "o", color=color, ms=3)
    finish(ax, "paths from where they begin (dots)", label_of(x_name, tuple(x_at)), label_of(y_name, tuple(y_at)))
    return ax


def plot_density(
    samples: Any, log_density: Callable | None = None, *, bins: int = 60, name: str = "value", ax: Any = None
) -> Any:
    """A histogram of samples, and over it a density known up to normalization.

    **Arguments:**

    - `samples`: of any shape.
    - `log_density`: the logarithm of the density up to a constant, of an array of values; it is normalized to the
        samples' share between the ends of the histogram.
    - `bins`: their number; `name`: of what is sampled; `ax`: as of `plot`.

    **Returns:** the axes.
    """
    values = real_array("samples", samples, "real numbers").ravel()
    values = values[np.isfinite(values)]
    if values.size < 2 or values.min() == values.max():
        raise ValueError("Argument `samples` must hold finite numbers that differ, but does not.")
    ax = axes(ax)
    heights, edges, _ = ax.hist(values, bins, density=True, color="0.75", label="samples")
    if log_density is not None:
        at = np.linspace(edges[0], edges[-1], _POINTS + 1)
        at = (at[1:] + at[:-1]) / 2
        with np.errstate(all="ignore"):
            logs = np.asarray(log_density(at), float)
            density = np.where(np.isfinite(logs), np.exp(logs - np.nanmax(logs[np.isfinite(logs)])), 0.0)
        ax.plot(at, density / (np.sum(density) * (at[1] - at[0])), color=COLORS[0], lw=1.5, label="predicted")
        ax.set_ylim(0, 1.3 * np.max(heights))
    finish(ax, "density", name, f"density, per unit of {name}")
    return ax


def band_of(values: np.ndarray, band: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lower end of a band, its middle and its upper end, of values `(paths, saves)`: see `plot`."""
    if band == "quantiles":
        low, middle, high = np.quantile(values, (0.1, 0.5, 0.9), axis=0)
        return low, middle, high
    middle = values.mean(axis=0)
    half = 2 * values.std(axis=0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0 * middle
    return middle - half, middle, middle + half

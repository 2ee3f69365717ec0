"""The report of the command `traindyn circuit`."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from .._axes import finish
from .._picture import pictured
from .._plain import versions
from .._table import lines
from .circuit_data import Task
from .circuit_run import EDGE, Law, Run
from .page import write_page

_COLORS = {"SGD": "0.35", "FA": "#0072b2", "DFA": "#009e73", "KP": "#d55e00"}


def _figure(panels):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * panels, 3.6), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _learning_figure(task: Task, runs: list[Run]):
    """Accuracy and alignment over time, and what the last circuit has learned of a plane."""
    drawn = [run for run in runs if run.surface is not None]
    figure, axes = _figure(2 + bool(drawn))
    for run in runs:
        color = _COLORS[run.rule]
        axes[0].plot(run.times, run.test.T, color=color, lw=0.6, alpha=0.5)
        axes[0].plot(run.times, run.mean(run.test), color=color, lw=1.8, label=run.rule)
        for place in range(run.alignment.shape[2]):
            style = dict(ls=("-", "--", ":", "-.")[place % 4], color=color, lw=1.4)
            axes[1].plot(run.times, run.mean(run.alignment[:, :, place]), label=f"{run.rule}, {place + 1}", **style)
    axes[0].set_ylim(top=1.01)
    axes[1].axhline(0, color="0.6", lw=0.8)
    axes[1].set_ylim(-0.6, 1.03)  # room for the legend
    finish(axes[0], "accuracy on new examples (thin: single circuits)", "time in s", "")
    finish(axes[1], "cosine of V and Wᵀ, by feedback matrix", "time in s", "", legend=len(axes[1].lines) > 1)
    if drawn:
        run, ax = drawn[-1], axes[2]
        surface: Any = run.surface
        axis, bound = np.linspace(-EDGE, EDGE, len(surface)), np.abs(surface).max()
        ax.contourf(axis, axis, surface, np.linspace(-bound, bound, 21), cmap="RdBu_r", alpha=0.6)
        ax.contour(axis, axis, surface, [0.0], colors="0.2", linewidths=1)
        x, outer = np.asarray(task.x), np.asarray(task.y)[:, 0] > 0
        ax.plot(*x[outer, :2].T, ".", ms=2.5, color="#a02000")
        ax.plot(*x[~outer, :2].T, ".", ms=2.5, color="#00406a")
        ax.set_aspect("equal")
        finish(ax, f"output of a circuit ({run.rule}); line: zero", "", "", legend=False)
    return figure


def _sweep(ax, runs: list[Run], value, chance: float):
    """The last accuracy against `value(run)`: every circuit, and the means; crosses for those that diverged."""
    for rule in dict.fromkeys(run.rule for run in runs):
        mine = sorted((run for run in runs if run.rule == rule), key=value)
        at, last = np.array([value(run) for run in mine]), np.array([run.test[:, -1] for run in mine])
        ok = np.array([run.ok for run in mine])
        wide = np.broadcast_to(at[:, None], last.shape)
        ax.plot(at, [run.mean(run.test)[-1] for run in mine], color=_COLORS[rule], lw=1.5, label=rule)
        ax.plot(wide[ok], last[ok], "o", ms=3.5, color=_COLORS[rule], alpha=0.6)
        ax.plot(wide[~ok], last[~ok], "x", ms=6, color=_COLORS[rule])
    ax.axhline(chance, color="0.6", lw=0.8, ls=":")
    ax.set_ylim(0, 1.03)


def _halfway(run: Run) -> Run:
    """A run as it was at half its time, which is how long the sweeps take."""
    records = np.searchsorted(run.times, run.times[-1] / 2 * (1 + 1e-9), side="right")
    return dataclasses.replace(run, times=run.times[:records], test=run.test[:, :records])


def _delay_figure(curves: list[Run], runs: list[Run], law: Law, chance: float):
    figure, (left, right) = _figure(2)
    _sweep(left, [*map(_halfway, curves), *runs], lambda run: run.delay, chance)
    finish(left, "accuracy on new examples", "delay of the error / duration of a stimulus", "")
    right.plot([0, 1, max(1, law.delay.max())], [1, 0, 0], color="0.6", lw=1.2, ls="--", label="1 − Δ/T")
    right.errorbar(
        law.delay,
        law.rate,
        2 * law.error,
        fmt="o",
        ms=4,
        lw=0,
        elinewidth=1,
        color="#0072b2",
        label="measured, ± 2 s.e.",
    )
    right.axhline(0, color="0.6", lw=0.8)
    finish(
        right,
        "learning rate / that without delay",
        "delay of the error / duration of a stimulus",
        "",
    )
    return figure


def _ratio_figure(runs: list[Run], chance: float):
    figure, (ax,) = _figure(1)
    _sweep(ax, runs, lambda run: run.ratio, chance)
    at = sorted({run.ratio for run in runs})
    ax.set_xscale("log")
    ax.set_xticks(at, [f"{ratio:g}" for ratio in at], minor=False)
    ax.set_xticks([], minor=True)
    finish(ax, "accuracy on new examples (×: diverged)", "time constant of plasticity / duration of a stimulus", "")
    return figure


def summary(runs: dict[str, list[Run]], law: Law | None) -> str:
    """A few lines for the terminal and the page."""
    rows = [("rule", "delay/T", "tau/T", "time", "accuracy", "lowest", "shown", "cosine of V and W^T", "diverged")]
    for run in (run for kind in runs.values() for run in kind):
        cosines = " ".join(f"{value:.2f}" for value in run.mean(run.alignment[:, -1])) or "-"
        rows.append((
            run.rule, f"{run.delay:g}", f"{run.ratio:g}", f"{run.times[-1]:g}", f"{run.mean(run.test[:, -1]):.3f}",
            f"{min(run.test[run.ok, -1], default=np.nan):.3f}", f"{run.mean(run.accuracy[:, -1]):.3f}", cosines,
            f"{(~run.ok).sum()} of {run.ok.size}",
        ))  # fmt: skip
    notes = [
        "accuracy: on new examples at the end, mean of the circuits that did not diverge; shown: on those that were shown."
    ]
    if law is not None:
        measured = zip(law.delay, law.rate, law.error, strict=True)
        notes.append("Learning rate of a linear neuron over that without delay, against 1 - delay/T:")
        notes += [f"  delay/T {d:g}: {rate:.3f} ± {error:.3f}, {max(0.0, 1 - d):.3f}" for d, rate, error in measured]
    return "\n".join([*lines(rows), "", *notes])


def _words(value) -> str | float | int:
    """A setting as the page shows it: a sequence without Python's brackets and quotes."""
    if not isinstance(value, tuple):
        return value
    return ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value) or "none"


def write_circuit(folder: Path, task: Task, runs: dict[str, list[Run]], law: Law | None, configuration: dict) -> dict:
    """Writes `report.html` and `results.json`, each whole or not at all.

    **Arguments:** a folder that exists; the task; runs by kind, "curve", "delay" and "ratio"; the delay law, or None; what
    was run, as plain values.

    **Returns:** the paths of the files.
    """
    chance = 1 / max(2, task.y.shape[1])
    curves = runs["curve"]
    figures = {"learning": pictured(_learning_figure(task, curves), "learning")}
    if law is not None:
        figures["delays"] = pictured(_delay_figure(curves, runs["delay"], law, chance), "delays")
    if runs["ratio"]:
        figures["ratios"] = pictured(_ratio_figure(runs["ratio"], chance), "ratios")
    document = {
        "configuration": configuration,
        "runs": {kind: [run.to_dict() for run in members] for kind, members in runs.items()},
        "delay_law": None if law is None else law.to_dict(),
        "versions": versions(),
    }
    return write_page(
        folder, "circuit.html.jinja", document,
        configuration={name: _words(value) for name, value in configuration.items()},
        versions=document["versions"], figures=figures, summary=summary(runs, law),
        sweep_delay=configuration["sweep delay"],
    )  # fmt: skip

"""The figure of a map of regimes."""

from typing import Any

import numpy as np

from .models import MODELS

# Okabe and Ito, told apart by color-blind readers; gray is none.
_COLORS = dict(
    zip(
        (model.name for model in MODELS),
        ("#56b4e9", "#0072b2", "#f0e442", "#e69f00", "#a65628", "#009e73", "#004d3a", "#cc79a7", "#d55e00"),
        strict=True,
    )
)
_NONE = "#d9d9d9"
_LEAST = 1e-7  # of the errors that are shown


def plot_regimes(regimes: Any):
    """For each algorithm the best model of every window and learning rate, with the sharpness of the run in it, and beside
    it the largest errors of all models over the windows.

    **Returns:** a Matplotlib figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    maps = regimes.maps
    figure = Figure(figsize=(11, 0.9 + 3.3 * len(maps)), layout="constrained")
    FigureCanvasAgg(figure)
    for row, one in zip(figure.subplots(len(maps), 2, squeeze=False, width_ratios=(3, 2)), maps, strict=True):
        _cells(row[0], one)
        _errors(row[1], one)
    shown = [name for name in _COLORS if any(name in one.errors for one in maps)]
    handles = [Patch(color=_COLORS[name], label=name) for name in shown] + [Patch(color=_NONE, label="none")]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize="small")
    return figure


def _cells(ax, one) -> None:
    from matplotlib.patches import Rectangle

    edges = np.concatenate([[0], one.steps])
    for y, names in enumerate(one.best):
        for x, name in enumerate(names):
            color = _COLORS.get(name, _NONE)
            ax.add_patch(Rectangle((edges[x], y - 0.5), edges[x + 1] - edges[x], 1, color=color, lw=0))
            sharp = one.sharpness[y, x]
            if np.isfinite(sharp):
                ink = "white" if _is_dark(color) else "black"
                ax.text(
                    (edges[x] + edges[x + 1]) / 2, y, f"{sharp:.2f}", ha="center", va="center", color=ink, fontsize=8
                )
    ax.set_xlim(0, edges[-1])
    ax.set_ylim(-0.5, len(one.learning_rates) - 0.5)
    ax.set_yticks(range(len(one.learning_rates)), [f"{rate:.3g}" for rate in one.learning_rates])
    ax.set_xlabel("training step")
    ax.set_ylabel("learning rate η")
    ax.set_title(f"{one.title}: best model, and ηλ of the run (edge: 2)", fontsize="medium", loc="left")


def _errors(ax, one) -> None:
    for name, errors in one.errors.items():
        worst = np.max(np.where(np.isnan(errors), -np.inf, errors), axis=1)
        shown = np.where(np.isfinite(worst), np.clip(worst, _LEAST, 10), np.nan)  # no error at all is shown at the edge
        ax.plot(one.learning_rates, shown, color=_COLORS[name], marker="o", ms=4, lw=1.2)
    ax.axhline(one.bound, color="0.5", ls="--", lw=0.8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    rates = _apart(one.learning_rates)
    ax.set_xticks(rates, [f"{rate:.3g}" for rate in rates], minor=False)
    ax.set_xticks([], minor=True)
    ax.set_xlabel("learning rate η")
    ax.set_ylabel("relative error of the mean loss")
    ax.set_title("largest error over the windows (diverged: none)", fontsize="medium", loc="left")
    ax.spines[["top", "right"]].set_visible(False)


def _apart(rates: np.ndarray) -> list[float]:
    """Those whose labels have room beside each other: a tenth of the axis, which is logarithmic, lies between them."""
    ordered = np.sort(rates)
    room = 0.1 * np.log(ordered[-1] / ordered[0])
    kept = [ordered[-1]]
    for rate in ordered[-2::-1]:
        if np.log(kept[-1] / rate) >= room:
            kept.append(rate)
    return kept[::-1]


def _is_dark(color: str) -> bool:
    red, green, blue = (int(color[k : k + 2], 16) for k in (1, 3, 5))
    return 0.3 * red + 0.59 * green + 0.11 * blue < 110

"""The figure of an order sweep."""

from typing import Any

import numpy as np

from equations.internal import choice

from .._axes import finish
from .axes import COLORS, axes


def plot_orders(orders: Any, observable: str | None = None, measure: str | None = None, ax: Any = None) -> Any:
    """The errors of `orders` against the learning rate, with standard errors, and the slope that is claimed as a line.

    **Arguments:**

    - `orders`: an `Orders`.
    - `observable`: its name; None: the first. `measure`: `"mean"`, `"second moment"` or `"variance/eta"`; None: all.
    - `ax`: Matplotlib axes, or None for those of a new figure.

    **Returns:** the axes.

    **Raises:** ValueError, naming the argument.
    """
    sweeps = orders.sweeps
    observable = next(iter(sweeps)) if observable is None else choice("observable", observable, tuple(sweeps))
    known = sweeps[observable]
    shown = known if measure is None else {measure: known[choice("measure", measure, tuple(known))]}
    ax, rates = axes(ax), np.asarray(orders.learning_rates)
    for place, (name, sweep) in enumerate(shown.items()):
        color, good = COLORS[place % len(COLORS)], np.isfinite(sweep.errors.value) & (sweep.errors.value > 0)
        label = (
            name
            if np.isnan(sweep.slope)
            else f"{name}: slope {sweep.slope:.2f} ± {sweep.slope_error:.2f}, {sweep.verdict}"
        )
        value, error = sweep.errors.value[good], sweep.errors.error[good]
        ax.errorbar(rates[good], value, yerr=error, fmt="o", ms=4, lw=1, color=color, label=label)
        hidden = good & ~sweep.usable  # by Monte Carlo, solver or rounding error
        ax.plot(rates[hidden], sweep.errors.value[hidden], "o", ms=4, mfc="white", mec=color)
        if np.any(sweep.usable):
            last = int(np.flatnonzero(sweep.usable)[-1])
            steps = orders.step_lengths / orders.step_lengths[last]
            ax.plot(rates, sweep.errors.value[last] * steps**sweep.claim, color=color, lw=0.8, ls="--")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(rates, [f"{rate:.3g}" for rate in rates])
    ax.set_xticks([], minor=True)
    finish(ax, f"{observable}: errors, and the orders claimed (dashed)", "learning rate η", "error of the equation")
    return ax

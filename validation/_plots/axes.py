"""Axes for the figures, without the global state of pyplot, and their colors."""

from collections.abc import Sequence
from typing import Any

# Okabe and Ito, told apart by color-blind readers.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
COLORS = BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY


def axes(ax: Any = None, size: tuple[float, float] = (5, 3.4)) -> Any:
    """The axes that were given, or those of a new figure of a size in inches.

    **Raises:** TypeError for anything that one cannot draw into.
    """
    if ax is None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        return figure.add_subplot()
    try:
        ax.get_xlim()
    except AttributeError:
        raise TypeError(f"Argument `ax` must be Matplotlib axes or None, but {type(ax).__name__} was given.") from None
    return ax


def check_labels(labels: Sequence[str] | None, drawn: Sequence, name: str, each: str) -> None:
    """Raises a ValueError where nothing is to be drawn, or the labels are not as many; `name` is that of the argument."""
    if not drawn:
        raise ValueError(f"Argument `{name}` must be at least one, but none was given.")
    if labels is not None and len(labels) != len(drawn):
        raise ValueError(
            f"Argument `labels` must have one for each {each}, {len(drawn)}, but {len(labels)} were given."
        )

"""The figure of an entry."""

from typing import Any

from .catalog import module_of

SIZE = (6.0, 3.8)  # inches
PREDICTED, MEASURED, RIVAL, BEYOND = "#0072b2", "#1b1b1b", "#d55e00", "#009e73"  # Okabe and Ito


def drawn(result: Any, ax: Any = None) -> Any:
    """Lets the entry draw into axes, or into those of a new figure."""
    if ax is None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
    module_of(result.name).plot(ax, result.findings.data)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def drawn_svg(result: Any) -> str:
    """The figure as inline SVG."""
    from .._svg import svg

    return svg(drawn(result).get_figure(), result.name)

"""The figure of an entry."""

from typing import Any

from .._plots.axes import axes
from .catalog import module_of

SIZE = (6.0, 3.8)  # inches


def drawn(result: Any, ax: Any = None) -> Any:
    """Lets the entry draw into axes, or into those of a new figure."""
    ax = axes(ax, SIZE)
    module_of(result.name).plot(ax, result.findings.data)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def drawn_svg(result: Any) -> str:
    """The figure as inline SVG."""
    from .._svg import svg

    return svg(drawn(result).get_figure(), result.name)

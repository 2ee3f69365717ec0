"""Figures as inline SVG."""

import io
import re


def svg(figure, salt: str) -> str:
    """A figure as inline SVG, the same bytes for the same figure; the salt keeps the ids of two figures apart."""
    import matplotlib

    buffer = io.StringIO()
    figure.draw_without_rendering()  # of a second drawing the layout knows the ticks, which a first may cut labels for
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    # Matplotlib numbers the elements of each figure afresh: without a prefix two figures would share their clip paths.
    prefix = re.sub(r"\W", "-", salt)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", buffer.getvalue())
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt" ', "", text[text.index("<svg") :])

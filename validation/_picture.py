"""Figures of a page: as inline SVG, and as files to take away, all within the page."""

import base64
import csv
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ._svg import svg


class Picture(NamedTuple):
    """A figure of a page: its SVG, and links that hold it as SVG, as PNG of 150 dots an inch, and its data as CSV."""

    name: str
    svg: str
    links: dict[str, str]


def pictured(figure: Any, name: str) -> Picture:
    """A figure as a `Picture`, the same bytes for the same figure; `name` is that of the files, and unlike others' of a
    page."""
    inline, png = svg(figure, name), io.BytesIO()
    figure.savefig(png, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    files = {
        "SVG": ("image/svg+xml", inline.encode()),
        "PNG": ("image/png", png.getvalue()),
        "CSV": ("text/csv", data_of(figure).encode()),
    }
    links = {
        kind: f"data:{media};base64,{base64.b64encode(content).decode()}" for kind, (media, content) in files.items()
    }
    return Picture(name, inline, links)


def data_of(figure: Any) -> str:
    """What a figure draws as CSV, a row for every point: the panel, the series, and x, y; of error bars and bands the ends.

    Of images and meshes x and y are their columns and rows, and `value` the number there.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["panel", "series", "x", "y", "value"])
    for number, ax in enumerate(figure.axes):
        panel = ax.get_title(loc="left") or ax.get_title() or ax.get_ylabel() or str(number + 1)
        for series, points in _series(ax):
            rows.writerows([panel, series, *(f"{one:.10g}" for one in point)] for point in points)
    return text.getvalue()


def _series(ax: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every series of axes by its name, its points `(n, 2)`, or `(n, 3)` with a value each."""
    named = {id(part): str(one.get_label()) for one in ax.containers for part in _parts(one)}
    for number, artist in enumerate([*ax.lines, *ax.collections, *ax.patches, *ax.images]):
        label = named.get(id(artist), str(artist.get_label()))
        name = f"unnamed {number + 1}" if label.startswith("_") else label
        if artist in ax.lines:
            yield name, np.column_stack([np.asarray(one, float) for one in artist.get_xydata().T])
        elif artist in ax.patches:
            (x, y), width, height = artist.get_xy(), artist.get_width(), artist.get_height()
            yield name, np.array([[x + width / 2, y + height]])
        elif (values := artist.get_array()) is not None and np.ndim(values) == 2:
            rows, columns = np.indices(np.shape(values))
            table = np.ma.filled(np.ma.asarray(values, float), np.nan)
            yield name, np.column_stack([columns.ravel(), rows.ravel(), table.ravel()])
        else:
            for path in artist.get_paths():  # of bands and bars the outline
                yield f"{name}, ends", path.vertices


def _parts(container: Any) -> list:
    """The artists that a container of error bars or of bars is made of."""
    try:
        line, caps, bars = container.lines
    except AttributeError:
        return list(container)
    return [*([] if line is None else [line]), *caps, *bars]

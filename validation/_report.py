"""Reports: a page that opens offline, the numbers as JSON, the trajectories as NetCDF."""

import inspect
import io
import json
import re
from pathlib import Path

from ._compare import Comparison
from ._files import write_whole
from ._plots import plot_difference, plot_fan
from ._table import cells


def _svg(figure, salt: str) -> str:
    """A figure as inline SVG, the same bytes for the same figure; the salt keeps the ids of two figures apart."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    # Matplotlib numbers the elements of each figure afresh: without a prefix two figures would share their clip paths.
    prefix = re.sub(r"\W", "-", salt)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", buffer.getvalue())
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt" ', "", text[text.index("<svg") :])


def _figures(comparison: Comparison) -> list[dict]:
    """A row of figures for every scalar observable."""
    from matplotlib.figure import Figure

    rows = []
    for name, statistics in comparison.moments.items():
        if statistics["mean"].equation.value.ndim > 1:
            continue  # an array observable is in the files, with every component
        figure = Figure(figsize=(12, 3.3), layout="constrained")
        fan, mean, variance = figure.subplots(1, 3)
        for ax in (mean, variance):
            ax.ticklabel_format(axis="y", scilimits=(-2, 3))
        plot_fan(comparison, name, ax=fan)
        plot_difference(comparison, name, "mean", ax=mean)
        plot_difference(comparison, name, "variance", ax=variance)
        salt = f"{type(comparison.equation).__name__}-{name}"
        rows.append({"observable": name, "svg": _svg(figure, salt)})
    return rows


def write_report(folder: Path, title: str, comparisons: dict[str, Comparison], configuration: dict) -> dict[str, Path]:
    """Writes `report.html`, `results.json` and `trajectories.nc`, each whole or not at all.

    **Arguments:** a folder that exists, the title, comparisons by name, and what was run as plain values.

    **Returns:** the paths of the three files.
    """
    import jinja2
    import xarray as xr

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("validation", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    results = {name: comparison.to_dict() for name, comparison in comparisons.items()}
    sections = [
        {
            "name": name,
            "heading": type(comparison.equation).__name__,
            "equation": inspect.getdoc(type(comparison.equation)),
            "hyperparameters": results[name]["hyperparameters"],
            "failed": comparison.failed,
            "table": cells(comparison),
            "last": int(comparison.steps[-1]),
            "paths": int(comparison.flow.ok.size),
            "figures": _figures(comparison),
        }
        for name, comparison in comparisons.items()
    ]
    versions = next(iter(results.values()))["versions"]
    page = environment.get_template("report.html.jinja").render(
        title=title, sections=sections, configuration=configuration, versions=versions
    )
    tree = xr.DataTree.from_dict({
        f"/{name}/{side}": trajectory.to_xarray()
        for name, comparison in comparisons.items()
        for side, trajectory in (
            ("equation", comparison.flow), ("refined", comparison.refined), ("discrete", comparison.run)
        )
    })  # fmt: skip
    document = {"configuration": configuration, "comparisons": results}
    files = {name: folder / name for name in ("report.html", "results.json", "trajectories.nc")}
    write_whole(files["report.html"], lambda path: path.write_text(page, encoding="utf-8"))
    write_whole(
        files["results.json"],
        lambda path: path.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8"),
    )
    write_whole(files["trajectories.nc"], lambda path: tree.to_netcdf(path, engine="h5netcdf"))
    return files

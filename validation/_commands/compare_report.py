"""Reports: a page that opens offline, the numbers as JSON, the trajectories as NetCDF."""

import inspect
from pathlib import Path

from dynamics.internal import hyperparameters, write_whole
from dynamics.internal import title as name_of

from .._compare.compare import Comparison
from .._compare.plots import plot_difference, plot_fan
from .._compare.table import cells, ensembles, is_settled, warnings
from .._picture import pictured
from .page import write_page


def _figures(comparison: Comparison) -> list[dict]:
    """A row of figures for every scalar observable."""
    from matplotlib.figure import Figure

    rows = []
    for name, statistics in comparison.moments.items():
        if statistics["mean"].equation.value.ndim > 1:
            continue  # an array observable is in the files, with every component
        figure = Figure(figsize=(12, 4.2), layout="constrained")
        fan, mean, variance = figure.subplots(1, 3)
        for ax in (mean, variance):
            ax.ticklabel_format(axis="y", scilimits=(-2, 3))
        plot_fan(comparison, name, ax=fan)
        plot_difference(comparison, name, "mean", ax=mean)
        plot_difference(comparison, name, "variance", ax=variance)
        salt = f"{type(comparison.equation).__name__}-{name}"
        caption = (
            f"The {name} of {name_of(comparison.equation)}: equation (shaded) and algorithm (bars); the model error "
            "of mean and variance with its intervals of 68 and 95 %"
        )
        rows.append({"caption": caption, "picture": pictured(figure, salt)})
    return rows


def _shown(comparison: Comparison) -> dict:
    """The hyperparameters as the page shows them, with the noise that the discrete side really had."""
    shown = hyperparameters(comparison.equation)
    model = shown.pop("noise_model", None)
    kind = dict(comparison.run.details).get("noise")
    if model is not None and comparison.equation.batch_size is not None:
        shown["noise"] = f"Gaussian gradients of the covariance of {model}" if kind == "gaussian" else model
    return shown


def write_report(folder: Path, title: str, comparisons: dict[str, Comparison], configuration: dict) -> dict[str, Path]:
    """Writes `report.html`, `results.json` and `trajectories.nc`, each whole or not at all.

    **Arguments:** a folder that exists, the title, comparisons by name, and what was run as plain values.

    **Returns:** the paths of the three files.
    """
    import xarray as xr

    results = {name: comparison.to_dict() for name, comparison in comparisons.items()}
    sections = [
        {
            "name": name,
            "heading": name_of(comparison.equation),
            "equation": inspect.getdoc(type(comparison.equation)),
            "hyperparameters": _shown(comparison),
            "warnings": [line.rstrip(".") for line in warnings(comparison)],
            "table": cells(comparison),
            "last": int(comparison.steps[-1]),
            "paths": ensembles(comparison),
            "unit": "relative to the discrete algorithm" if is_settled(comparison) else "in standard errors",
            "figures": _figures(comparison),
        }
        for name, comparison in comparisons.items()
    ]
    tree = xr.DataTree.from_dict({
        f"/{name}/{side}": trajectory.to_xarray()
        for name, comparison in comparisons.items()
        for side, trajectory in (
            ("equation", comparison.flow), ("refined", comparison.refined), ("discrete", comparison.run)
        )
    })  # fmt: skip
    document = {"configuration": configuration, "comparisons": results}
    versions = next(iter(results.values()))["versions"]
    files = write_page(
        folder, "report.html.jinja", document,
        title=title, sections=sections, configuration=configuration, versions=versions,
    )  # fmt: skip
    files["trajectories.nc"] = folder / "trajectories.nc"
    write_whole(files["trajectories.nc"], lambda path: tree.to_netcdf(path, engine="h5netcdf"))
    return files

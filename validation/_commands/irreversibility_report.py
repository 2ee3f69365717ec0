"""The report of the command `traindyn irreversibility`."""

from pathlib import Path

import numpy as np

from .._axes import finish
from .._irreversibility.result import VECTORS
from .._picture import pictured
from .._plain import versions
from .page import write_page

_NAMES = (*VECTORS, "entropy_production")
_STYLE = dict(zip(_NAMES, (("#0072b2", "o"), ("#009e73", "s"), ("#d55e00", "^"), ("#cc79a7", "D")), strict=True))


def _measures_figure(along, sweep):
    """phi along training, the ratios of the measures to it, and how their errors fall with the learning rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    steps, results = np.array([step for step, _ in along]), [result for _, result in along]
    left.plot(steps, [r.phi for r in results], color="0.2", marker="o", ms=3)
    left.set_ylim(bottom=0)
    finish(left, r"$\varphi = \frac{1}{4}\,\mathrm{E}\,\|g_B\|^2$", "training step", "φ", legend=False)
    middle.axhline(1, color="0.6", lw=0.8)
    for name in _NAMES:
        color, marker = _STYLE[name]
        label = name.replace("_", " ")
        ratio = np.array([r.values[name] / r.phi for r in results])
        error = np.array([r.standard_errors[name] / r.phi for r in results])
        middle.errorbar(steps, ratio, error, color=color, marker=marker, ms=3, lw=1, label=label)
        rates = np.array([float(r.equation.learning_rate) for r in sweep])
        errors = [r.distances[name] if name in VECTORS else abs(r.values[name] / r.phi - 1) for r in sweep]
        right.loglog(rates, errors, color=color, marker=marker, ms=4, lw=1, label=label)
    guide = 0.5 * min(r.distances[name] for r in sweep[-1:] for name in VECTORS) / rates[-1] * rates
    right.loglog(rates, guide, color="0.6", ls="--", lw=1, label="slope 1")
    right.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
    right.set_xticks([], minor=True)
    finish(middle, "the measures along training", "training step", "measure / φ", legend=False)
    title = f"the measures at step {along[1][0]}"
    finish(right, title, "learning rate", "relative distance from φ or −∇φ", legend=False)
    # Below the axes, where it covers no data.
    figure.legend(
        *right.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize="small"
    )
    return figure


def _charges_figure(record):
    """The charges against the Noether flow, and the parts of its rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.errorbar(
        record.steps, record.total, record.total_error, color="#d55e00", marker="o", ms=3, lw=0, elinewidth=0.8,
        label="mean of 8 discrete runs",
    )  # fmt: skip
    left.plot(record.steps, record.flow, color="#0072b2", lw=1.5, label="Noether flow")
    finish(left, "the two layers", "training step", "charge")
    middle.plot(record.steps, record.neurons - record.neurons[0], color="#0072b2", lw=0.6, alpha=0.5)
    middle.axhline(0, color="0.6", lw=0.8)
    finish(middle, "each neuron", "training step", "charge less that at step 0", legend=False)
    for (name, values), color in zip(record.parts.items(), ("#d55e00", "#009e73", "#0072b2"), strict=True):
        right.plot(record.steps, values, color=color, lw=1, label=name)
    right.axhline(0, color="0.6", lw=0.8)
    right.ticklabel_format(axis="y", scilimits=(-2, 3))
    finish(right, "parts of the Noether flow", "training step", "change of the charge per training step")
    return figure


def write_irreversibility(folder: Path, along, sweep, record, configuration: dict) -> dict[str, Path]:
    """Writes `report.html` and `results.json`, each whole or not at all.

    **Arguments:** a folder that exists; what `measurements` and `charges` returned; what was run, as plain values.

    **Returns:** the paths of the files.
    """
    document = {
        "configuration": configuration,
        "along_training": [{"step": step} | result.to_dict() for step, result in along],
        "learning_rates": [result.to_dict() for result in sweep],
        "charges": record.to_dict(),
        "versions": versions(),
    }
    return write_page(
        folder, "irreversibility.html.jinja", document,
        configuration=configuration, versions=document["versions"],
        tables=[(step, str(r)) for step, r in (along[0], along[-1])],
        measures=pictured(_measures_figure(along, sweep), "measures"), charges=pictured(_charges_figure(record), "charges"),
        summary=str(record),
    )  # fmt: skip

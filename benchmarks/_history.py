"""The history of the benchmarks, one JSON file for each machine, and what in a run is worse than before."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from dynamics.internal import write_whole

from ._timing import ROOT, Figure, Ratio

FOLDER = ROOT / "benchmarks" / "history"
WORSE = 1.1
_PACKAGES = ("jax", "jaxlib", "diffrax", "equinox", "optax", "numpy", "torchsde", "torch")


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, and versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return {"processor": _processor(), "cores": cores, "system": platform.system(), "versions": versions}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def said(here: dict[str, Any]) -> str:
    """A machine in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    return f"{here['processor']}, {here['cores']} cores, {here['system']}; {versions}"


def recorded(figures: Sequence[Figure], here: dict[str, Any]) -> dict[str, Any]:
    """A run as JSON has it."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit.stdout.strip(),
        **here,
        "figures": {figure.name: _numbers(figure) for figure in figures if figure.measured is not None},
    }


def _numbers(figure: Figure) -> dict[str, Any]:
    value = figure.measured
    spread = (
        dict(median=value.median, low=value.low, high=value.high) if isinstance(value, Ratio) else dict(value=value)
    )
    return {**spread, "limit": figure.limit, "note": figure.note}


def place(here: dict[str, Any], folder: Path = FOLDER) -> Path:
    """The file of a machine."""
    name = "".join(c if c.isalnum() else "-" for c in f"{here['processor']} {here['cores']} cores".lower())
    return folder / f"{'-'.join(filter(None, name.split('-')))}.json"


def load(path: Path) -> list[dict[str, Any]]:
    """The runs of a machine, the oldest first.

    **Raises:** ValueError for a file that holds anything else.
    """
    if not path.exists():
        return []
    try:
        runs = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} must hold the history of benchmarks, but it is no JSON: {error}.") from None
    if not isinstance(runs, list) or not all(isinstance(run, dict) and "figures" in run for run in runs):
        raise ValueError(f"{path} must hold the history of benchmarks, a list of runs, but it does not.")
    return runs


def save(runs: list[dict[str, Any]], path: Path) -> None:
    """Writes the file whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    write_whole(path, lambda draft: draft.write_text(json.dumps(runs, indent=1) + "\n"))


def worse(figures: Sequence[Figure], runs: list[dict[str, Any]]) -> list[str]:
    """Ratios that are larger than in the last run that has them by more than a tenth, and beyond what both varied by."""
    found = []
    for figure in figures:
        before = next((run for run in reversed(runs) if "median" in run["figures"].get(figure.name, {})), None)
        if before is None or not isinstance(figure.measured, Ratio):
            continue
        old, new = before["figures"][figure.name], figure.measured
        if new.median > WORSE * old["median"]:
            sure = "" if new.low > old["high"] else ", though within what both varied by"
            found.append(
                f"{figure.name}: {new} now, {old['median']:.3f} [{old['low']:.3f}, {old['high']:.3f}] at "
                f"{before['commit']} ({before['date']}){sure}"
            )
    return found

"""The command `traindyn sweep`."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Run one experiment at all settings of a file, by several processes into one Zarr store.

    In the file, a list is an axis: the experiment is run for every combination of values. Without an `experiment` of your
    own, `experiment: file.py:function`, it is training of a tanh network on scikit-learn's digits, with the options of
    `traindyn compare`. Interrupted, the same command goes on where it stopped.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """The experiment, as YAML; an example is docs/examples/sweep.yaml."""
    workers: int | None = None
    """Processes, each on a core of its own; by default as in the file, or one for each core."""


def run_sweep(options: SweepOptions) -> None:
    """The command `traindyn sweep`."""
    from dynamics import sweep

    from .sweep_file import read

    begin = time.monotonic()
    try:
        task = read(options.file, options.workers)
        runs = sweep(task.experiment, task.axes, run=task.run, store=task.store, **task.options)
    except KeyboardInterrupt:
        print(
            "traindyn: interrupted; what is finished is stored, and the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(130)
    except (ImportError, OSError, RuntimeError) as error:
        print(f"traindyn: {error}", file=sys.stderr)
        sys.exit(1)
    from .sweep_report import summary

    print(summary(runs))
    print(f"\n{time.monotonic() - begin:.0f} s; written: {task.store}, which xarray.open_zarr opens")

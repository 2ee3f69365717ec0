"""Runs the benchmarks named on the command line, or all, and prints one table; `--save` adds it to the history."""

import importlib
import sys

from ._history import load, machine, place, recorded, said, save, worse
from ._timing import HEADER

NAMES = (
    "mlp",
    "svag",
    "random_loss",
    "b1",
    "b2",
    "b3",
    "reduced",
    "parameters",
    "modified",
    "circuit",
    "passed",
    "torch_peer",
    "large_steps",
    "long",
    "checks",
    "recompile",
    "sweep",
    "imports",
)


def main() -> int:
    arguments = sys.argv[1:]
    saves = "--save" in arguments
    names = [name for name in arguments if name != "--save"] or NAMES
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"Unknown benchmark {unknown[0]!r}: the benchmarks are {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    here = machine()
    runs = load(place(here))
    print(said(here))
    print(HEADER)
    figures = []
    for name in names:
        for figure in importlib.import_module(f".{name}", __package__).run():
            print(figure, flush=True)
            figures.append(figure)
    for line in worse(figures, runs):
        print(f"More than a tenth worse: {line}")
    if saves:
        save([*runs, recorded(figures, here)], place(here))
    return int(any(figure.verdict == "missed" for figure in figures))


if __name__ == "__main__":
    sys.exit(main())

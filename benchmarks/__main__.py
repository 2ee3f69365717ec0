"""Runs the benchmarks named on the command line, or all, and prints one table."""

import importlib
import sys

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
    "long",
    "checks",
    "recompile",
    "sweep",
    "imports",
)


def main() -> int:
    names = sys.argv[1:] or NAMES
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"Unknown benchmark {unknown[0]!r}: the benchmarks are {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    missed = False
    print(HEADER)
    for name in names:
        for figure in importlib.import_module(f".{name}", __package__).run():
            print(figure, flush=True)
            missed |= figure.verdict == "missed"
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

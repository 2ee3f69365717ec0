"""What starting costs: importing the library, and the command's help."""

import importlib.util
import sys
from pathlib import Path

from ._timing import Figure, interleave, process


def run() -> list[Figure]:
    times = interleave(
        {
            "jax": process([sys.executable, "-c", "import jax, diffrax"]),
            "traindyn": process([sys.executable, "-c", "import equations, dynamics, validation"]),
        },
        repeats=9,
    )
    note = f"{times.median('traindyn'):.2f} s, jax and diffrax {times.median('jax'):.2f} s"
    figures = [Figure("imports: the three packages / jax and diffrax", times.ratio("traindyn", "jax"), 1.5, note)]

    command = Path(sys.executable).with_name("traindyn")
    name = "imports: traindyn --help, seconds"
    if importlib.util.find_spec("validation._commands.main") is None or not command.exists():
        return [*figures, Figure(name, None, 3.0, "the command is not installed")]
    times = interleave({"help": process([str(command), "--help"])}, repeats=7)
    return [*figures, Figure(name, times.median("help"), 3.0)]

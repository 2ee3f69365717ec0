"""The command `traindyn irreversibility`."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import tyro

from .options import Shown


@dataclasses.dataclass(frozen=True)
class Irreversible(Shown):
    """Measure the irreversibility of training on scikit-learn's digits, and what it does to the charges of a network.

    Four measures of a tanh network along its training and over learning rates, and the charges of a ReLU network against
    their Noether flow. Prints tables and writes report.html and results.json. Computes in float64.
    """

    learning_rate: float = 0.1
    """Learning rate of SGD."""
    batch_size: int = 32
    """Examples per minibatch."""
    steps: int = 300
    """Training steps."""
    points: int = 10
    """Points along the training where irreversibility is measured; a divisor of the steps."""
    batches: int = 32
    """Minibatches that are drawn for each measurement, at least 32."""
    decay: float = 1e-4
    """Weight decay gamma of the ReLU network, gradient 2 gamma theta."""
    hidden: int = 32
    """Width of the hidden layers."""
    seed: int = 0
    """Seed of the initial networks and of the batches."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("traindyn-irreversibility")
    """Folder of the report, made if need be; files of an earlier run are replaced."""


def run_irreversibility(options: Irreversible) -> None:
    """The command `traindyn irreversibility`."""
    import jax

    with jax.enable_x64(True):
        _run(options)


def _run(options: Irreversible) -> None:
    from equations import SGD
    from equations.internal import integer, nonnegative

    from .files import check_folder

    sgd = SGD(options.learning_rate, options.batch_size)
    gamma = float(nonnegative("decay")(options.decay))
    steps, points = integer("steps", options.steps), integer("points", options.points)
    if steps % points:
        raise ValueError(f"Argument `points` must divide `steps`, {steps}, but {points} was given.")
    folder = check_folder("output", options.output)

    import jax

    from .irreversibility_report import write_irreversibility
    from .irreversibility_run import charges, measurements
    from .progress import progress

    begin = time.monotonic()
    key = jax.random.key(integer("seed", options.seed, minimum=0, maximum=2**32 - 1))
    with progress(points + 7, "training", hidden=options.silent) as show:

        def stage(what):
            show(description=what, advance=1)

        every = steps // points
        batches, hidden = integer("batches", options.batches, minimum=32), integer("hidden", options.hidden)
        along, sweep = measurements(sgd, key, steps, every, batches, hidden, stage)
        record = charges(sgd, jax.random.fold_in(key, 7), steps, every, gamma, hidden, stage)
        show(description="report")
        configuration = {
            "data": "scikit-learn digits, 1797 images of 8 x 8",
            "networks": f"tanh and ReLU, 64-{hidden}-10, cross-entropy, float64",
            **{
                name.replace("_", " "): value
                for name, value in dataclasses.asdict(options).items()
                if name not in ("output", "hidden")
            },
        }
        files = write_irreversibility(folder, along, sweep, record, configuration)
    first, *_, (last_step, last) = along
    print(f"Tanh network at step {first[0]}\n{first[1]}\n\nat step {last_step}\n{last}\n\n{record}\n")
    print(f"{time.monotonic() - begin:.0f} s; written: {', '.join(str(path) for path in files.values())}")

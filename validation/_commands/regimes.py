"""The command `traindyn regimes`."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import tyro

from .options import Shown


@dataclasses.dataclass(frozen=True)
class RegimesOptions(Shown):
    """Which model of training holds where: full-batch training on digits, beside every model of it.

    Gradient flow, modified equations, rod flow, edge flow and central flow against the algorithm, over learning rates and
    time. Prints a table and writes report.html and results.json.
    """

    equation: tuple[str, ...] = ("sgd", "adam")
    """Names of the algorithms, one after the other."""
    problem: str = "mlp"
    """`mlp`, a tanh network 64-16-10, or `cnn`, a convolutional one, both on digits; `transformer`, one block on text;
    all with squared loss. Or `file.py:function` of your own, which returns objective and parameters for a key."""
    learning_rates: tuple[float, ...] | None = None
    """Learning rates for all algorithms; by default five about the edge for sgd, three for others."""
    steps: int = 500
    """Training steps."""
    windows: int = 5
    """Windows of time over which losses are averaged; a divisor of the steps."""
    examples: int = 200
    """Images, or windows of text."""
    bound: float = 0.05
    """The largest relative error at which a model holds."""
    seed: int = 0
    """Seed of the initial network and of the alternation."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("traindyn-regimes")
    """Folder of the report, made if need be; files of an earlier run are replaced."""


_RATES = {"sgd": (0.05, 0.1, 0.2, 0.3, 0.4), "momentum": (0.005, 0.01, 0.02, 0.03)}
_OTHERS = (3e-4, 1e-3, 3e-3)
_DATA = dict.fromkeys(("mlp", "cnn"), "scikit-learn digits, images of 8 x 8") | {
    "transformer": "Python's documentation, windows of 12 characters and the next"
}


def run_regimes(options: RegimesOptions) -> None:
    """The command `traindyn regimes`."""
    from equations.internal import choice, integer

    from .algorithm import lookup
    from .files import check_folder

    kinds = {kind.__name__.lower(): kind for kind in map(lookup, options.equation)}
    if not kinds:
        raise ValueError("Argument `equation` must name at least one algorithm, but none was given.")
    rates = [options.learning_rates or _RATES.get(name, _OTHERS) for name in kinds]
    equations = [kind(float(own[0])) for kind, own in zip(kinds.values(), rates, strict=True)]
    folder = check_folder("output", options.output)

    import jax

    from .._picture import pictured
    from .._plain import versions
    from .._regimes.models import MODELS
    from .._regimes.regimes import regimes
    from .digits import squared_problem
    from .function import load_problem
    from .page import write_page
    from .progress import progress
    from .text import text_problem

    begin = time.monotonic()
    key = jax.random.key(integer("seed", options.seed, minimum=0, maximum=2**32 - 1))
    own, data_key = ":" in options.problem, jax.random.fold_in(key, 0)
    if own:
        objective, network, _ = load_problem(options.problem, data_key)
    elif choice("problem", options.problem, tuple(_DATA)) == "transformer":
        objective, network = text_problem(data_key, options.examples)
    else:
        objective, network = squared_problem(data_key, options.problem, options.examples)
    total = sum(1 + len(MODELS) * len(own) for own in rates)
    with progress(total, "training", hidden=options.silent) as show:
        found = regimes(
            equations,
            objective,
            network,
            learning_rates=rates,
            steps=options.steps,
            key=jax.random.fold_in(key, 1),
            windows=options.windows,
            bound=options.bound,
            progress=lambda what: show(description=what, advance=1),
        )
        show(description="report")
    configuration = {
        **({} if own else {"data": f"{_DATA[options.problem]}: {options.examples} examples"}),
        "algorithms": ", ".join(kinds),
        **{
            name.replace("_", " "): value
            for name, value in dataclasses.asdict(options).items()
            if name not in ("output", "equation", "examples", "learning_rates")
        },
    }
    document = {"configuration": configuration, **found.to_dict()}
    files = write_page(
        folder, "regimes.html.jinja", document,
        configuration=configuration, versions=versions(), figure=pictured(found.plot(), "regimes"), table=str(found),
    )  # fmt: skip
    print(f"{found}\n\n{time.monotonic() - begin:.0f} s; written: {', '.join(str(path) for path in files.values())}")

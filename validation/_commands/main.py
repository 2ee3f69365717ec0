"""The command `traindyn`."""

import dataclasses
import functools
import importlib.metadata
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .algorithm import LEARNING_RATES, composed
from .algorithm import lookup as _lookup
from .atlas import AtlasOptions, run_atlas
from .circuit import CircuitOptions, run_circuit
from .irreversibility import Irreversible, run_irreversibility
from .options import DIVERGED, INTERRUPTED, NAMES, Shown, shown, told_if_interrupted, with_config
from .regimes import RegimesOptions, run_regimes
from .sweep import SweepOptions, run_sweep


@dataclasses.dataclass(frozen=True)
class Compare(Shown):
    """Compare continuous and discrete training of a tanh network on scikit-learn's digits, or of a problem of your own.

    Prints a table and writes report.html, results.json and trajectories.nc.
    """

    equation: tuple[str, ...] = ("sgd", "momentum", "adam")
    """Names of the algorithms, compared one after the other, or `file.py:Class` of your own; what goes around them, but for
    decay and schedule, is for Python."""
    problem: str = "digits"
    """The digits, or `file.py:function` of your own, which returns objective, parameters and observables for a key."""
    learning_rate: float | None = None
    """Learning rate; by default 0.1 for sgd, 0.01 for momentum and adagrad, 0.001 for all others."""
    batch_size: int = 32
    """Examples per minibatch."""
    sampling: Literal["with_replacement", "without_replacement", "shuffled"] = "with_replacement"
    """How minibatches are drawn."""
    noise: Literal["minibatch", "gaussian"] = "minibatch"
    """Whether the discrete side takes real minibatches or Gaussian gradients of the same covariance."""
    steps: int = 200
    """Training steps."""
    paths: int | None = None
    """Paths of each ensemble; by default 32, and 8 for signsgd and lion, whose drift takes variances of gradients."""
    save_every: int | None = None
    """Steps between two records; by default the largest divisor of the steps up to 10."""
    substeps: int = 1
    """Steps of the solver per training step."""
    weight_decay: float = 0.0
    """Weight decay beside the optimizer."""
    schedule: Literal["constant", "cosine", "warmup"] = "constant"
    """Learning rate over the run: constant, falling to zero as a cosine, or that after a linear rise over a tenth of it."""
    hidden: int = 32
    """Width of the hidden layer."""
    seed: int = 0
    """Seed of the initial network and of the noise."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("traindyn-compare")
    """Folder of the report, made if need be; files of an earlier run are replaced."""


def _paths(equation, options: Compare) -> int:
    """As asked for, or as many as the drift of the equation allows in a minute or two."""
    from equations.internal import split

    return options.paths if options.paths is not None else 32 if split(equation).smooth else 8


def _composed(equation, options: Compare):
    """The equation with the weight decay and the schedule that were asked for."""
    return composed(equation, options.weight_decay, options.schedule, options.steps)


def run_list() -> None:
    """The command `traindyn list`."""
    from .catalogue import algorithms, describe, edge_flows, exported, forms, noise_models, signals

    around = {name: kind for name, kind in exported().items() if name not in algorithms()}
    for kinds, title in ((algorithms(), ""), (around, "Around any of these:\n")):
        print(title, end="\n" if title else "")
        for name, kind in sorted(kinds.items()):
            print(f"{name}\n{describe(kind)}\n")
    print("Of any of these:\n")
    for name, function in sorted(forms().items()):
        print(f"{name}\n{describe(function, ('summary',))}\n")
    print("Of any of these in full batch, at the edge of stability:\n")
    for name, kind in sorted(edge_flows().items()):
        print(f"{name}\n{describe(kind, ('summary', 'formula', 'sources'))}\n")
    print("What any of these descends, in place of the gradient of a loss or beside it:\n")
    for name, kind in sorted(signals().items()):
        print(f"{name}\n{describe(kind, ('summary',))}\n")
    print("The noise of its gradient, as `noise_model`:\n")
    for name, kind in sorted(noise_models().items()):
        print(f"{name}\n{describe(kind, ('summary',))}\n")


def run_show(name: str) -> None:
    """The command `traindyn show`."""
    from equations.internal import did_you_mean

    from .catalogue import algorithms, describe, edge_flows, exported, forms, noise_models, signals

    brief = {**forms(), **signals(), **noise_models()}
    known = {**brief, **edge_flows(), **exported(), **algorithms()}
    plain = name.lower().replace("-", "_")
    plain = plain if plain in known else plain.replace("_", "")
    if plain not in known:
        hint = did_you_mean(plain, known)
        raise ValueError(f"Argument `name` must be a name of `traindyn list`, but {name!r} was given.{hint}")
    parts = ("summary",) if plain in brief else ("summary", "formula", "sources")
    print(f"{plain}\n{describe(known[plain], parts)}")


def run_compare(options: Compare) -> None:
    """The command `traindyn compare`."""
    from .files import check_folder

    kinds = {kind.__name__.lower(): kind for kind in map(_lookup, options.equation)}
    if not kinds:
        raise ValueError("Argument `equation` must name at least one algorithm, but none was given.")
    equations_ = {
        name: _composed(
            kind(
                LEARNING_RATES.get(name, 1e-3) if options.learning_rate is None else options.learning_rate,
                options.batch_size,
                options.sampling,
            ),
            options,
        )
        for name, kind in kinds.items()
    }
    from dynamics.internal import check_schedule

    save_every = options.save_every
    if save_every is None:
        save_every = max(k for k in range(1, 11) if options.steps % k == 0)
    for equation in equations_.values():
        check_schedule(options.steps, _paths(equation, options), save_every)
    folder = check_folder("output", options.output)

    import jax

    from equations.internal import integer

    from .._compare.compare import compare
    from .compare_report import write_report
    from .digits import digits_problem
    from .function import load_problem
    from .progress import cost_in_words, progress

    begin = time.monotonic()
    key = jax.random.key(integer("seed", options.seed, minimum=0, maximum=2**32 - 1))
    own, data_key = options.problem != "digits", jax.random.fold_in(key, 0)
    hidden = integer("hidden", options.hidden)
    objective, network, observe = load_problem(options.problem, data_key) if own else digits_problem(data_key, hidden)
    comparisons = {}
    with progress(3 * len(equations_), hidden=options.silent) as show:
        for place, (name, equation) in enumerate(equations_.items()):
            cost = cost_in_words(equation, objective, network, options.steps, options.substeps)

            def stage(what, name=name, place=place, cost=cost):
                done = 3 * place + ("discrete", "equation", "refinement").index(what)
                show(description=f"{name}: {what}{cost if what == 'equation' else ''}", completed=done)

            try:
                comparisons[name] = compare(
                    equation, objective, network, steps=options.steps, key=jax.random.fold_in(key, 1),
                    paths=_paths(equation, options), observe=observe, save_every=save_every,
                    substeps=options.substeps, noise=options.noise,
                    progress=stage,
                )  # fmt: skip
            except KeyboardInterrupt:
                if not comparisons:
                    raise
                break
            show(completed=3 * place + 3)
        show(description="report")
        title = f"Continuous and discrete training: {options.problem if own else 'tanh network on digits'}"
        described = {
            "data": "scikit-learn digits, 1797 images of 8 x 8",
            "network": f"tanh, 64-{options.hidden}-10, cross-entropy, float32",
        }
        apart = {"output", "hidden", "equation", "problem"} | set(NAMES)
        configuration = {
            **({} if own else described),
            **{
                name.replace("_", " "): value
                for name, value in dataclasses.asdict(options).items()
                if name not in apart and value is not None
            },
        }
        files = write_report(folder, title, comparisons, configuration)
    for comparison in comparisons.values():
        print(comparison, end="\n\n")
    print(f"{time.monotonic() - begin:.0f} s; written: {', '.join(str(path) for path in files.values())}")
    told_if_interrupted(len(comparisons), len(equations_), "algorithms")
    if any(share == 1 for comparison in comparisons.values() for share in comparison.failed.values()):
        sys.exit(DIVERGED)


def main() -> None:
    """Entry point: exits with 2 and one line on a wrong argument."""
    command = tyro.extras.SubcommandApp()

    def guarded(run, options) -> None:
        try:
            run(options)
        except KeyboardInterrupt:
            print("traindyn: interrupted; nothing was written", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except (ValueError, TypeError) as error:
            if not str(error).startswith("Argument"):
                raise  # not a wrong argument but a defect
            print(f"traindyn: {error}", file=sys.stderr)
            sys.exit(2)

    def reported(run, options: Shown) -> None:
        guarded(functools.partial(shown, run), options)

    @command.command(name="compare")
    def _(options: tyro.conf.OmitArgPrefixes[Compare]) -> None:
        """Compare continuous and discrete training of a network on real data."""
        reported(run_compare, options)

    @command.command(name="irreversibility")
    def _(options: tyro.conf.OmitArgPrefixes[Irreversible]) -> None:
        """Measure how irreversible training on real data is, and which symmetries that breaks."""
        reported(run_irreversibility, options)

    @command.command(name="circuit")
    def _(options: tyro.conf.OmitArgPrefixes[CircuitOptions]) -> None:
        """Let plastic circuits learn in continuous time; vary delay and time scales."""
        reported(run_circuit, options)

    @command.command(name="regimes")
    def _(options: tyro.conf.OmitArgPrefixes[RegimesOptions]) -> None:
        """Show which model of full-batch training holds at which learning rate, up to the edge of stability."""
        reported(run_regimes, options)

    @command.command(name="atlas")
    def _(options: tyro.conf.OmitArgPrefixes[AtlasOptions]) -> None:
        """Predict, simulate and judge the papers that this project is built from."""
        reported(run_atlas, options)

    @command.command(name="sweep")
    def _(options: tyro.conf.OmitArgPrefixes[SweepOptions]) -> None:
        """Run one experiment at many settings, given in a file, by several processes into one store."""
        guarded(run_sweep, options)

    @command.command(name="list")
    def _() -> None:
        """The algorithms: formula, scaling, natural clock, order and source of each."""
        run_list()

    @command.command(name="show")
    def _(name: tyro.conf.Positional[str]) -> None:
        """One of these: formula, scaling, order and source.

        Args:
            name: As `traindyn list` has it.
        """
        guarded(run_show, name)

    if sys.argv[1:] == ["--version"]:
        print(f"traindyn {importlib.metadata.version('traindyn')}")
        return
    try:
        arguments = with_config(sys.argv[1:])
    except ValueError as error:
        print(f"traindyn: {error}", file=sys.stderr)
        sys.exit(2)
    command.cli(
        args=arguments,
        prog="traindyn",
        description="Training algorithms as differential equations, held against the discrete algorithms they model. "
        "Exits with 0 where all is done or holds, with 2 on wrong use, with 3 where all paths of a side diverge, and where "
        "a verdict is asked for, as by `atlas`, with 1 if it fails and 4 if it cannot be told. `--tyro-print-completion "
        "bash` (or zsh, tcsh) prints what completes commands in a shell.",
    )

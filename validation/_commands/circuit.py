"""The command `traindyn circuit`."""

import dataclasses
import math
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from .options import Shown

_DEFAULTS = {
    "circles": {
        "rules": ("FA", "KP"), "time": 600.0, "duration": 0.02, "tau_plasticity": 1.0, "tau_decay": 500.0,
        "hidden": (24, 24), "paths": 3, "delays": (0.2, 0.4, 0.6, 0.8, 1.0), "ratios": (5.0, 15.0, 50.0, 150.0, 500.0),
    },
    "mnist": {
        "rules": ("SGD", "DFA", "KP"), "time": 1200.0, "duration": 0.02, "tau_plasticity": 3.0, "tau_decay": 3000.0,
        "hidden": (64,), "paths": 1, "delays": (), "ratios": (),
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class CircuitOptions(Shown):
    """Let plastic circuits learn in continuous time, and vary the delay of their errors and their time scales.

    Prints a table and writes report.html and results.json. Times are in seconds of the circuit.
    """

    data: Literal["circles", "mnist"] = "circles"
    """What is learned: two circles in the plane, or 14 x 14 MNIST (5000 images; four minutes)."""
    rules: tuple[str, ...] | None = None
    """Feedback of the circuits, of SGD, FA, DFA, KP; by default FA KP, for mnist SGD DFA KP."""
    time: float | None = None
    """How long circuits learn; by default 600, for mnist 1200. Half of that in the sweeps."""
    duration: float | None = None
    """How long a stimulus lasts; by default 0.02."""
    tau_propagation: float = 1e-3
    """Time constant of activities and errors."""
    tau_plasticity: float | None = None
    """Time constant of plasticity; by default 1, for mnist 3."""
    tau_decay: float | None = None
    """Time constant of the decay of weights; by default 500, for mnist 3000."""
    delays: tuple[float, ...] | None = None
    """Delays of the error over the duration of a stimulus, for the sweep; by default 0.2 to 1, for mnist none."""
    ratios: tuple[float, ...] | None = None
    """tau_plasticity over the duration of a stimulus, for the sweep; by default 5 to 500, for mnist none."""
    sweep_delay: float = 0.4
    """The delay in the sweep over time scales."""
    paths: int | None = None
    """Circuits of each kind, which see stimuli in different order; by default 3, for mnist 1."""
    hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers; by default 24 24, for mnist 64."""
    seed: int = 0
    """Seed of the data, of the first weights and of the stimuli."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("traindyn-circuit")
    """Folder of the report, made if need be; files of an earlier run are replaced."""


def _completed(options: CircuitOptions) -> CircuitOptions:
    """The options with the defaults of the data in place of None."""
    missing = {k: v for k, v in _DEFAULTS[options.data].items() if getattr(options, k) is None}
    return dataclasses.replace(options, **missing)


def _check_rules(rules: tuple[str, ...]) -> tuple[str, ...]:
    from equations.internal import FEEDBACK, did_you_mean

    if not rules:
        raise ValueError(f"Argument `rules` must name at least one of {', '.join(FEEDBACK)}, but none was given.")
    for rule in rules:
        if rule not in FEEDBACK:
            raise ValueError(
                f"Argument `rules` must be of {', '.join(FEEDBACK)}, but {rule!r} was given."
                + did_you_mean(rule.upper(), FEEDBACK, cutoff=0.0)
            )
    return tuple(dict.fromkeys(rules))


def _times(options: CircuitOptions):
    from equations.internal import positive

    from .circuit_run import Times

    values = {
        name: float(positive(name)(getattr(options, name)))
        for name in ("time", "duration", "tau_propagation", "tau_plasticity", "tau_decay")
    }
    count = round(values["time"] / values["duration"])
    if count < 2 or not math.isclose(count * values["duration"], values["time"], rel_tol=1e-6):
        raise ValueError(
            f"Argument `time` must be two or more durations of {values['duration']:g} s, but {values['time']!r} was given."
        )
    return Times(
        values["duration"], values["tau_propagation"], values["tau_plasticity"], values["tau_decay"], count
    )  # fmt: skip


def run_circuit(options: CircuitOptions) -> None:
    """The command `traindyn circuit`."""
    from equations.internal import integer, nonnegative, positive

    from .files import check_folder

    options = _completed(options)
    rules, times = _check_rules(options.rules or ()), _times(options)
    delays = tuple(float(nonnegative("delays")(delay)) for delay in options.delays or ())
    ratios = tuple(float(positive("ratios")(ratio)) for ratio in options.ratios or ())
    sweep_delay = float(nonnegative("sweep_delay")(options.sweep_delay))
    paths, hidden = integer("paths", options.paths), tuple(integer("hidden", width) for width in options.hidden or ())
    seed = integer("seed", options.seed, minimum=0, maximum=2**32 - 1)

    import jax

    from .circuit_data import circles, mnist
    from .circuit_report import summary, write_circuit
    from .circuit_run import delay_law, learn, step_length
    from .progress import progress

    step = step_length(times)
    for name, values in (("delays", delays), ("sweep_delay", (sweep_delay,))):
        for value in values:
            steps = value * times.duration / step
            if not math.isclose(steps, round(steps), abs_tol=1e-6):
                raise ValueError(
                    f"Argument `{name}` must be multiples of the solver's step, {step:g} s, over the duration, "
                    f"{step / times.duration:g}, but {value!r} was given."
                )
    folder = check_folder("output", options.output)
    begin, key = time.monotonic(), jax.random.key(seed)
    task = (circles if options.data == "circles" else mnist)(jax.random.fold_in(key, 0))
    half = dataclasses.replace(times, count=times.count // 2)

    def circuits(rule, times, delay, draw=False):
        return learn(task, times, rule, hidden, paths, jax.random.fold_in(key, 1), delay, draw)

    jobs: dict[Any, tuple] = {
        ("curve", rule): (circuits, rule, times, 0.0, options.data == "circles") for rule in rules
    }
    jobs |= {("delay", rule, delay): (circuits, rule, half, delay) for rule in rules for delay in delays}
    for ratio in ratios:
        slow = dataclasses.replace(half, plasticity=ratio * times.duration)
        jobs |= {("ratio", rule, ratio): (circuits, rule, slow, sweep_delay) for rule in rules}
    if delays:
        jobs["law"] = delay_law, times, delays, jax.random.fold_in(key, 2)
    with progress(len(jobs), "circuits", hidden=options.silent) as show:

        def done(job):
            result = job[0](*job[1:])
            show(advance=1)
            return result

        # XLA runs a small circuit on one core: two at a time fill two.
        pool = ThreadPoolExecutor(2)
        try:
            with warnings.catch_warnings():  # the sweep is there to show what such a delay does
                warnings.filterwarnings("ignore", "delay / duration")
                results = dict(zip(jobs, pool.map(done, jobs.values()), strict=True))
        finally:
            pool.shutdown(cancel_futures=True)
    runs = {
        kind: [result for name, result in results.items() if name[0] == kind] for kind in ("curve", "delay", "ratio")
    }
    layers = "-".join(map(str, (task.x.shape[1], *hidden, task.y.shape[1])))
    configuration = {
        "data": task.name,
        "circuit": f"{layers}, tanh, linear output, one input always on",
        "solver": f"Euler, steps of {step:g} s, float32",
        **{
            name.replace("_", " "): value
            for name, value in dataclasses.asdict(options).items()
            if name not in ("data", "output", "hidden")
        },
    }
    files = write_circuit(folder, task, runs, results.get("law"), configuration)
    print(summary(runs, results.get("law")))
    print(f"\n{time.monotonic() - begin:.0f} s; written: {', '.join(str(path) for path in files.values())}")

"""What the command `traindyn circuit` computes: circuits that learn, and how delay and time scales change that."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, stimuli
from equations import Circuit
from equations.internal import warn

from .._plain import plain
from .circuit_data import Task

_RECORDS = 24


@dataclasses.dataclass(frozen=True)
class Times:
    """The times of a circuit, in seconds; `count` stimuli are shown."""

    duration: float
    propagation: float
    plasticity: float
    decay: float
    count: int


@dataclasses.dataclass(frozen=True)
class Run:
    """Circuits of one kind that learned.

    - `delay`: over the duration of a stimulus; `ratio`: tau_plasticity over it.
    - `times`: `(saves,)`, seconds. `accuracy`, `test`: `(paths, saves)`, of the examples that were shown and of others.
    - `alignment`: `(paths, saves, matrices)`. `ok`: `(paths,)`, False for weights that diverged; then all that is recorded
        from there on is what was before, and `mean` leaves them out.
    - `surface`: the output of the first circuit in the end on a grid of the plane, or None.
    """

    rule: str
    delay: float
    ratio: float
    times: np.ndarray
    accuracy: np.ndarray
    test: np.ndarray
    alignment: np.ndarray
    ok: np.ndarray
    surface: np.ndarray | None = None

    def mean(self, records: np.ndarray) -> Any:
        """The mean over the circuits that did not diverge of `(paths, ...)`; NaN where all did."""
        return records[self.ok].mean(axis=0) if self.ok.any() else np.full(records.shape[1:], np.nan)

    def to_dict(self) -> dict:
        """Plain numbers and lists, without the surface."""
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "surface"}


@dataclasses.dataclass(frozen=True)
class Law:
    """The learning rate of a linear neuron with a delayed error, over that without delay, and its standard error."""

    delay: np.ndarray
    rate: np.ndarray
    error: np.ndarray

    def to_dict(self) -> dict:
        return plain(dataclasses.asdict(self))


EDGE = 1.5
_GRID = 61


def learn(task: Task, times: Times, rule: str, hidden: tuple[int, ...], paths: int, key, delay=0.0, draw=False) -> Run:
    """Circuits of one rule: `paths` runs from the same random weights, each with stimuli of its own."""
    circuit = Circuit(
        layers=(task.x.shape[1], *hidden, task.y.shape[1]), feedback=rule, tau_propagation=times.propagation,
        tau_plasticity=times.plasticity, tau_decay=times.decay, delay=delay * times.duration,
    )  # fmt: skip
    observe: dict[str, Any] = {
        "accuracy": circuit.accuracy(task.x, task.y),
        "test": circuit.accuracy(task.x_test, task.y_test),
    }
    if rule != "SGD":
        observe["alignment"] = circuit.alignment
    stream = stimuli(task.x, task.y, duration=times.duration, sampling="shuffled")
    saves = next(saves for saves in range(min(_RECORDS, times.count), 0, -1) if times.count % saves == 0)
    run = solve(
        circuit, stream, circuit.init(jax.random.fold_in(key, 0)), steps=times.count, dt=step_length(times),
        save_every=times.count // saves, key=jax.random.fold_in(key, 1), paths=paths, observe=observe,
    )  # fmt: skip
    surface = None
    if draw:
        weights = jax.tree.map(lambda leaf: leaf[0], run.final)
        axis = jnp.linspace(-EDGE, EDGE, _GRID)
        plane = jnp.stack([*jnp.meshgrid(axis, axis), jnp.full((_GRID, _GRID), task.x[0, -1])], axis=-1)
        output = jax.vmap(lambda x: circuit.output(weights, x)[0])(plane.reshape(-1, 3).astype(task.x.dtype))
        surface = np.asarray(output).reshape(_GRID, _GRID)
    records = {name: np.asarray(value, float) for name, value in run.observables.items()}
    alignment = records.get("alignment", np.ones((paths, saves + 1, 0)))
    return Run(
        rule=rule,
        delay=delay,
        ratio=times.plasticity / times.duration,
        times=np.asarray(run.steps) * times.duration,
        accuracy=records["accuracy"],
        test=records["test"],
        alignment=alignment,
        ok=np.asarray(run.ok),
        surface=surface,
    )


def step_length(times: Times) -> float:
    """The largest step of at most half the propagation time that divides a stimulus, and so a tenth of it, evenly."""
    return times.duration / (10 * math.ceil(times.duration / (5 * times.propagation)))


def delay_law(times: Times, delays: tuple[float, ...], key, paths: int = 400, count: int = 300) -> Law:
    """The rate at which the mean of a linear neuron's weights nears its teacher's, from zero; by theory 1 - delay/T.

    Over the rate of a neuron without delay, which itself is not T/tau_plasticity: its output lags behind its input.
    """
    size, plasticity = 5, 200 * times.duration
    x = jax.random.normal(jax.random.fold_in(key, 0), (20_000, size))
    teacher = jnp.full(size, size**-0.5)
    stream = stimuli(x, x @ teacher, duration=times.duration)
    rates = []
    for delay in (0.0, *delays):
        neuron = Circuit(
            layers=(size, 1), feedback="SGD", tau_propagation=times.propagation, tau_plasticity=plasticity,
            delay=delay * times.duration,
        )  # fmt: skip
        start = jax.tree.map(jnp.zeros_like, neuron.init(key))
        run = solve(
            neuron, stream, start, steps=count, dt=step_length(times), save_every=count, paths=paths,
            key=jax.random.fold_in(key, 1),
        )  # fmt: skip
        if not run.ok.all():
            warn(
                f"{int((~run.ok).sum())} of {paths} neurons diverged at delay {delay:g}, and are left out of its rate."
            )
        done = np.asarray(run.final.forward[0][:, 0] @ teacher, float)[np.asarray(run.ok)]
        left, scale = 1 - done.mean(), plasticity / (count * times.duration)
        rates.append((-np.log(left) * scale, done.std() / done.size**0.5 / left * scale))
    (whole, error), *_ = rates
    rate, errors = np.asarray(rates[1:]).T / whole
    return Law(np.asarray(delays), rate, np.hypot(errors, rate * error / whole))

"""What the three ways of an order sweep share, and the one without noise."""

import dataclasses
from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dynamics.internal import Problem, first_record, sees_state
from equations import AbstractEquation, AbstractSignal
from equations.internal import Increment

from .._compare.statistics import Estimate
from .._runaway import RUNAWAY, largest
from .fit import Sweep, sweep
from .runs import deterministic, handover

MEASURES = ("mean", "second moment", "variance/eta")


@dataclasses.dataclass(frozen=True)
class Sides:
    """What a sweep is made of: the problem, its equation at every learning rate, and per learning rate the training steps,
    those of the transient, and the natural time of a step."""

    problem: Problem
    family: list[AbstractEquation]
    steps: np.ndarray
    skips: np.ndarray
    lengths: np.ndarray

    @property
    def signal(self) -> AbstractSignal:
        """Bound to the `static` part of the model."""
        return self.problem.signal

    @property
    def dynamic(self) -> PyTree:
        """The parameters that are trained."""
        return self.problem.dynamic

    @property
    def static(self) -> PyTree:
        """The rest of the model."""
        return self.problem.static

    @property
    def observe(self) -> dict:
        """What is observed of a model, by name."""
        return self.problem.observe

    @property
    def spreads(self) -> np.ndarray:
        """What variances are measured in: the natural time of a step, or 1 where they do not vanish with it."""
        return np.array([float(equation.scaling_limit().variance_scale()) for equation in self.family])

    def increment(self, place: int) -> AbstractEquation:
        """The discrete algorithm at a learning rate, as a vector field."""
        return discrete_side(self.family[place])

    def check_transient(self) -> None:
        """Raises a ValueError unless the equation can go on from a state of the algorithm, where there is a transient."""
        first = self.family[0]
        if self.skips.any() and handover(first, discrete_side(first), self.dynamic) is None:
            raise ValueError(
                f"Argument `transient` must be 0 for {type(first).__name__}, whose state is not that of its twin; "
                "modified(equation, order=1) has that state."
            )

    def first(self) -> dict[str, np.ndarray]:
        """The observables at the start, as vectors."""
        values = first_record(self.observe, self.dynamic, self.static, self.family[0])
        return {name: np.asarray(value, float).ravel() for name, value in values.items()}

    @property
    def see_state(self) -> bool:
        """Whether an observable takes the state of the equation beside the parameters."""
        return any(map(sees_state, self.observe.values()))

    def farthest(self) -> float:
        """The size beyond which parameters have diverged, whatever overflows."""
        return RUNAWAY * max(1.0, float(largest(self.dynamic)))

    def floor(self) -> float:
        """The relative error of rounding that a statistic may have; errors three times as large count."""
        return 150 * float(jnp.finfo(jnp.result_type(*jax.tree.leaves(self.dynamic))).eps)


class Outcome(NamedTuple):
    """Sweeps by observable and measure, the algorithm's last parameters and the failed fraction by learning rate."""

    sweeps: dict[str, dict[str, Sweep]]
    finals: list[PyTree]
    failed: np.ndarray


class Error(NamedTuple):
    """Of one statistic at one learning rate: its error's norm, that of the solver error, and what may hide it; how much the
    algorithm changes it over the run, and the degrees of freedom of the standard errors."""

    norm: tuple[float, float]
    solver: tuple[float, float]
    hidden: float
    change: float
    freedom: float = np.inf


def discrete_side(equation: AbstractEquation) -> AbstractEquation:
    """The increment field of the algorithm that an equation models."""
    increment = equation.series().increment
    return Increment.of(equation) if increment is None else increment


def gather(sides: Sides, errors: list[dict[str, dict[str, Error]]], finals, failed) -> Outcome:
    """From errors by learning rate to sweeps by observable and measure."""
    sweeps = {}
    for name, measures in errors[0].items():
        sweeps[name] = {}
        for measure in measures:
            column = [at[name][measure] for at in errors]
            value, solver = (
                Estimate(*np.array([getattr(error, part) for error in column]).T) for part in ("norm", "solver")
            )
            hidden = np.array([error.hidden for error in column])
            freedom = np.array([error.freedom for error in column])
            claim = sides.family[0].scaling_limit().claimed_order(measure)
            sweeps[name][measure] = sweep(sides.lengths, value, solver, hidden, claim, freedom, column[-1].change)
    return Outcome(sweeps, finals, np.asarray(failed, float))


def without_noise(sides: Sides, solver: dfx.AbstractERK, substeps: int) -> Outcome:
    """The equation with fixed steps, refined once."""
    order: Any = solver.order(None)
    ratio = 2**order - 1
    errors, finals, failed, first = [], [], [], sides.first()
    for place, equation in enumerate(sides.family):
        (coarse, fine, run), final, finite, size = deterministic(
            equation,
            sides.increment(place),
            sides.signal,
            sides.dynamic,
            static=sides.static,
            observe=sides.observe,
            steps=jnp.asarray(sides.steps[place]),
            skip=jnp.asarray(sides.skips[place]),
            solver=solver,
            substeps=jnp.asarray(substeps),
        )
        at = {}
        for name in sides.observe:
            a, b, c = (np.asarray(side[name], float).ravel() for side in (coarse, fine, run))
            solved, length = float(np.linalg.norm(a - b)) / ratio, float(np.linalg.norm(c))
            hidden = solved + sides.floor() * length
            change = float(np.linalg.norm(c - first[name]))
            at[name] = {"mean": Error((float(np.linalg.norm(b - c)), 0.0), (solved, 0.0), hidden, change)}
        errors.append(at)
        finals.append(final)
        failed.append(not (bool(finite) and float(size) <= sides.farthest()))
    return gather(sides, errors, finals, failed)

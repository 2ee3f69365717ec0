"""`compare`: an equation held against the discrete algorithm it models."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from dynamics import Trajectory
from dynamics.internal import (
    Layout,
    Method,
    Problem,
    check_concrete,
    check_substeps,
    draws,
    hyperparameters,
    of_large_batches,
    solve_problem,
    title,
    train_problem,
    warn_of_cost,
    warn_of_sample,
    weak_order,
)
from equations import AbstractEquation, AbstractSignal
from equations.internal import choice, integer, is_parameter, warn_sampling, with_loss_noise

from .._plain import plain, versions
from .._runaway import RUNAWAY, largest
from .observables import observables
from .sampling import sampling_errors
from .statistics import Moment, moments
from .table import table

_PATHS = 64
_MOST = 64  # substeps, of which the refinement takes twice as many


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The result of `compare`. `print(result)` is a table; `result.to_dict()` is what `results.json` holds.

    **Attributes:**

    - `equation`: what was compared.
    - `flow`, `refined`: the equation's trajectories at `substeps` and at twice as many, on the same Brownian paths.
    - `run`: the discrete algorithm's.
    - `moments`: `moments[observable]["mean" | "variance"]` is a `Moment`, an estimate with its standard error for every
        saved step: of both sides, of their difference, of the solver error and of the model error. Where the drift is a
        mean over some keys of a random loss, its own error is in them, by runs with other keys (`sampling`).
    - `scale`: the largest of the first parameters, at least 1.
    """

    equation: AbstractEquation
    flow: Trajectory
    refined: Trajectory
    run: Trajectory
    moments: dict[str, dict[str, Moment]]
    scale: float = 1.0

    @property
    def steps(self) -> np.ndarray:
        """The saved steps, shape `(saves,)`."""
        return np.asarray(self.flow.steps)

    @property
    def times(self) -> np.ndarray:
        """The sum of the learning rates of the steps before, shape `(saves,)`."""
        return np.asarray(self.flow.times, float)

    @property
    def failed(self) -> dict[str, float]:
        """The fraction of paths that diverged, for each side; they are left out of every average, which biases it."""
        sides = {"equation": self.flow, "refined": self.refined, "discrete": self.run}
        return {side: float(np.mean(~np.asarray(trajectory.ok))) for side, trajectory in sides.items()}

    @property
    def runaway(self) -> dict[str, tuple[float, float]]:
        """The fraction of paths that did not fail but end beyond 1e8 times `scale`, and how far, for each side: these
        diverge, though no number has overflowed yet, and stay in the averages."""
        sides = {"equation": self.flow, "refined": self.refined, "discrete": self.run}
        return {side: _runaway(trajectory, self.scale) for side, trajectory in sides.items()}

    def plot(self, observable: str | None = None, component: tuple[int, ...] = (), ax: Any = None) -> Any:
        """`validation.plot_fan` of this; of the first observable, where none is named."""
        from .plots import plot_fan

        return plot_fan(self, next(iter(self.flow.observables)) if observable is None else observable, component, ax)

    def __str__(self):
        return table(self)

    def to_dict(self) -> dict:
        """Plain dicts, lists, numbers and strings; NaN and infinity are None."""
        return {
            "equation": title(self.equation),
            "hyperparameters": hyperparameters(self.equation),
            "paths": {"equation": int(self.flow.ok.size), "discrete": int(self.run.ok.size)},
            "details": {"equation": dict(self.flow.details), "discrete": dict(self.run.details)},
            "failed_fraction": self.failed,
            "runaway_fraction": {side: fraction for side, (fraction, _) in self.runaway.items()},
            "steps": self.steps.tolist(),
            "times": self.times.tolist(),
            "observables": {
                name: {
                    statistic: {part: plain(e) for part, e in moment.estimates().items()}
                    for statistic, moment in statistics.items()
                }
                for name, statistics in self.moments.items()
            },
            "degrees_of_freedom": {
                name: {statistic: plain(moment.freedom) for statistic, moment in statistics.items()}
                for name, statistics in self.moments.items()
            },
            "versions": versions(),
        }


def compare(
    equation: AbstractEquation,
    objective: AbstractSignal,
    params: PyTree = None,
    *,
    steps: int,
    key: Array | None = None,
    paths: int | None = None,
    observe: dict | None = None,
    save_every: int = 1,
    substeps: int | str | None = None,
    solver: dfx.AbstractSolver | None = None,
    noise: str = "minibatch",
    progress: Callable[[str], None] | None = None,
    start: Trajectory | None = None,
    frozen: Any = None,
    devices: Any = None,
    block: int | None = None,
) -> Comparison:
    """Holds an equation against its discrete twin: model, solver and Monte Carlo error apart.

    Three ensembles are run: the equation, the equation at half the solver's step on the same Brownian paths (their paired
    difference gives the solver error), and, from an independent key, the discrete algorithm. `SVAG(l)` is refined by twice
    the l, on batches of which half are the same.

    **Arguments:** as for `solve` and `train`, except

    - `paths`: of each ensemble, by default 64; at least 2 where something is random, for there is no error bar from one.
    - `observe`: `None` records the objective's `value` as `"loss"`, if it has one.
    - `start`: of a run of `train`, from the end of which both sides go on, the algorithm to the bit. Where something is
        random and that was a run of one path, `paths` of them begin at its end on both sides, with a `key` of their own.
    - `progress`: called with the name of each stage as it begins.

    **Returns:** a `Comparison`.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    layout = Layout.of(devices, block)
    equation, objective, params, start, observe = layout.placed((equation, objective, params, start, observe))
    problem = Problem.of(
        equation, objective, params, reads="equation", numbers_for="compare", start=start, frozen=frozen
    )
    check_concrete("compare", key=key)
    observe = observables(observe, objective, problem.whole, state=problem.state)
    noise = choice("noise", noise, ("minibatch", "gaussian"))
    random = draws(problem.equation, noise)
    paths = _paths(problem, paths, random)
    substeps, auto = check_substeps(substeps, problem.equation, maximum=_MOST)
    if auto and isinstance(solver, dfx.Euler):
        raise ValueError(f"Argument `substeps` must be an integer for {solver!r}, but 'auto' was given.")
    problem = problem.scheduled(steps, paths, save_every, observe, layout=layout)
    order = weak_order(problem.equation, problem.dynamic, solver)
    method = Method.of(problem, solver)
    coarse = of_large_batches(problem, method.solver, 1 if auto else 2 * substeps, halves=True)
    warn_sampling(problem.equation, problem.objective, problem.params)
    warn_of_cost(problem, method.solver, substeps)
    warn_of_sample(problem, method.solver)
    key, own = _keys(problem, key, random)
    if progress is not None and not callable(progress):
        raise TypeError(f"Argument `progress` must be callable or None, but {progress!r} was given.")
    progress = progress or (lambda stage: None)

    progress("discrete")
    run = jax.block_until_ready(train_problem(problem, own, noise))
    progress("equation")
    flow = solve_problem(coarse, method, key, substeps, auto)
    if auto:
        substeps = int(dict(flow.details)["substeps"])
    if substeps > _MOST:  # there must be twice as many
        substeps = _MOST
        flow = solve_problem(coarse, method, key, substeps)
    jax.block_until_ready(flow)
    progress("refinement")
    refined = jax.block_until_ready(solve_problem(coarse, method, key, 2 * substeps))

    sampling = sampling_errors(problem, lambda problem: solve_problem(problem, method, key, substeps, look=False))
    both, noisy = np.asarray(flow.ok & refined.ok), problem.equation.random
    kept = {
        name: moments(
            _ensemble(flow, name, both, noisy),
            _ensemble(refined, name, both, noisy),
            _ensemble(run, name, np.asarray(run.ok), random),
            order,
            (noisy, random),
            None if sampling is None else sampling[name],
        )
        for name in flow.observables
    }
    return Comparison(
        equation=with_loss_noise(equation, objective),
        flow=flow,
        refined=refined,
        run=run,
        moments=kept,
        scale=max(1.0, float(largest(problem.dynamic))),
    )


def _paths(problem: Problem, paths: Any, random: bool) -> int | None:
    """Of each ensemble; None for those that go on."""
    going_on = problem.start is not None and not (random and problem.start.checkpoint.paths == 1)
    if paths is None:
        return None if going_on else _PATHS
    return integer("paths", paths, minimum=2 if random else 1)


def _keys(problem: Problem, key: Any, random: bool) -> tuple[Array, Array]:
    """Of the equation and of the algorithm, independent of each other; a run that goes on has its own key on its side."""
    key = problem.check_key(key, random)
    start = problem.start
    if start is not None and start.checkpoint.kind == "discrete" and not start.many:
        return jax.random.fold_in(key, 0), key
    return jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)


def _runaway(trajectory: Trajectory, scale: float) -> tuple[float, float]:
    """The fraction of ok paths that are beyond `RUNAWAY` times the scale, and the largest parameter of these."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(trajectory.final, is_parameter))]
    ok = np.asarray(trajectory.ok)
    sizes = np.zeros(ok.size)
    for leaf in leaves:
        if leaf.size:
            sizes = np.maximum(sizes, np.max(np.abs(leaf.reshape(ok.size, -1)), axis=1))
    far = ok & (sizes > RUNAWAY * scale)
    return float(np.mean(far)), float(np.max(sizes[far], initial=0.0))


def _ensemble(trajectory: Trajectory, name: str, ok: np.ndarray, random: bool) -> np.ndarray:
    """One observable of the paths that did not diverge, in float64; one path where all are the same."""
    values = np.asarray(trajectory.observables[name], dtype=float)
    if not ok.any():
        return np.full((1, *values.shape[1:]), np.nan)
    return values[ok] if random else values[:1]

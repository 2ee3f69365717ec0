"""An order sweep by sampling."""

import dataclasses
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dynamics import Strang
from dynamics.internal import Method, Path, Problem, Steps, path_of, weak_order
from equations import AbstractEquation

from .._compare.statistics import variance_samples
from .ensemble import ensemble, patterns
from .fit import norm
from .sides import MEASURES, Error, Outcome, Sides, gather

# Numbers per path whose mean is the measure.
_PER_PATH = dict(zip(MEASURES, (lambda x: x, np.square, variance_samples), strict=True))


def solver_of(
    equation: AbstractEquation, params: PyTree, solver: dfx.AbstractSolver | None
) -> tuple[dfx.AbstractSolver, int]:
    """The solver for sampling, and the order of its means; a Runge-Kutta method without noise as the flow of a splitting.

    Raises a TypeError or ValueError for a solver that cannot be used.
    """
    order = weak_order(equation, params, solver)
    if not equation.random and not Steps(solver).split:
        solver = Strang(flow=solver or dfx.Tsit5())
    return solver or Strang(), order


def _at(sides: Sides, equation: AbstractEquation, steps: int) -> Problem:
    """The problem at a learning rate of the sweep."""
    return dataclasses.replace(sides.problem, equation=equation, dt=equation.learning_rate, steps=steps)


def _both(sides: Sides, method: Method, equation: AbstractEquation, substeps: int) -> tuple[Path, Path]:
    """Paths of the equation as solved, and as refined: of one step, since an ensemble goes as far as it wants."""
    problem = _at(sides, equation, 1)
    coarse: Any = path_of(problem, method, substeps)
    fine: Any = path_of(problem, method, 2 * substeps)
    return coarse, fine


def _before(measure: str, start: np.ndarray) -> np.ndarray:
    """A measure at the start, where all paths are at one point."""
    return {"mean": start, "second moment": start**2}.get(measure, 0.0 * start)


def by_sampling(sides: Sides, key, paths, noise, substeps, solver) -> tuple[str, Outcome]:
    """Ensembles of both sides, the equation refined once; the paths of a group count as one."""
    first = sides.family[0]
    noise = "minibatch" if first.sampling == "shuffled" else noise
    solver, order = solver_of(first, sides.dynamic, solver)
    whole = int(sides.steps[0] + sides.skips[0])
    method = Method.of(_at(sides, first, whole), solver, adjoint=dfx.ForwardMode())
    size = len(patterns(_both(sides, method, first, substeps)[1].kicks_per_step))
    groups = max(2, -(-paths // size))
    layout = sides.problem.layout.in_groups(size).blocks(groups, lambda: max(1, sides.problem.most_paths // size))
    remains = 4.0**-order  # of the solver error, by rule of thumb, after extrapolation
    ratio = 2**order / (2**order - 1)
    errors, finals, failed, first = [], [], [], sides.first()
    for place, equation in enumerate(sides.family):
        records, final, ok = ensemble(
            _both(sides, method, equation, substeps),
            sides.increment(place),
            sides.dynamic,
            jax.random.fold_in(key, place),
            steps=jnp.asarray(sides.steps[place]),
            skip=jnp.asarray(sides.skips[place]),
            groups=groups,
            noise=noise,
            farthest=jnp.asarray(sides.farthest()),
            layout=layout,
        )
        ok = np.asarray(ok).all(axis=1)
        at = {}
        for name in sides.observe:
            values = [np.asarray(side[name], float)[ok] for side in records]
            values = [value.reshape(size * len(value), int(np.prod(value.shape[2:]))) for value in values]
            at[name] = {}
            for measure, function in _PER_PATH.items():
                length = sides.spreads[place] if measure == "variance/eta" else 1.0
                if ok.sum() < 2:
                    at[name][measure] = Error((np.nan, np.nan), (np.nan, np.nan), np.nan, np.nan)
                    continue
                coarse, fine, run = (
                    function(value).reshape(-1, size, value.shape[1]).mean(axis=1) / length for value in values
                )
                excess = ratio * (coarse - fine)
                solved = norm(excess)
                scale = np.abs(run.mean(axis=0))
                if measure == "variance/eta":  # squares of differences between numbers of this size
                    scale = np.sqrt(scale * (values[2] ** 2).mean(axis=0) / length)
                at[name][measure] = Error(
                    norm(coarse - excess - run),
                    solved,
                    remains * solved[0] + sides.floor() * float(np.linalg.norm(scale)),
                    float(np.linalg.norm(run.mean(axis=0) - _before(measure, first[name]))),
                    len(run) - 1,
                )
        errors.append(at)
        finals.append(final)
        failed.append(1 - ok.mean())
    how = "the same normal numbers on both sides" if noise == "gaussian" else "minibatches, independent of the equation"
    method = f"sampling, {groups} antithetic groups of {size} paths, {how}; solver {solver!r}"
    return method, gather(sides, errors, finals, failed)

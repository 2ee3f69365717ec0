"""What the drift of a random loss may be off, where it is a mean over fixed keys of the examples."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dynamics import Trajectory
from dynamics.internal import Problem
from equations.internal import unchecked

from .statistics import SETS

_SHARE, _LEAST = 8, 16


def sampling_errors(
    problem: Problem, solved: Callable[[Problem], Trajectory]
) -> dict[str, dict[str, Float[np.ndarray, "saves ..."]]] | None:
    """The standard deviations of mean and variance of every observable over sets of keys, of which the equation has one;
    None where its drift is no such mean.

    `SETS` others are tried, on the same Brownian paths, of which an eighth will do: what differs between paths is common to
    all of them.

    **Arguments:** `solved`: what runs the equation.
    """
    signal = problem.objective
    if not (problem.has_examples and signal.random and signal.sampled):
        return None
    fewer = problem.paths if problem.start is not None else min(problem.paths, max(_LEAST, problem.paths // _SHARE))
    runs = []
    with unchecked():  # all is, on the set that is the equation's own
        for number in range(1, 1 + SETS):
            keys = number * signal.size + jnp.arange(signal.size)
            other = dataclasses.replace(problem, objective=signal.with_keys(keys), paths=fewer)
            runs.append(solved(other))
    ok = np.logical_and.reduce([np.asarray(run.ok) for run in runs])
    if not ok.any():
        return None
    found = {}
    for name in problem.observe:
        values = np.stack([np.asarray(run.observables[name], float)[ok] for run in runs])
        with np.errstate(over="ignore", invalid="ignore"):
            least = 1 if values.shape[1] > 1 else 0
            # About the first path and the first set: of equal values the spread is zero, not that of rounding.
            variance = (values - values[:, :1]).var(axis=1, ddof=least)
            statistics = {"mean": values.mean(axis=1), "variance": variance}
            found[name] = {kind: (each - each[0]).std(axis=0, ddof=1) for kind, each in statistics.items()}
    return found

"""Ensemble means and variances, with standard errors, and their errors told apart."""

from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A number per saved step (and per component of the observable), and its Monte Carlo standard error."""

    value: np.ndarray
    error: np.ndarray


class Moment(NamedTuple):
    """One statistic of one observable on both sides; every array has the shape `(saves, ...)`.

    - `equation`, `discrete`: the statistic of either ensemble.
    - `difference`: equation - discrete, as solved.
    - `solver_error`: equation as solved - equation solved exactly, estimated by refinement on the same Brownian paths.
    - `model_error`: difference - solver_error, what the equation itself says wrongly of the algorithm.
    """

    equation: Estimate
    discrete: Estimate
    difference: Estimate
    solver_error: Estimate
    model_error: Estimate


def _mean(per_path: np.ndarray) -> Estimate:
    """The mean over the leading axis; no error for a single path, which stands for a side without randomness."""
    count = len(per_path)
    error = per_path.std(axis=0, ddof=1) / count**0.5 if count > 1 else np.zeros(per_path.shape[1:])
    return Estimate(per_path.mean(axis=0), error)


def _squares(values: np.ndarray) -> np.ndarray:
    """Per path, numbers whose mean is the unbiased variance; their spread gives its standard error."""
    count = len(values)
    return (values - values.mean(axis=0)) ** 2 * (count / (count - 1) if count > 1 else 1.0)


def _subtract(a: Estimate, b: Estimate) -> Estimate:
    return Estimate(a.value - b.value, np.hypot(a.error, b.error))


def moments(equation: np.ndarray, refined: np.ndarray, discrete: np.ndarray, order: int) -> dict[str, Moment]:
    """Mean and variance over paths.

    **Arguments:**

    - `equation`, `refined`: `(paths, saves, ...)`, the same paths at one and at half the solver's step.
    - `discrete`: `(paths, saves, ...)`, an independent ensemble.
    - `order`: the weak order of the solver, for Richardson's extrapolation to a vanishing step.
    """
    ratio = 2**order / (2**order - 1)

    def moment(coarse, fine, other):
        excess = ratio * (coarse - fine)
        return Moment(
            equation=_mean(coarse),
            discrete=_mean(other),
            difference=_subtract(_mean(coarse), _mean(other)),
            solver_error=_mean(excess),
            model_error=_subtract(_mean(coarse - excess), _mean(other)),
        )

    sides = equation, refined, discrete
    with np.errstate(over="ignore", invalid="ignore"):  # an observable that is not finite gives a NaN, not a warning
        return {"mean": moment(*sides), "variance": moment(*map(_squares, sides))}

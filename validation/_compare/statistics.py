"""Ensemble means and variances, with standard errors, and their errors told apart."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from .student import welch

SETS = 8  # of keys, over which the drift of a random loss is looked at
_BESIDE = ("freedom", "extrapolated", "sampling", "skewness")


class Estimate(NamedTuple):
    """A number per saved step (and per component of the observable), and its Monte Carlo standard error."""

    value: Float[np.ndarray, "..."]
    error: Float[np.ndarray, "..."]

    def named(self) -> dict[str, np.ndarray]:
        """Its parts by the names that files use."""
        return {"value": self.value, "standard_error": self.error}


class Moment(NamedTuple):
    """One statistic of one observable on both sides; every array has the shape `(saves, ...)`.

    - `equation`, `discrete`: the statistic of either ensemble.
    - `difference`: equation - discrete, as solved.
    - `solver_error`: equation as solved - equation solved exactly, estimated by refinement on the same Brownian paths.
    - `model_error`: difference - solver_error, what the equation itself says wrongly of the algorithm.
    - `freedom`: the degrees of freedom of the model error's standard error (Welch 1947), by which Student's t says how much
        a number of standard errors means; infinite where there is no error.
    - `extrapolated`: equation - solver_error, the statistic of the equation solved exactly.
    - `sampling`: the standard error of the equation's statistic that comes from its drift, where that is a mean over some
        keys of a random loss: the spread over other sets of keys. It is in the errors of the equation, the difference and
        the model error. None where the drift is exact.
    - `skewness`: of the model error as an estimate, `(saves, ...)`: a mean of few skewed numbers and its standard error go
        together, which the number of standard errors makes up for (Hall 1992).
    """

    equation: Estimate
    discrete: Estimate
    difference: Estimate
    solver_error: Estimate
    model_error: Estimate
    freedom: Float[np.ndarray, "saves ..."]
    extrapolated: Estimate | None = None
    sampling: Float[np.ndarray, "saves ..."] | None = None
    skewness: Float[np.ndarray, "saves ..."] | float = 0.0

    def estimates(self) -> dict[str, Estimate]:
        """Its estimates by name, but what follows from others."""
        return {name: part for name, part in self._asdict().items() if name not in _BESIDE}


def mean_of(per_path: np.ndarray, random: bool, least: int = 2) -> Estimate:
    """The mean over the leading axis; its error is zero without randomness, and unknown (NaN) from less than `least` paths.

    Of two paths the squares about their mean are equal, so that a variance takes three.
    """
    count = len(per_path)
    if count < least:
        error = np.full(per_path.shape[1:], np.nan if random else 0.0)
    else:
        # About the first path: of equal values the spread is zero, not that of rounding.
        error = (per_path - per_path[0]).std(axis=0, ddof=1) / count**0.5
    return Estimate(per_path.mean(axis=0), error)


def variance_samples(values: np.ndarray) -> np.ndarray:
    """Per path, numbers whose mean is the unbiased variance; their spread gives its standard error."""
    count = len(values)
    # Centered on the first path before the mean is taken: equal values have variance zero, not that of rounding.
    centered = values - values[0]
    return (centered - centered.mean(axis=0)) ** 2 * (count / (count - 1) if count > 1 else 1.0)


def _skewness(error: np.ndarray, *sides: np.ndarray) -> np.ndarray:
    """Of a sum of means over independent ensembles, by the unbiased third moments of either."""
    third = np.zeros(sides[0].shape[1:])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        for side in sides:
            if (count := len(side)) > 2:
                off = (side - side.mean(axis=0)) / np.where(error > 0, error, 1.0)
                third = third + np.mean(off**3, axis=0) / ((count - 1) * (count - 2))
    return np.where((error > 0) & np.isfinite(third), third, 0.0)


def difference(a: Estimate, b: Estimate) -> Estimate:
    return Estimate(a.value - b.value, np.hypot(a.error, b.error))


def moments(
    equation: Shaped[np.ndarray, "paths saves ..."],
    refined: Shaped[np.ndarray, "paths saves ..."],
    discrete: Shaped[np.ndarray, "_ saves ..."],
    order: int,
    random=(True, True),
    sampling: dict[str, np.ndarray] | None = None,
) -> dict[str, Moment]:
    """Mean and variance over paths.

    **Arguments:**

    - `equation`, `refined`: `(paths, saves, ...)`, the same paths at one and at half the solver's step.
    - `discrete`: `(paths, saves, ...)`, an independent ensemble.
    - `order`: the weak order of the solver, for Richardson's extrapolation to a vanishing step.
    - `random`: whether the equation and whether the discrete side is random; if not, one path says all.
    - `sampling`: of the equation's mean and variance, what a drift over other keys changes; None: it has no such error.
    """
    ratio = 2**order / (2**order - 1)

    def moment(kind, coarse, fine, other, least):
        excess, off = ratio * (coarse - fine), None if sampling is None else sampling[kind]
        ours, discrete = (lambda values: mean_of(values, random[0], least)), mean_of(other, random[1], least)
        alone = ours(coarse - excess)
        found, solved = (_also(one, off) for one in (ours(coarse), alone))
        parts = [(alone.error, len(coarse) - 1), (discrete.error, len(other) - 1)]
        model = difference(solved, discrete)
        return Moment(
            equation=found,
            discrete=discrete,
            difference=difference(found, discrete),
            solver_error=ours(excess),
            model_error=model,
            freedom=welch(*parts, *([] if off is None else [(off, SETS - 1)])),
            extrapolated=solved,
            sampling=off,
            skewness=_skewness(model.error, (coarse - excess) * random[0], -other * random[1]),
        )

    sides = equation, refined, discrete
    with np.errstate(over="ignore", invalid="ignore"):  # an observable that is not finite gives a NaN, not a warning
        mean, variance = moment("mean", *sides, least=2), moment("variance", *map(variance_samples, sides), least=3)
    return {"mean": mean, "variance": variance}


def _also(estimate: Estimate, off: np.ndarray | None) -> Estimate:
    """With an independent error more."""
    return estimate if off is None else Estimate(estimate.value, np.hypot(estimate.error, off))

"""Random measurements against a number, a curve, a bound or a power."""

from typing import Any

import numpy as np

from equations.internal import real_array

from .._compare.statistics import Estimate, mean_of
from .._compare.student import deviations
from .._orders.fit import slope
from .judgment import Judgment, by_deviation

_NORMAL = 1.959964  # the half-width of a 95 % interval in standard errors
_LEAST = 3  # points of a slope


def judge_number(
    what: str, measured: Any, prediction: Any, *, mutant: Any, freedom: float | int | None = None
) -> Judgment:
    """Whether a measured number is the predicted one.

    **Arguments:**

    - `what`: is measured, in words.
    - `measured`: an `Estimate`, or independent samples of which it is the mean, shape `(n,)`: one for each path, or
        `dynamics.TimeAverage.mean`.
    - `prediction`: a number, or an `Estimate` where it has an error of its own.
    - `mutant`: what the measurement must reject: the prediction with a wrong constant, a lost term, or the rival theory's.
    - `freedom`: the degrees of freedom of the error of an `Estimate`; None: it is known.

    **Returns:** a `Judgment`.

    **Raises:** ValueError, naming the argument.
    """
    curve, expected, rival = _as_curve(measured, prediction, mutant)
    return judge_curve(what, curve, expected, mutant=rival, freedom=freedom)


def judge_curve(
    what: str, measured: Any, prediction: Any, *, mutant: Any, freedom: float | int | None = None
) -> Judgment:
    """Whether a measured curve is the predicted one at all its points together (a simultaneous band, by Bonferroni).

    **Arguments:** as of `judge_number`, with one axis more: samples `(n, points)`, an `Estimate` of arrays `(points,)`, and
    predictions `(points,)`. The numbers of the judgment are those where the mutant is the farthest off.
    """
    found, freedom = _estimate(measured, freedom)
    shape = np.shape(found.value)
    expected, rival = _predicted("prediction", prediction, shape), _predicted("mutant", mutant, shape)
    z, _ = _farthest(found, expected, freedom)
    mutant_z, place = _farthest(found, rival, freedom)  # which is where a reader sees what is told apart
    return by_deviation(
        what,
        z,
        mutant_z,
        prediction=expected.value[place],
        measured=found.value[place],
        standard_error=np.hypot(found.error[place], expected.error[place]),
        mutant=rival.value[place],
    )


def judge_bound(
    what: str,
    measured: Any,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    mutant: float,
    freedom: float | int | None = None,
) -> Judgment:
    """Whether a measured number keeps a bound, and breaks the one of the mutant.

    **Arguments:** as of `judge_number`, and exactly one of the bounds `at_least` and `at_most`.
    """
    if (at_least is None) == (at_most is None):
        raise ValueError(
            "Argument `at_least` must be given where `at_most` is not, but both or none of them were given."
        )
    sign, bound = (1.0, at_least) if at_most is None else (-1.0, at_most)
    curve, expected, rival = _as_curve(measured, bound, mutant)
    found, freedom = _estimate(curve, freedom)
    beyond = [sign * (float(limit[0]) - found.value[0]) for limit in (expected, rival)]  # positive where it is broken
    z, mutant_z = (np.sign(off) * deviations(off, found.error[0], freedom) for off in beyond)
    return by_deviation(
        what, z, mutant_z,
        prediction=expected[0], measured=found.value[0], standard_error=found.error[0], mutant=rival[0],
    )  # fmt: skip


def judge_slope(
    what: str, x: Any, measured: Any, prediction: float, *, mutant: float, freedom: float | int | None = None
) -> Judgment:
    """Whether a positive quantity goes as a power of `x`, in the limit of small `x`: d log measured / d log x.

    Its error counts Monte Carlo errors, scatter about the line, and the bend of the line, as that of `orders` does.

    **Arguments:** as of `judge_number`; `x` of shape `(points,)`, three points or more, `measured` an `Estimate` of arrays
    `(points,)` or samples `(n, points)`.
    """
    found, freedom = _estimate(measured, freedom)
    x = real_array("x", x, "real numbers")
    if x.shape != np.shape(found.value) or len(x) < _LEAST or not np.all(x > 0) or not np.all(found.value > 0):
        raise ValueError(
            f"Argument `x` must hold {_LEAST} positive numbers or more, one for each positive measurement, but "
            f"shape {x.shape} was given for {np.shape(found.value)}."
        )
    order = np.argsort(x)[::-1]
    value, half = slope(np.log(x[order]), Estimate(found.value[order], found.error[order]), freedom)
    error = half / _NORMAL
    z, mutant_z = (abs(value - power) / error for power in (prediction, mutant))
    return by_deviation(
        what, z, mutant_z, prediction=prediction, measured=value, standard_error=error, mutant=mutant
    )  # fmt: skip


def _as_curve(measured: Any, prediction: Any, mutant: Any) -> tuple[Any, Any, Any]:
    """A number as a curve of one point."""

    def number(name, value):
        found = real_array(name, value, "a real number")
        if found.size != 1:
            raise ValueError(f"Argument `{name}` must be a number, but shape {found.shape} was given.")
        return found.reshape(1)

    def one(name, value):
        return (
            Estimate(*(number(name, part) for part in value[:2])) if isinstance(value, tuple) else number(name, value)
        )

    expected = one("prediction", prediction), one("mutant", mutant)
    if isinstance(measured, tuple):
        return one("measured", measured), *expected
    samples = real_array("measured", measured, "samples (n,)")
    if samples.ndim != 1:
        raise ValueError(f"Argument `measured` must hold samples (n,), but shape {samples.shape} was given.")
    return samples[:, None], *expected


def _estimate(measured: Any, freedom: float | int | None) -> tuple[Estimate, float]:
    if isinstance(measured, tuple):
        found = Estimate(*(real_array("measured", part, "real numbers") for part in measured[:2]))
        if found.value.ndim != 1 or found.value.shape != found.error.shape or not found.value.size:
            raise ValueError(f"Argument `measured` must be an Estimate of arrays (points,), but {measured} was given.")
        return found, np.inf if freedom is None else float(freedom)
    samples = real_array("measured", measured, "samples (n, points)")
    if samples.ndim != 2 or len(samples) < _LEAST or not samples.shape[1]:
        raise ValueError(
            f"Argument `measured` must hold at least {_LEAST} samples (n, points), but shape {samples.shape} was given."
        )
    return mean_of(samples, True), len(samples) - 1.0


def _predicted(name: str, value: Any, shape: tuple) -> Estimate:
    known = not isinstance(value, tuple)
    parts = (value, np.zeros(shape)) if known else value
    found = Estimate(*(real_array(name, part, "real numbers") for part in parts))
    if found.value.shape != shape or found.error.shape != shape:
        raise ValueError(f"Argument `{name}` must have the shape {shape}, but {found.value.shape} was given.")
    return found


def _farthest(found: Estimate, expected: Estimate, freedom: float) -> tuple[float, int]:
    """How far off the farthest point is, for so many of them, and which it is. A point without an error must agree."""
    from scipy.special import ndtr, ndtri  # here, for the time that the import of SciPy takes

    off, error = found.value - expected.value, np.hypot(found.error, expected.error)
    rounding = 64 * np.finfo(float).eps * np.maximum(np.abs(found.value), np.abs(expected.value))
    exact = error <= rounding
    with np.errstate(invalid="ignore"):
        z = np.where(exact, np.where(np.abs(off) <= rounding, 0.0, np.inf), deviations(off, error, freedom))
    if not np.all(np.isfinite(found.value)):
        return np.nan, 0
    place = int(np.argmax(z))
    points = int(np.sum(~exact))
    chance = points * ndtr(-z[place])
    # Where the chance underflows, Bonferroni's factor changes nothing that one would see.
    corrected = z[place] if chance < 1e-200 or points < 2 else max(0.0, -ndtri(min(chance, 0.5)))
    return float(corrected), place

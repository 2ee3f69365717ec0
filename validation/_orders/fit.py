"""The order that a sequence of errors shows: slope, interval and verdict."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .._compare.statistics import Estimate
from .._compare.student import quantile, welch

_NORMAL = 1.959964  # of which a normal number has 95 % on both sides

MARGIN = 0.15  # by which a slope may stay below the claim
WIDEST = 0.25  # half-width beyond which an interval says nothing about an order
GROWTH = 2.0  # times, by which an error that grows as the learning rate falls says that there is no order
RIPPLE, DIP = 1.25, 0.1  # times by which it may fall again, and on its way by what part of the whole rise (logarithms)
CLEAR = 3.0  # standard errors, or sizes of what else hides it, that an error must have to count


class Sweep(NamedTuple):
    """What one statistic of one observable shows over the learning rates.

    - `errors`: norms over the components, shape `(rates,)`, with their Monte Carlo standard errors (0: none).
    - `solver_errors`: the like for the error of the numerical solution, which is taken out of `errors`.
    - `usable`: shape `(rates,)`, which of the errors stand out of Monte Carlo, solver and rounding error.
    - `slope`, `slope_error`: of the usable ones, with the half-width of a 95 % interval; NaN from fewer than three.
    - `local_slopes`: between neighbors, shape `(rates - 1,)`, with standard errors; NaN where one is not usable.
    - `claim`: the order that the equation claims.
    - `verdict`: "holds", "fails" or "cannot tell".
    - `resolved`: the smallest error that counts, over the change of the statistic in the run. An error of the equation that
        does not fall with the learning rate (a velocity wrong by a factor, say) is seen only if it is about as large.
    """

    errors: Estimate
    solver_errors: Estimate
    usable: Bool[np.ndarray, " rates"]
    slope: float
    slope_error: float
    local_slopes: Estimate
    claim: float
    verdict: str
    resolved: float = np.nan


def norm(per_path: Float[np.ndarray, "paths components"]) -> tuple[float, float]:
    """The length of the mean vector and its standard error, from `(paths, components)`; an error of 0 from one path.

    The square of a sample mean is too large by its own variance, which is subtracted; a mean that is all noise has
    length 0. Delta method: var |e|^2 = 4 e'Ce + 2 tr C^2 with C the covariance of the mean.
    """
    count, components = per_path.shape
    mean = per_path.mean(axis=0)
    if count == 1:
        return float(np.linalg.norm(mean)), 0.0
    centered = (per_path - mean) / np.sqrt(count * (count - 1.0))
    trace = np.sum(centered**2)
    gram = centered.T @ centered if components <= count else centered @ centered.T
    square = max(np.sum(mean**2) - trace, 0.0)
    deviation = np.sqrt(4 * np.sum((centered @ mean) ** 2) + 2 * np.sum(gram**2))
    return float(np.sqrt(square)), float(deviation / (2 * np.sqrt(max(square, trace, np.finfo(float).tiny))))


def _weights(x: np.ndarray, y: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, float]:
    """The coefficients c of the least-squares slope c.y, and the variance of the lack of fit that was found with it.

    Points have the variance `variance` + tau^2 with the tau that makes the residuals as large as their degrees of freedom
    say (Paule and Mandel 1982, J. Res. NBS 87, 377); 0 if Monte Carlo errors alone explain them.
    """

    from scipy.optimize import brentq  # here, for the time that its import takes

    def fit(tau2):
        weight = 1 / (variance + tau2)
        weight = weight / weight.max()
        center = np.sum(weight * x) / np.sum(weight)
        coefficients = weight * (x - center) / np.sum(weight * (x - center) ** 2)
        residuals = y - np.sum(weight * y) / np.sum(weight) - coefficients @ y * (x - center)
        return coefficients, np.sum(residuals**2 / (variance + tau2)) - (len(x) - 2)

    # The largest lack of fit there can be, and next to none: a floor for variances of zero.
    high = np.sum((y - y.mean()) ** 2) + 1e-20
    low = 1e-12 * high
    if np.all(variance > 0) and fit(0.0)[1] <= 0:
        return fit(0.0)[0], 0.0
    if fit(low)[1] <= 0:
        return fit(low)[0], low
    if fit(high)[1] > 0:
        return fit(high)[0], high
    root: Any = brentq(lambda log: fit(np.exp(log))[1], np.log(low), np.log(high), xtol=1e-14)
    tau2 = np.exp(root)
    return fit(tau2)[0], tau2


def slope(x: np.ndarray, errors: Estimate, freedom: np.ndarray | float | int = np.inf) -> tuple[float, float]:
    """The slope d log error / d x and the half-width of a 95 % interval for the order, its limit as x falls.

    `x` is the logarithm of the step, decreasing. Three things make up the interval:

    - Monte Carlo error, with the degrees of freedom `freedom` at each step;
    - scatter about the line, with as many degrees of freedom as the fit has residuals; those of the sum of both are by
        Satterthwaite 1946, Biometrics Bulletin 2, 110;
    - curvature: the slope without the largest step is off the limit by less, by the ratio of neighboring steps if the
        next order of the error bends the line. What this says of the whole distance, beyond its Monte Carlo error.
    """
    logs, variance = np.log(errors.value), (errors.error / errors.value) ** 2
    coefficients, tau2 = _weights(x, logs, variance)
    known, scatter = np.sum(coefficients**2 * variance), tau2 * np.sum(coefficients**2)
    parts = zip(np.abs(coefficients) * np.sqrt(variance), np.broadcast_to(freedom, len(x)), strict=True)
    student = float(quantile(_NORMAL, welch(*parts, (np.sqrt(scatter), len(x) - 2))))
    weight = 1 / (variance[1:] + tau2)
    centered = weight * (x[1:] - np.sum(weight * x[1:]) / np.sum(weight))
    change = coefficients - np.append(0.0, centered / np.sum(centered * x[1:]))
    bend = max((change @ logs) ** 2 - np.sum(change**2 * variance), 0.0)
    distance = 1 / (1 - np.exp(np.mean(np.diff(x))))
    return float(coefficients @ logs), float(np.sqrt(student**2 * (known + scatter) + distance**2 * bend))


def sweep(
    steps: np.ndarray,
    errors: Estimate,
    solver_errors: Estimate,
    hidden: np.ndarray,
    claim: float,
    freedom: np.ndarray | float | int = np.inf,
    change: float = np.nan,
) -> Sweep:
    """Fits and judges.

    **Arguments:**

    - `steps`: `(rates,)`, decreasing: training steps in natural time.
    - `errors`, `solver_errors`: as in `Sweep`.
    - `hidden`: `(rates,)`, how large an error of rounding or of the solver may remain in `errors`.
    - `claim`: the order claimed.
    - `freedom`: `(rates,)`, the degrees of freedom of the standard errors in `errors`: groups of paths less one.
    - `change`: of the statistic over the run at the smallest step, by the algorithm.
    """
    x, freedom = np.log(steps), np.broadcast_to(freedom, len(steps))
    clear = quantile(CLEAR, freedom)
    with np.errstate(divide="ignore", invalid="ignore"):
        usable = np.isfinite(errors.value) & (errors.value > clear * errors.error) & (errors.value > CLEAR * hidden)
        logs, deviations = np.log(errors.value), errors.error / errors.value
    pair = usable[1:] & usable[:-1]
    with np.errstate(invalid="ignore"):
        local = Estimate(
            np.where(pair, np.diff(logs) / np.diff(x), np.nan),
            np.where(pair, np.hypot(deviations[1:], deviations[:-1]) / np.abs(np.diff(x)), np.nan),
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        resolved = float(np.min(errors.value[usable], initial=np.inf) / change) if usable.any() else np.nan

    def judged(verdict: str, value: float = np.nan, half: float = np.nan) -> Sweep:
        return Sweep(
            errors=errors,
            solver_errors=solver_errors,
            usable=usable,
            slope=value,
            slope_error=half,
            local_slopes=local,
            claim=claim,
            verdict=verdict,
            resolved=resolved,
        )

    if _grows(errors, usable):
        return judged("fails", *_slope_or_nan(x, errors, usable, freedom))
    if usable.sum() < 3:
        return judged("cannot tell")
    value, half = slope(x[usable], Estimate(errors.value[usable], errors.error[usable]), freedom[usable])
    last = np.flatnonzero(usable)[-3:]
    final = np.diff(logs[last]) / np.diff(x[last])
    final_error = np.hypot(*deviations[last[1:]]) / abs(x[last[2]] - x[last[1]])
    wide = float(quantile(_NORMAL, welch(*zip(deviations[last[1:]], freedom[last[1:]], strict=True)))) * final_error
    return judged(_verdict(value, half, final, final_error, wide, claim - MARGIN), value, half)


def _grows(errors: Estimate, usable: np.ndarray) -> bool:
    """Whether the errors grow as the learning rate falls and never fall again, in the end perhaps beyond all numbers."""
    finite = np.isfinite(errors.value)
    overflow = np.array_equal(finite, np.sort(finite)[::-1]) and not finite[-1]
    if overflow and (finite[0] or np.any(np.isinf(errors.value))):
        return True
    if usable.sum() < 3:
        return False
    logs, deviations = np.log(errors.value[usable]), errors.error[usable] / errors.value[usable]
    highest = np.maximum.accumulate(logs)
    noise = CLEAR * np.hypot(
        deviations, deviations[np.searchsorted(highest, highest)]
    )  # of a value and the highest so far
    rise, unsure = logs[-1] - logs[0], CLEAR * np.hypot(deviations[-1], deviations[0])
    dips = np.append(np.full(len(logs) - 1, DIP * rise), 0.0)
    falls = highest - logs > np.maximum(noise, np.maximum(dips, np.log(RIPPLE)))
    return bool(not np.any(falls) and rise > max(unsure, np.log(GROWTH)))


def _slope_or_nan(x: np.ndarray, errors: Estimate, usable: np.ndarray, freedom: np.ndarray) -> tuple[float, float]:
    if usable.sum() < 3:
        return np.nan, np.nan
    return slope(x[usable], Estimate(errors.value[usable], errors.error[usable]), freedom[usable])


def _verdict(value: float, half: float, final: np.ndarray, final_error: float, wide: float, least: float) -> str:
    """From the slope and its half-width, and the two slopes between the last three learning rates, the last one's standard
    error and the half-width of its 95 % interval.

    A slope that has yet to rise to the claim as the learning rate falls is no failure, one that stays below it or falls
    away from it is: what the last slope would become, were it to rise once more as it did, must reach the claim, unless
    it is nearer to the claim than to the order below.
    """
    if not half <= WIDEST:
        return "cannot tell"
    reach = final[1] + max(0.0, final[1] - final[0])
    if final[1] > final[0] and final[1] > least + MARGIN - 0.5:
        # Nearer to the claim than to the order below, and rising: it may rise faster yet.
        return "holds" if value >= least else "cannot tell"
    if reach + wide < least or (value + half < least and reach + final_error < least):
        return "fails"
    return "holds" if value >= least else "cannot tell"

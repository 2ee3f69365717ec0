"""Samples against a density that is known up to normalization."""

from collections.abc import Callable
from typing import Any

import numpy as np

from equations.internal import real_array

from .judgment import Judgment, by_deviation

_NODES, _REACH = 8001, 4.3  # of a double exponential rule: what lies beyond has a weight below rounding
_LEAST = 8  # samples, or paths that tell how many of the samples count


def judge_density(
    what: str,
    samples: Any,
    log_density: Callable,
    *,
    mutant: Callable,
    support: tuple[float, float] = (-np.inf, np.inf),
) -> Judgment:
    """Whether samples have the predicted distribution, by Kolmogorov's and Smirnov's test.

    The density is normalized by quadrature (double exponential: singularities that can be integrated may stand at the ends
    of the support). Samples along a path depend on each other: how many independent ones they are worth is told by the
    spread, over paths, of the fraction below each decile.

    **Arguments:**

    - `what`: has the distribution, in words.
    - `samples`: `(paths,)`, all independent, or `(paths, times)` of independent paths.
    - `log_density`: the logarithm of the predicted density, up to a constant, of an array of values inside of the support.
    - `mutant`: that of the mutant.
    - `support`: the ends of the support, which may be infinite.

    **Returns:** a `Judgment` whose numbers are probabilities: where the mutant is the farthest off, the fraction of samples
    below as predicted, as measured, and by the mutant.

    **Raises:** TypeError or ValueError, naming the argument, also where a density cannot be integrated.
    """
    values = real_array("samples", samples, "real numbers")
    if values.ndim not in (1, 2) or len(values) < _LEAST or not np.all(np.isfinite(values)):
        raise ValueError(
            f"Argument `samples` must hold finite numbers (paths,) or (paths, times) of {_LEAST} paths or more, but shape "
            f"{values.shape} was given."
        )
    for name, density in (("log_density", log_density), ("mutant", mutant)):
        if not callable(density) or isinstance(density, type):
            raise TypeError(f"Argument `{name}` must be a function of an array of values, but {density!r} was given.")
    low, high = map(float, support)
    if not low < high:
        raise ValueError(f"Argument `support` must hold a lower and an upper end, but {support} was given.")
    paths = values.reshape(len(values), -1)
    ordered = np.sort(paths.ravel())
    expected, rival = (_below(name, density, low, high, ordered) for name, density in (
        ("log_density", log_density), ("mutant", mutant),
    ))  # fmt: skip
    count = _effective(paths, ordered)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    z, mutant_z = (_deviation(_gap(chances, steps).max(), count) for chances in (expected, rival))
    place = int(np.argmax(_gap(rival, steps)))
    measured = (place + 0.5) / len(ordered)
    return by_deviation(
        what, z, mutant_z,
        prediction=expected[place], measured=measured,
        standard_error=np.sqrt(expected[place] * (1 - expected[place]) / count), mutant=rival[place],
    )  # fmt: skip


def _below(name: str, log_density: Callable, low: float, high: float, values: np.ndarray) -> np.ndarray:
    """The probability below each value."""
    s = np.linspace(-_REACH, _REACH, _NODES)
    inner = np.pi / 2 * np.sinh(s)
    if np.isfinite(low) and np.isfinite(high):
        share, rest = 1 / (1 + np.exp(-2 * inner)), 1 / (1 + np.exp(2 * inner))
        x = np.where(s < 0, low + (high - low) * share, high - (high - low) * rest)
        weight = share * rest * np.cosh(s)
    elif np.isfinite(low) or np.isfinite(high):
        end, sign = (low, 1.0) if np.isfinite(low) else (high, -1.0)
        x, weight = end + sign * np.exp(inner), np.exp(inner) * np.cosh(s)
    else:
        x, weight = np.sinh(inner), np.cosh(inner) * np.cosh(s)
    with np.errstate(all="ignore"):
        logs = np.asarray(log_density(x), float) + np.log(weight)
        inside = np.isfinite(logs)
        mass = np.where(inside, np.exp(logs - np.max(logs[inside], initial=-np.inf)), 0.0)
    kept = mass[inside]
    if not kept.size or max(kept[0], kept[-1]) > 1e-3:
        raise ValueError(
            f"Argument `{name}` must be a density that can be integrated, but its integral does not converge."
        )
    sums = np.concatenate([[0.0], np.cumsum((mass[1:] + mass[:-1]) / 2)])
    order = np.argsort(x, kind="stable")
    below = sums / sums[-1] if order[0] == 0 else 1 - sums[order] / sums[-1]
    return np.interp(values, x[order], below, left=0.0, right=1.0)


def _gap(chances: np.ndarray, steps: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(chances - steps[:-1]), np.abs(chances - steps[1:]))


def _deviation(gap: float, count: float) -> float:
    """Of a largest gap that many independent samples show, as rare as a normal number so many deviations off."""
    from scipy.special import kolmogorov, ndtri  # here, for the time that the import of SciPy takes

    root = np.sqrt(count)
    scaled = (root + 0.12 + 0.11 / root) * gap  # Stephens 1970, J. Royal Statistical Society B 32, 115
    chance = kolmogorov(scaled)
    return float(-ndtri(chance / 2)) if chance > 1e-290 else float(2 * scaled)


def _effective(paths: np.ndarray, ordered: np.ndarray) -> float:
    """How many independent samples these are worth, at most all of them."""
    if paths.shape[1] == 1:
        return float(len(paths))
    levels = np.quantile(ordered, np.arange(1, 10) / 10)
    fractions = np.mean(paths[:, :, None] < levels, axis=1)
    chances = fractions.mean(axis=0)
    spread = fractions.var(axis=0, ddof=1) / len(paths)
    with np.errstate(divide="ignore"):
        found = np.where(spread > 0, chances * (1 - chances) / spread, np.inf)
    return float(min(np.median(found), paths.size))

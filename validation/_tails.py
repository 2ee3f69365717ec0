"""Power-law tails of stationary distributions: the exponent by theory and from samples."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Array, Shaped

from equations.internal import integer, real_array

from ._compare.statistics import Estimate


def tail_index(
    multipliers: Shaped[Array | np.ndarray, " n"] | Any, weights: Shaped[Array | np.ndarray, " n"] | Any = None
) -> float:
    r"""Kesten's root: the exponent beta of P(|w| > x) ~ x^-beta in the stationary state of w' = A w + b, A and b random.

    It is the beta > 0 with E|A|^beta = 1 (Kesten 1973, Acta Mathematica 131). For SGD on a regression with one weight the
    multiplier of a step is A = 1 - learning_rate * (mean of x^2 over the batch), so that for single examples `multipliers`
    is 1 - learning_rate * x**2.

    **Arguments:**

    - `multipliers`: values of A, shape `(n,)`: all that there are, a sample, or quadrature points.
    - `weights`: their probabilities, up to a common factor; None: all the same.

    **Returns:** beta; infinity where |A| never exceeds 1 and the distribution has no such tail.

    **Raises:** ValueError, naming the argument, also where E log|A| >= 0 and there is no stationary state.
    """
    from scipy.optimize import brentq  # here, for the time that the import of SciPy takes
    from scipy.special import logsumexp

    multipliers = real_array("multipliers", multipliers, "real numbers")
    if multipliers.ndim != 1 or not multipliers.size or not np.all(np.isfinite(multipliers)):
        raise ValueError("Argument `multipliers` must be a vector of finite numbers, but another array was given.")
    weights = np.ones_like(multipliers) if weights is None else real_array("weights", weights, "real numbers")
    if weights.shape != multipliers.shape or not (np.all(weights >= 0) and 0 < np.sum(weights) < np.inf):
        raise ValueError(
            "Argument `weights` must hold a probability for each multiplier, but something else was given."
        )
    kept = (weights > 0) & (multipliers != 0)
    lost = np.sum(weights[~kept])
    sizes, chances = np.log(np.abs(multipliers[kept])), weights[kept] / np.sum(weights)
    if lost == 0 and chances @ sizes >= 0:
        raise ValueError("Argument `multipliers` must have a negative mean logarithm, or no state is stationary.")
    if not sizes.size or np.max(sizes) <= 0:
        return float("inf")

    def excess(beta) -> Any:
        """log E|A|^beta, convex, below zero up to the root."""
        return logsumexp(beta * sizes, b=chances)

    high = 1.0
    while excess(high) <= 0:
        high *= 2
    low = high
    while excess(low) >= 0:
        low /= 2
    root: Any = brentq(excess, low, high, xtol=max(1e-15 * low, 1e-300))
    return root


def hill(samples: Shaped[Array | np.ndarray, "..."] | Any, largest: int) -> Estimate:
    """Hill's estimate of a tail index from the `largest` largest of |samples|, with its standard error beta/sqrt(largest).

    The samples must be independent, and of a distribution without atoms. (Hill 1975, Annals of Statistics 3) Its error
    knows nothing of what the distribution is short of a power law among so many: `tail_scan` looks for that.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    sizes = np.sort(np.abs(real_array("samples", samples, "real numbers").ravel()))[::-1]
    largest = integer("largest", largest, minimum=2, maximum=max(2, sizes.size - 1))
    if sizes.size <= largest or not (np.all(np.isfinite(sizes)) and sizes[largest] > 0):
        raise ValueError("Argument `samples` must hold more than `largest` finite numbers beside zero, but does not.")
    if sizes[0] == sizes[largest]:
        raise ValueError(
            f"Argument `samples` must differ in their {largest + 1} largest sizes, but all of these are {sizes[0]:g}."
        )
    value = 1 / np.mean(np.log(sizes[:largest] / sizes[largest]))
    return Estimate(value, value / largest**0.5)


_FEWEST, _PLATEAU, _INWARD, _TREND = 32, 1024, 8, 2.5


@dataclasses.dataclass(frozen=True)
class TailScan:
    """What `tail_scan` returns.

    **Attributes:**

    - `verdict`: `"plateau"` or `"cannot tell"`.
    - `exponent`: an `Estimate` on the plateau, NaN where there is none; for `judge_number`.
    - `largest`: the number of samples that it is from; 0 where there is none.
    - `counts`: numbers of largest samples, `(n,)`, in geometric order.
    - `estimates`: Hill's at each of them, `(n,)`, with statistical errors alone.
    - `trends`: at each of them, how many standard errors the spacings of the logarithms drift, `(n,)`.
    """

    verdict: str
    exponent: Estimate
    largest: int
    counts: np.ndarray
    estimates: Estimate
    trends: np.ndarray

    def __str__(self):
        reach = f"no drift among the largest {_INWARD * self.largest}" if self.largest else "no plateau"
        return (
            f"{self.verdict}: {self.exponent.value:.4g} ± {self.exponent.error:.2g} of {self.largest} samples, {reach}"
        )


def tail_scan(samples: Shaped[Array | np.ndarray, "..."] | Any) -> TailScan:
    r"""Hill's estimate over the number of samples that it takes, and whether it has a plateau.

    Under a power law the spacings i ln(X_i/X_(i+1)) of the sorted sizes are independent, exponential and of the mean 1/beta
    for all i. Of a distribution that is one only in its tail they drift, and Hill's estimate with them: against ln i the
    drift is tested at every count (a score test, in the manner of Guillou and Hall 2001, J. Royal Statistical Society B 63,
    293). The plateau ends where it first shows, at 2.5 standard errors. A bias that is just not seen there may be as large
    as the error, so the estimate is from an eighth of these samples, where it is about half of it for corrections that
    fall off as x^-beta, and is added to the error in quadrature. A plateau has 1024 samples or more: fewer do not tell a
    power law from an exponential tail. (From a lognormal distribution of large variance no number of samples does.)

    **Arguments:** `samples`: independent, of a distribution without atoms; their signs are left out.

    **Raises:** ValueError, naming the argument.
    """
    sizes = np.sort(np.abs(real_array("samples", samples, "real numbers").ravel()))[::-1]
    sizes = sizes[: np.searchsorted(-sizes, 0.0)]
    if sizes.size < 2 * _FEWEST or not np.all(np.isfinite(sizes)) or sizes[0] == sizes[2 * _FEWEST - 1]:
        raise ValueError(
            f"Argument `samples` must hold at least {2 * _FEWEST} finite numbers beside zero that differ, but does not."
        )
    octaves = np.log2((sizes.size - 1) / _FEWEST)
    counts = np.unique((_FEWEST * 2 ** np.arange(0, octaves + 1e-9, 0.5)).astype(int))
    places = np.arange(1, sizes.size)
    spacings = places * np.log(sizes[:-1] / sizes[1:])
    logs = np.log(places)
    sums, weighted, first, second = (np.cumsum(part)[counts - 1] for part in (spacings, logs * spacings, logs, logs**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = counts / sums
        trends = (weighted - first / counts * sums) / (sums / counts * np.sqrt(second - first**2 / counts))
    scanned: Any = dict(counts=counts, estimates=Estimate(values, values / np.sqrt(counts)), trends=trends)
    flat = np.cumprod(np.abs(trends) < _TREND).astype(bool)
    reach = int(counts[flat][-1]) if flat.any() else 0
    if reach < _PLATEAU:
        return TailScan("cannot tell", Estimate(np.asarray(np.nan), np.asarray(np.nan)), 0, **scanned)
    largest = reach // _INWARD
    found = hill(sizes, largest)
    return TailScan("plateau", Estimate(found.value, found.error * 1.25**0.5), largest, **scanned)

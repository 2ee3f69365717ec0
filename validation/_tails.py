"""Power-law tails of stationary distributions: the exponent by theory and from samples."""

from typing import Any

import numpy as np
from jaxtyping import Array, Shaped

from equations.internal import integer

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

    multipliers = np.asarray(multipliers, float)
    if multipliers.ndim != 1 or not multipliers.size or not np.all(np.isfinite(multipliers)):
        raise ValueError("Argument `multipliers` must be a vector of finite numbers, but another array was given.")
    weights = np.ones_like(multipliers) if weights is None else np.asarray(weights, float)
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

    The samples must be independent, and of a distribution without atoms. (Hill 1975, Annals of Statistics 3)

    **Raises:** TypeError or ValueError, naming the argument.
    """
    sizes = np.sort(np.abs(np.asarray(samples, float).ravel()))[::-1]
    largest = integer("largest", largest, minimum=2, maximum=max(2, sizes.size - 1))
    if sizes.size <= largest or not (np.all(np.isfinite(sizes)) and sizes[largest] > 0):
        raise ValueError("Argument `samples` must hold more than `largest` finite numbers beside zero, but does not.")
    if sizes[0] == sizes[largest]:
        raise ValueError(
            f"Argument `samples` must differ in their {largest + 1} largest sizes, but all of these are {sizes[0]:g}."
        )
    value = 1 / np.mean(np.log(sizes[:largest] / sizes[largest]))
    return Estimate(value, value / largest**0.5)

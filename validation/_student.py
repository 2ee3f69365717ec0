"""Error bars from few samples."""

import numpy as np
from scipy.special import ndtr, stdtrit

_ERRORS = 3.0  # so many error bars are what a deviation is judged by


def widening(freedom: int) -> float:
    """What an estimated standard error is widened by, so that three of them hold as often as three of a known one.

    A third of Student's quantile at the probability of three standard deviations: 1.51 at 7 degrees of freedom.
    """
    return float(stdtrit(freedom, ndtr(_ERRORS)) / _ERRORS) if freedom > 0 else np.nan


def root_with_error(square: float, error: float) -> tuple[float, float]:
    """The root of an estimated square, which may be negative, and its error bar.

    Three of it span what three of the square's do. So it is never 0 where that is not, and where the square is within three
    of 0 the root is too.
    """
    value, reach = max(square, 0.0) ** 0.5, _ERRORS * error
    up, down = (max(square, 0.0) + reach) ** 0.5 - value, value - max(square - reach, 0.0) ** 0.5
    return value, float(max(up, down) / _ERRORS)

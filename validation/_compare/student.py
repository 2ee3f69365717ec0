"""Student's t: how many standard errors there must be where these are estimated from few paths themselves."""

import numpy as np

_ERRORS = 3.0  # so many error bars are what a deviation is judged by
_PARTS, _FEWER = 64, 16  # of a skewness, at which an error bar is looked at, and a deviation of many numbers


def welch(*parts: tuple) -> np.ndarray:
    """The degrees of freedom of a sum of independent estimates, from pairs of standard error and degrees of freedom.

    (Welch 1947, Biometrika 34; Satterthwaite 1946, Biometrics Bulletin 2, 110.) Infinite without any error.
    """
    errors = np.broadcast_arrays(*(np.asarray(error, float) for error, _ in parts))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        largest = np.max(errors, axis=0)  # in units of it, for powers of small errors underflow
        squares = [np.where(largest == 0, 0.0, error / largest) ** 2 for error in errors]
        below = sum(square**2 / np.maximum(freedom, 1e-9) for square, (_, freedom) in zip(squares, parts, strict=True))
        return np.where(below > 0, sum(squares) ** 2 / below, np.where(np.isnan(below), np.nan, np.inf))


def quantile(sigmas, freedom, skewness=0.0) -> np.ndarray:
    """The standard errors beyond which a mean with so many degrees of freedom lies as rarely as a normal number beyond
    `sigmas` standard deviations: 2 of a normal number are 2.43 with seven degrees of freedom.

    `skewness` is that of the mean itself, g/sqrt n for n draws of the skewness g. A mean and its own standard error go
    together where single draws are skewed: the draws that are missing would raise both, which Student's quantile does not
    know. The transform of Hall (1992, J. R. Stat. Soc. B 54, 221) takes a skewness p of the mean out of it,

        T + p T^2/3 + p^2 T^3/27 + p/6,  T = (mean - truth)/(standard error),

    and where that is Student's quantile, T is not the same on both sides: the longer counts, and the longest of all
    skewnesses up to p, which few draws show too small.
    """
    from scipy.special import ndtr, stdtrit  # here, for the time that the import of SciPy takes

    freedom = np.asarray(freedom, float)
    finite = np.isfinite(freedom)
    found = -stdtrit(np.where(finite, freedom, 1.0), ndtr(-float(sigmas)))
    reach = np.where(finite, found, np.where(np.isnan(freedom), np.nan, sigmas))
    longest = reach
    for part in _up_to(np.abs(skewness), _PARTS):
        sides = [np.cbrt(1 + part * (x - part / 6)) - 1 for x in (reach, -reach)]
        longest = np.maximum(longest, 3 / part * np.max(np.abs(sides), axis=0))
    return longest


def deviations(value, error, freedom, skewness=0.0) -> np.ndarray:
    """How far an estimate is from zero: as rare as a normal number so many standard deviations off; NaN where there is no
    error to measure it by. `skewness` is that of the estimate, as for `quantile`, either sign."""
    from scipy.special import ndtri, stdtr

    value, error, freedom = (np.asarray(part, float) for part in (value, error, freedom))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(error > 0, np.abs(value) / error, np.nan)
        signed = np.sign(value) * ratio
        for part in _up_to(skewness, _FEWER):
            ratio = np.minimum(ratio, np.abs(signed + part * signed**2 / 3 + part**2 * signed**3 / 27 + part / 6))
        finite = np.where(np.isfinite(freedom), freedom, 1.0)
        chance = stdtr(finite, -ratio)
        exact = -ndtri(chance)
        # Where the chance underflows: Wallace 1959, Annals of Mathematical Statistics 30, 1121, good to three digits.
        far = (8 * finite + 1) / (8 * finite + 3) * np.sqrt(finite * np.log1p(ratio**2 / finite))
    return np.where(np.isposinf(freedom), ratio, np.where(chance > 1e-290, exact, far))


def _up_to(skewness, parts: int):
    """The skewnesses up to one, either sign, one after the other: none of them is 0."""
    if np.any(skewness):
        for fraction in np.linspace(1, 0, parts, endpoint=False):
            part = fraction * np.nan_to_num(skewness)
            yield np.where(np.abs(part) > 1e-6, part, 1e-6)


def widening(freedom: int) -> float:
    """What an estimated standard error is widened by, so that three of them hold as often as three of a known one.

    1.51 at 7 degrees of freedom.
    """
    return float(quantile(_ERRORS, freedom) / _ERRORS) if freedom > 0 else np.nan


def skewed(skewness, number: int) -> np.ndarray:
    """What the standard error of a mean of `number` draws of such a skewness is multiplied by, so that three hold.

    It is `widening` at no skewness.
    """
    most = (number - 2) / (number - 1) ** 0.5  # of so many numbers, all but one being equal
    size = np.clip(np.abs(np.nan_to_num(skewness)), 0, most)
    return np.broadcast_to(quantile(_ERRORS, number - 1, size / number**0.5) / _ERRORS, size.shape)


def root_with_error(square: float, error: float) -> tuple[float, float]:
    """The root of an estimated square, which may be negative, and its error bar.

    Three of it span what three of the square's do. So it is never 0 where that is not, and where the square is within three
    of 0 the root is too.
    """
    value, reach = max(square, 0.0) ** 0.5, _ERRORS * error
    up, down = (max(square, 0.0) + reach) ** 0.5 - value, value - max(square - reach, 0.0) ** 0.5
    return value, float(max(up, down) / _ERRORS)

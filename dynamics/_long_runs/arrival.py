"""Whether a run has arrived where it stays: how much of it is left out, and what its parts say of each other."""

import numpy as np
from jaxtyping import Float

from .correlation import autocorrelation_time

NEAR, FAR = 3.0, 4.0  # normal deviations: up to here parts agree, and from here on they do not


def burn_in(means: list[Float[np.ndarray, "paths batches numbers"]]) -> int:
    """The number of batches to leave out: where the squared standard error of the mean of the rest is the least, summed
    over numbers, each in units of the later half's (White 1997, Simulation 69, 323). At most half of them."""
    over = [part.mean(axis=0) for part in means]
    series = np.concatenate(over, axis=-1)  # (batches, numbers)
    half = len(series) // 2
    spread = series[half:].var(axis=0)
    series = series[:, spread > 0] / np.sqrt(spread[spread > 0])
    if not series.size:
        return 0
    errors = [series[place:].var(axis=0).sum() / (len(series) - place) for place in range(half + 1)]
    return int(np.argmin(errors))


def halves_apart(means: Float[np.ndarray, "paths batches *rest"]) -> float:
    """How far the means of two halves are apart, as rare as a normal number so many deviations off, over all numbers
    together (Bonferroni): by the spread of their difference over paths, or where these are few by that of batches."""
    paths, batches = means.shape[:2]
    half = batches // 2
    parts = means[:, :half].reshape(paths, half, -1), means[:, -half:].reshape(paths, half, -1)
    off = parts[1].mean(axis=1) - parts[0].mean(axis=1)
    if paths >= ENOUGH:
        error, freedom = off.std(axis=0, ddof=1) / np.sqrt(paths), paths - 1.0
    else:
        squares = [_mean_error(part) for part in parts]
        error, freedom = np.sqrt(squares[0][0] + squares[1][0]), min(one[1] for one in squares)
    return _farthest(np.abs(off.mean(axis=0)), error, freedom)


def starts_apart(means: Float[np.ndarray, "paths batches *rest"]) -> float:
    """How much more the means of whole paths differ than what each does in time lets them, as for `halves_apart`.

    Fisher's F of the variance between paths over that within, corrected for the correlation of batches; NaN for one path.
    """
    from scipy.special import fdtrc, ndtri  # here, for the time that the import of SciPy takes

    paths, batches = means.shape[:2]
    if paths < 2:
        return float("nan")
    flat = means.reshape(paths, batches, -1)
    within = flat - flat.mean(axis=1, keepdims=True)
    tau = np.maximum(autocorrelation_time(within), 1.0)
    # About their own mean both the variance and the autocorrelation time of a path are too small by about so much.
    seen = 1 - np.minimum(tau / batches, 0.5)
    variance = within.var(axis=(0, 1)) * tau / batches / seen**2
    between = flat.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(between > 1e-24 * np.square(flat).max(initial=0.0), between / variance, 0.0)
    freedom = np.maximum(paths * (batches / tau - 1), 1.0)
    chance = np.min(fdtrc(paths - 1, freedom, ratio)) * ratio.size
    return float(max(0.0, -ndtri(max(min(chance / 2, 0.5), 1e-300))))


ENOUGH = 16  # paths, whose own spread then tells errors


def mean_and_error(means: Float[np.ndarray, "paths batches *rest"]) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, standard error and its degrees of freedom: of many paths by their spread, of few by that of batches too,
    corrected for the correlation of these."""
    paths = len(means)
    flat = means.reshape(*means.shape[:2], -1)
    shape, center = means.shape[2:], flat.mean(axis=(0, 1))
    if paths >= ENOUGH:
        error, freedom = flat.mean(axis=1).std(axis=0, ddof=1) / np.sqrt(paths), paths - 1.0
    else:
        square, freedom = _mean_error(flat)
        error = np.sqrt(square)
    return center.reshape(shape), error.reshape(shape), freedom


def _mean_error(flat: np.ndarray) -> tuple[np.ndarray, float]:
    """The squared standard error of the mean of batches, and its degrees of freedom."""
    paths, batches = flat.shape[:2]
    tau = np.maximum(autocorrelation_time(flat), 1.0)
    square = flat.var(axis=(0, 1)) * tau / (paths * batches - np.minimum(tau, paths * batches / 2))
    return square, float(max(1.0, np.min(paths * batches / tau) - 1))


def _farthest(off: np.ndarray, error: np.ndarray, freedom: float) -> float:
    from scipy.special import ndtri, stdtr

    moves = error > 0
    if not moves.any():
        return 0.0
    chance = np.min(stdtr(freedom, -off[moves] / error[moves])) * moves.sum()
    return float(max(0.0, -ndtri(max(min(chance, 0.5), 1e-300))))

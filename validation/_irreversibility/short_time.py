"""Entropy production from the short-time thermodynamic uncertainty relation: of trajectories alone."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from equations.internal import positive, real_array, warn

from .._compare.statistics import Estimate

_BLOCKS = 16  # groups of paths whose spread gives the standard error
_NO_SPREAD = 1e-12  # variance of a current over the largest: nothing but rounding
_SHORT = 0.07  # relative change of a rate between every save and every second
_MOVED = 0.4  # mean square of an increment over the variance: 15 % off for slow linear rotations, more for fast ones
_ROUNDED = 0.05  # mean square of what rounding changes an increment by, over that of increments
_ULPS = 8  # a coordinate or a direction that keeps within so many of its mean is at rest


class ShortTimeBound(Estimate):
    """A rate and its standard error, `value, error = bound`, and what it tends to as `dt` falls.

    - `extrapolated`: 2 r(dt) - r(2 dt), an `Estimate`, with r by every save and by every second one: the rate without its
        error of first order in dt. None of two saves, which have no second one. What `value` is below it bounds the bias.
    """

    extrapolated: Estimate | None

    def __new__(cls, value, error, extrapolated):
        estimate = super().__new__(cls, np.asarray(value), np.asarray(error))
        estimate.extrapolated = extrapolated
        return estimate

    def __str__(self):
        beyond = self.extrapolated
        limit = "" if beyond is None else f"; extrapolated to dt = 0: {beyond.value:.4g} ± {beyond.error:.2g}"
        return f"rate {self.value:.4g} ± {self.error:.2g}{limit}"


def checked_paths(states: Any, dt: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Paths `(paths, saves, d)` about their mean, how far apart numbers of each coordinate are, and the time between saves.

    What is told of paths does not depend on where their origin is, but products of increments with what stands far from it
    have the variance of the distance.
    """
    wording = "Argument `states` must be finite, of shape (paths, saves, d) with at least 32 paths and 2 saves, but "
    array = real_array("states", states, "finite numbers, of shape (paths, saves, d)")
    if array.ndim != 3 or array.shape[0] < 2 * _BLOCKS or array.shape[1] < 2:
        raise ValueError(f"{wording}shape {array.shape} was given.")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{wording}it holds NaN or infinity.")
    step = float(positive("dt")(dt))
    centered = array - array[0, 0]
    centered = centered - centered.mean(axis=(0, 1))
    ulps = _ulps(array, np.asarray(states).dtype)
    centered = np.where(np.abs(centered).max(axis=(0, 1)) > _ULPS * ulps, centered, 0.0)
    _warn_of_rounding(centered, ulps, array)
    return centered, ulps, step


def _ulps(array: np.ndarray, dtype: Any) -> np.ndarray:
    """How far numbers of the largest size of each coordinate are apart in the dtype that was given, `(d,)`."""
    eps = jnp.finfo(dtype if jnp.issubdtype(dtype, jnp.floating) else float).eps
    return np.abs(array).max(axis=(0, 1)) * float(eps)


def _warn_of_rounding(centered: np.ndarray, ulps: np.ndarray, array: np.ndarray) -> None:
    change = np.mean(np.diff(centered, axis=1) ** 2, axis=(0, 1))
    part = np.where(change > 0, ulps**2 / 6 / np.where(change > 0, change, 1), 0)
    worst = int(np.argmax(part))
    if part[worst] > _ROUNDED:
        warn(
            f"Argument `states`: coordinate {worst} is up to {np.abs(array[..., worst]).max():.3g} and changes by "
            f"{change[worst] ** 0.5:.2g} from save to save, where its precision ends at {ulps[worst]:.2g}: rounding is a "
            "noise of that size, which makes a rate too small. Save in float64, or from a nearer origin."
        )


def short_time_bound(states: Shaped[Array | np.ndarray, "paths saves d"] | Any, dt: float) -> ShortTimeBound:
    r"""The entropy production rate from the short-time thermodynamic uncertainty relation.

    The rate is max_d 2 <J>^2/(dt Var J) over currents J = d(y) o dy, the increment times a field at the midpoint (Otsubo,
    Ito, Dechant and Sagawa 2020, Phys. Rev. E 101, 062106). Over fields affine in y the maximum is 2 m^T V^{-1} m/dt with
    the means m and covariances V of the d^2 + d products: exact for a linear process with constant noise, a lower bound for
    all others. The bias of m^T V^{-1} m, the number of products over the number of increments, is taken out.

    **Arguments:**

    - `states`: stationary paths, `(paths, saves, d)`; at least 32 paths, and in a sixteenth of them at least four
        increments for each of the d^2 + d products.
    - `dt`: the time between saves, short against the process: the error is O(dt). Saves that are whole turns of a narrow
        cycle apart look like those of a slow process, and no test of them tells.

    **Returns:** a `ShortTimeBound`: the rate and its standard error, from the spread over 16 groups of paths, and beside it
    the rate that every save and every second one let expect at dt = 0. Neither depends on the origin of the states nor on
    linear coordinates.

    **Raises:** ValueError, naming the argument, also where a current has no noise; a warning where in some direction the
    mean square of an increment is more than .4 times the variance (2 is that of independent saves, of which no rate is
    left), or the rate by every second save differs by more than 7 % and 4 standard errors; of two saves, where the entropy
    of a step is not small; and where numbers are so large that their rounding shows in the increments.
    """
    paths, ulps, dt = checked_paths(states, dt)
    middle, change = _increments(paths)
    fewest, products = len(middle) // _BLOCKS * middle.shape[1], middle.shape[-1] * (middle.shape[-1] + 1)
    if fewest < 4 * products:
        raise ValueError(
            f"Argument `states` must hold at least {4 * products} increments in a sixteenth of the paths, for the "
            f"{products} products of {middle.shape[-1]} coordinates, but it holds {fewest}."
        )
    paths = whitened(paths, ulps)
    middle, change = _increments(paths)
    blocks = [slice(part[0], part[-1] + 1) for part in np.array_split(np.arange(len(middle)), _BLOCKS)]
    currents = _currents(middle, change)
    value, values = _rate(currents, dt), np.array([_rate(currents[block], dt) for block in blocks])
    error = float(values.std(ddof=1) / _BLOCKS**0.5)
    beyond = None
    if paths.shape[1] > 2:
        second = [_currents(*_increments(paths[:, place::2])) for place in (0, 1) if paths.shape[1] > place + 2]
        by_second = float(np.mean([_rate(part, 2 * dt) for part in second]))
        changes = values - [np.mean([_rate(part[block], 2 * dt) for part in second]) for block in blocks]
        beyond = _by(2 * value - by_second, values + changes)
    moved = largest_move(paths)
    if moved > _MOVED:
        warn(
            f"Argument `dt` must be short against the process, but from save to save a direction of the states changes by "
            f"{moved:.2g} times its variance in the mean square, where 2 is that of independent saves: the rate of "
            f"{value:.4g} ± {error:.2g} may miss most of what flows between them. Save more often."
        )
    elif beyond is None:
        _warn_of_one_long_step(value, error, dt)
    else:
        _warn_of_long_steps(value, _by(by_second, changes), beyond)
    return ShortTimeBound(value, error, beyond)


def _by(value: float, groups: np.ndarray) -> Estimate:
    """With the error that groups of paths give."""
    return Estimate(np.asarray(value), np.asarray(groups.std(ddof=1) / _BLOCKS**0.5))


def _increments(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints and increments `(paths, steps, d)`."""
    return (paths[:, 1:] + paths[:, :-1]) / 2, np.diff(paths, axis=1)


def whitened(paths: np.ndarray, ulps: np.ndarray) -> np.ndarray:
    """Centered paths in coordinates of unit variance without correlation, as many as there are beyond rounding."""
    flat = paths.reshape(-1, paths.shape[-1])
    spread = np.sqrt(np.mean(flat**2, axis=0))
    moving = spread > 0
    if not np.any(moving):
        return np.zeros((*paths.shape[:2], 0))
    rounded = np.max(ulps[moving] / spread[moving])
    flat = flat[:, moving] / spread[moving]
    triangle: Any = np.linalg.qr(flat, mode="r")
    _, sizes, rows = np.linalg.svd(triangle)
    seen = sizes > _ULPS * max(rounded, np.finfo(float).eps) * len(flat) ** 0.5
    return (flat @ rows[seen].T / sizes[seen] * len(flat) ** 0.5).reshape(*paths.shape[:2], -1)


def largest_move(paths: np.ndarray) -> float:
    """The mean square of an increment over the variance, in the direction in which it is largest, of `whitened` paths."""
    change = np.concatenate(np.diff(paths, axis=1))
    return float(np.linalg.eigvalsh(change.T @ change / len(change)).max(initial=0.0))


def _currents(middle: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The products of increments with affine functions of the midpoint, `(paths, steps, d^2 + d)`."""
    features = np.concatenate([middle, np.ones((*middle.shape[:2], 1))], axis=-1)
    return np.einsum("psi,psj->psij", features, change).reshape(*middle.shape[:2], -1)


def _rate(currents: np.ndarray, dt: float) -> float:
    """2 m^T V^{-1} m/dt without its bias; a ValueError where a current flows without any spread."""
    if not currents.size:
        return 0.0
    flat = currents.reshape(-1, currents.shape[-1])
    unit = np.sqrt(np.mean(flat**2, axis=0))
    flat = flat / np.where(unit > 0, unit, 1)
    mean = flat.mean(axis=0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(flat.T)))
    along, seen = mean @ vectors, values > _NO_SPREAD * max(values.max(), 1e-3)
    if np.sum(along[~seen] ** 2) > 1e-6 * np.sum(mean**2):
        raise ValueError(
            "Argument `states` must be of a process with noise, but a current in them flows without any spread, and the "
            "entropy production rate is infinite."
        )
    return float(2 / dt * (np.sum(along[seen] ** 2 / values[seen]) - np.sum(seen) / len(flat)))


def _warn_of_one_long_step(value: float, error: float, dt: float) -> None:
    """Of two saves: half the entropy of a step is the relative error of a linear rotation; no second save tells."""
    off = dt / 2 * (abs(value) - 4 * error)
    if off > _SHORT:
        warn(
            f"Argument `dt` must be short against the process, but a step makes an entropy of {value * dt:.2g}, which is "
            "not small, and with two saves the rate cannot be held against that by every second: for a linear process it "
            f"is {100 * off:.0f} % too low or more. Save more often, or give more saves."
        )


def _warn_of_long_steps(value: float, by_second: Estimate, beyond: Estimate) -> None:
    """`by_second` with the error of what the value is above it."""
    change = abs(value - by_second.value)
    if change > 4 * by_second.error and change > _SHORT * abs(value):
        warn(
            f"Argument `dt` must be short against the process, but the rate is {value:.4g} by every save and "
            f"{by_second.value:.4g} by every second one: an error of O(dt) is about their difference, and extrapolated to "
            f"dt = 0 the rate is {beyond.value:.4g} ± {beyond.error:.2g}; of smooth paths, without noise, the rate has no "
            "limit. Save more often."
        )

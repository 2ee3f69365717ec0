"""Entropy production from trajectories alone, where no equation is known."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Shaped

from dynamics.internal import check_key
from equations.internal import integer, positive, real_array, warn

from .._compare.statistics import Estimate
from .fluctuation import likeliest_slope

_BLOCKS = 16  # groups of paths whose spread gives the standard error
_NO_SPREAD = 1e-12  # variance of a current over the largest: nothing but rounding
_SHORT = 0.1  # relative change of a rate between every save and every second
_MOVED = 0.4  # mean square of an increment over the variance: 15 % off for slow linear rotations, more for fast ones
_FEWEST = 10  # held-out steps of negative entropy
_CALIBRATED = 0.2  # distance of the slope from 1


class NeuralEstimate(Estimate):
    """A rate and its standard error, `value, error = estimate`, and what speaks for it on the paths not trained on.

    - `objective`: (E[s - exp(-s)] + 1)/dt as an `Estimate`, which for any network is a lower bound of the rate (Nguyen,
        Wainwright and Jordan 2010, IEEE Trans. Inf. Theory 56, 5847), and the rate for the right one.
    - `slope`: of ln p(s)/p(-s) against s, an `Estimate`: 1 where s is the entropy production of a step.
    - `negative`: how many steps have s < 0, on which all of this rests.
    """

    objective: Estimate
    slope: Estimate
    negative: int

    def __new__(cls, value, error, objective, slope, negative):
        estimate = super().__new__(cls, value, error)
        estimate.objective, estimate.slope, estimate.negative = objective, slope, negative
        return estimate

    def __str__(self):
        return (
            f"rate {self.value:.4g} ± {self.error:.2g}; objective {self.objective.value:.4g} ± {self.objective.error:.2g}, "
            f"a lower bound; slope {self.slope.value:.3f} ± {self.slope.error:.3f} on {self.negative} steps back"
        )


def _increments(states, dt) -> tuple[np.ndarray, np.ndarray, float]:
    """Midpoints and increments `(paths, steps, d)`."""
    wording = "Argument `states` must be finite, of shape (paths, saves, d) with at least 32 paths and 2 saves, but "
    states = real_array("states", states, "finite numbers, of shape (paths, saves, d)")
    if states.ndim != 3 or states.shape[0] < 2 * _BLOCKS or states.shape[1] < 2:
        raise ValueError(f"{wording}shape {states.shape} was given.")
    if not np.all(np.isfinite(states)):
        raise ValueError(f"{wording}it holds NaN or infinity.")
    return (states[:, 1:] + states[:, :-1]) / 2, np.diff(states, axis=1), float(positive("dt")(dt))


def short_time_bound(states: Shaped[Array | np.ndarray, "paths saves d"] | Any, dt: float) -> Estimate:
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

    **Returns:** the rate and its standard error, from the spread over 16 groups of paths.

    **Raises:** ValueError, naming the argument, also where a current has no noise; a warning where in some direction the
    mean square of an increment is more than .4 times the variance (2 is that of independent saves, of which no rate is
    left), or the rate by every second save differs by more than 10 % and 4 standard errors; of two saves, where the entropy
    of a step is not small.
    """
    middle, change, dt = _increments(states, dt)
    fewest, products = len(middle) // _BLOCKS * middle.shape[1], middle.shape[-1] * (middle.shape[-1] + 1)
    if fewest < 4 * products:
        raise ValueError(
            f"Argument `states` must hold at least {4 * products} increments in a sixteenth of the paths, for the "
            f"{products} products of {middle.shape[-1]} coordinates, but it holds {fewest}."
        )
    blocks = [slice(part[0], part[-1] + 1) for part in np.array_split(np.arange(len(middle)), _BLOCKS)]
    currents = _currents(middle, change)
    value, values = _rate(currents, dt), np.array([_rate(currents[block], dt) for block in blocks])
    error = values.std(ddof=1) / _BLOCKS**0.5
    moved = largest_move(np.asarray(states), change)
    if moved > _MOVED:
        warn(
            f"Argument `dt` must be short against the process, but from save to save a direction of the states changes by "
            f"{moved:.2g} times its variance in the mean square, where 2 is that of independent saves: the rate of "
            f"{value:.4g} ± {error:.2g} may miss most of what flows between them. Save more often."
        )
    elif middle.shape[1] == 1:
        _warn_of_one_long_step(value, error, dt)
    else:
        parts = [np.asarray(states)[:, place::2] for place in (0, 1)]
        second = [_currents(*_increments(part, 2 * dt)[:2]) for part in parts if part.shape[1] > 1]
        by_second = float(np.mean([_rate(part, 2 * dt) for part in second]))
        changes = values - [np.mean([_rate(part[block], 2 * dt) for part in second]) for block in blocks]
        _warn_of_long_steps(value, by_second, changes.std(ddof=1) / _BLOCKS**0.5)
    return Estimate(np.asarray(value), np.asarray(error))


def largest_move(states: np.ndarray, change: np.ndarray) -> float:
    """The mean square of an increment over the variance of the states, in the direction in which it is largest."""
    flat, change = (x.reshape(-1, x.shape[-1]).astype(float) for x in (states, change))
    flat = flat - flat.mean(axis=0)
    spread = flat.std(axis=0)
    seen = spread > 1e-6 * np.abs(states).max(axis=(0, 1))  # beyond rounding
    if not np.any(seen):
        return 0.0
    flat, change = flat[:, seen] / spread[seen], change[:, seen] / spread[seen]
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    vectors = vectors[:, values > 1e-10] / np.sqrt(values[values > 1e-10])
    change = change @ vectors
    return float(np.linalg.eigvalsh(change.T @ change / len(change)).max())


def _currents(middle: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The products of increments with affine functions of the midpoint, `(paths, steps, d^2 + d)`."""
    features = np.concatenate([middle, np.ones((*middle.shape[:2], 1))], axis=-1)
    return np.einsum("psi,psj->psij", features, change).reshape(*middle.shape[:2], -1)


def _rate(currents: np.ndarray, dt: float) -> float:
    """2 m^T V^{-1} m/dt without its bias; a ValueError where a current flows without any spread."""
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
    return float(2 / dt * (np.sum(along[seen] ** 2 / values[seen]) - flat.shape[1] / len(flat)))


def _warn_of_one_long_step(value: float, error: float, dt: float) -> None:
    """Of two saves: half the entropy of a step is the relative error of a linear rotation; no second save tells."""
    off = dt / 2 * (abs(value) - 4 * error)
    if off > _SHORT:
        warn(
            f"Argument `dt` must be short against the process, but a step makes an entropy of {value * dt:.2g}, which is "
            "not small, and with two saves the rate cannot be held against that by every second: for a linear process it "
            f"is {100 * off:.0f} % too low or more. Save more often, or give more saves."
        )


def _warn_of_long_steps(value: float, by_second: float, error: float) -> None:
    change = abs(value - by_second)
    if change > 4 * error and change > _SHORT * abs(value):
        warn(
            f"Argument `dt` must be short against the process, but the rate is {value:.4g} by every save and "
            f"{by_second:.4g} by every second one: an error of O(dt) is about their difference, of smooth paths, without "
            "noise, the rate has no limit. Save more often."
        )


def neural_estimate(
    states: Shaped[Array | np.ndarray, "paths saves d"] | Any,
    dt: float,
    *,
    key: Array,
    width: int = 32,
    iterations: int = 2000,
    batch_size: int = 4096,
) -> NeuralEstimate:
    r"""The entropy production rate by a neural estimator, trained on half of the paths and read off on the other half.

    A network's s(y, y') = f(middle, change) - f(middle, -change) changes sign when time is reversed; maximizing
    E[s - exp(-s)] makes it the entropy production of a step (Kim, Bae, Lee and Jeong 2020, Phys. Rev. Lett. 125, 140604).
    Inputs are scaled to unit variance; coordinates that never move are left out.

    **Arguments:** `states` and `dt` as for `short_time_bound`; a `key`; `width`, `iterations` and `batch_size` of the
    training with Adam under a cosine schedule.

    **Returns:** a `NeuralEstimate`: the rate and its standard error over the paths of the second half, and beside it the
    objective there and the slope of the detailed theorem. The network's own error is on top.

    **Raises:** TypeError or ValueError, naming the argument; a ValueError where fewer than 10 of the steps not trained on
    have negative entropy, since then nothing keeps the network's s from growing (it says what the rate is at least); a
    warning where the slope is off 1 by more than .2 and 3 standard errors: the network knows its own half by heart.
    """
    middle, change, dt = _increments(states, dt)
    key = check_key(key, True)
    width, iterations = integer("width", width), integer("iterations", iterations)
    batch_size = integer("batch_size", batch_size)
    scale, size = middle.std((0, 1)), change.std((0, 1))
    moving = (size > 0) & (scale > 0)  # a coordinate that stays says nothing
    if not np.any(moving):
        raise ValueError("Argument `states` must hold paths that move, but all of them stay where they are.")
    middle, change = (middle - middle.mean((0, 1)))[..., moving] / scale[moving], change[..., moving] / size[moving]
    half = len(middle) // 2
    flat = lambda a: jnp.asarray(a[:half].reshape(-1, a.shape[-1]))  # noqa: E731
    network = eqx.nn.MLP(
        2 * middle.shape[-1], "scalar", width, 2, jnp.tanh, dtype=flat(middle).dtype, key=jax.random.fold_in(key, 0)
    )
    network = _trained(network, flat(middle), flat(change), jax.random.fold_in(key, 1), iterations, batch_size)
    values = np.asarray(_apply(network, jnp.asarray(middle[half:]), jnp.asarray(change[half:])), float)
    return _held_out(values, dt)


def _over_paths(values: np.ndarray) -> Estimate:
    """The mean of `(paths, steps)` and its standard error over paths."""
    per_path = values.mean(axis=1)
    return Estimate(np.asarray(per_path.mean()), np.asarray(per_path.std(ddof=1) / len(per_path) ** 0.5))


def _bound(s: np.ndarray) -> np.ndarray:
    """What the entropy production of a step is at least, on average: the objective + 1, for any odd s."""
    with np.errstate(over="ignore"):
        return s - np.exp(-s) + 1


def _held_out(s: np.ndarray, dt: float) -> NeuralEstimate:
    """The estimate from a network's s on steps that it has not seen, `(paths, steps)`."""
    negative, steps = int(np.sum(s < 0)), s.size
    if negative < _FEWEST:
        most = np.log(steps) / 2  # clipped there, exp(-s) has a mean that so many steps can measure
        least = _over_paths(_bound(np.clip(s, -most, most)) / dt)
        raise ValueError(
            f"Argument `states` must hold steps of negative entropy, on which the estimate rests, but only {negative} of "
            f"{steps} steps not trained on have it: the network's mean is no estimate, the rate is at least "
            f"{least.value:.4g} ± {least.error:.2g}. Save more often, or give more paths; without noise it is infinite."
        )
    with np.errstate(invalid="ignore"):
        rate, objective = _over_paths(s / dt), _over_paths(_bound(s) / dt)
    slope = Estimate(*likeliest_slope(s.ravel()))
    off = abs(slope.value - 1)
    if off > _CALIBRATED and off > 3 * slope.error:
        warn(
            f"Argument `states`: on paths not trained on, ln p(s)/p(-s) has the slope {slope.value:.2f} ± "
            f"{slope.error:.2f} against the network's entropy s, where 1 is right: the rate of {rate.value:.4g} is not "
            f"to be trusted; the objective, a lower bound, is {objective.value:.4g} ± {objective.error:.2g}. Fewer "
            "iterations, more paths, or save more often."
        )
    return NeuralEstimate(*rate, objective, slope, negative)


def _entropy(network: Any, middle: Array, change: Array) -> Array:
    """s of one step, odd in the increment."""
    forward, backward = (network(jnp.concatenate([middle, sign * change])) for sign in (1.0, -1.0))
    return forward - backward


@eqx.filter_jit
def _apply(network, middle, change):
    return jax.vmap(jax.vmap(lambda m, c: _entropy(network, m, c)))(middle, change)


@eqx.filter_jit
def _trained(network, middle, change, key, iterations, batch_size):
    dynamic, static = eqx.partition(network, eqx.is_inexact_array)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, iterations))

    def loss(dynamic, indices):
        s = jax.vmap(lambda m, c: _entropy(eqx.combine(dynamic, static), m, c))(middle[indices], change[indices])
        return -jnp.mean(s - jnp.exp(-s))

    def body(carry, step):
        dynamic, memory = carry
        indices = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, len(middle))
        gradient = jax.grad(loss)(dynamic, indices)
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = optimizer.update(gradient, memory, dynamic)
            dynamic = optax.apply_updates(dynamic, updates)
        return (dynamic, memory), None

    with jax.numpy_dtype_promotion("standard"):
        memory = optimizer.init(dynamic)
    (dynamic, _), _ = jax.lax.scan(body, (dynamic, memory), jnp.arange(iterations))
    return eqx.combine(dynamic, static)

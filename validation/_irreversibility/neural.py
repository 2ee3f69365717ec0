"""Entropy production from trajectories alone, by a network."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Shaped

from dynamics.internal import check_key
from equations.internal import integer, warn

from .._compare.statistics import Estimate
from .fluctuation import likeliest_slope
from .short_time import checked_paths

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
    paths, _, dt = checked_paths(states, dt)
    middle, change = (paths[:, 1:] + paths[:, :-1]) / 2, np.diff(paths, axis=1)
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

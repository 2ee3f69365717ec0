"""Entropy production from trajectories alone, where no equation is known."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from dynamics._ensemble import check_key
from equations._checks import integer, positive, real_array

from ._statistics import Estimate

_BLOCKS = 16  # groups of paths whose spread gives the standard error


def _increments(states, dt) -> tuple[np.ndarray, np.ndarray, float]:
    """Midpoints and increments `(paths, steps, d)`."""
    wording = "Argument `states` must be finite, of shape (paths, saves, d) with at least 32 paths and 2 saves, but "
    states = real_array("states", states, "finite numbers, of shape (paths, saves, d)")
    if states.ndim != 3 or states.shape[0] < 2 * _BLOCKS or states.shape[1] < 2:
        raise ValueError(f"{wording}shape {states.shape} was given.")
    if not np.all(np.isfinite(states)):
        raise ValueError(f"{wording}it holds NaN or infinity.")
    return (states[:, 1:] + states[:, :-1]) / 2, np.diff(states, axis=1), float(positive("dt")(dt))


def short_time_bound(states: Array | np.ndarray, dt: float) -> Estimate:
    r"""The entropy production rate from the short-time thermodynamic uncertainty relation.

    The rate is max_d 2 <J>^2/(dt Var J) over currents J = d(y) o dy, the increment times a field at the midpoint (Otsubo,
    Ito, Dechant and Sagawa 2020, Phys. Rev. E 101, 062106). Over fields affine in y the maximum is 2 m^T V^{-1} m/dt with
    the means m and covariances V of the d^2 + d products: exact for a linear process with constant noise, a lower bound for
    all others. The bias of m^T V^{-1} m, the number of products over the number of increments, is taken out.

    **Arguments:**

    - `states`: stationary paths, `(paths, saves, d)`; at least 32 paths, and in a sixteenth of them at least four
        increments for each of the d^2 + d products.
    - `dt`: the time between saves, short against the process: the error is O(dt).

    **Returns:** the rate and its standard error, from the spread over 16 groups of paths.

    **Raises:** ValueError, naming the argument.
    """
    middle, change, dt = _increments(states, dt)
    features = np.concatenate([middle, np.ones((*middle.shape[:2], 1))], axis=-1)
    currents = np.einsum("psi,psj->psij", features, change).reshape(*middle.shape[:2], -1)

    fewest, products = len(middle) // _BLOCKS * middle.shape[1], currents.shape[-1]
    if fewest < 4 * products:
        raise ValueError(
            f"Argument `states` must hold at least {4 * products} increments in a sixteenth of the paths, for the "
            f"{products} products of {middle.shape[-1]} coordinates, but it holds {fewest}."
        )

    def rate(block):
        block = block.reshape(-1, block.shape[-1])
        mean, covariance = block.mean(0), np.cov(block.T)
        return 2 / dt * (mean @ np.linalg.lstsq(covariance, mean, rcond=1e-12)[0] - block.shape[1] / len(block))

    values = np.array([rate(block) for block in np.array_split(currents, _BLOCKS)])
    return Estimate(np.asarray(rate(currents)), np.asarray(values.std(ddof=1) / _BLOCKS**0.5))


def neural_estimate(
    states: Array | np.ndarray,
    dt: float,
    *,
    key: Array,
    width: int = 32,
    iterations: int = 2000,
    batch_size: int = 4096,
) -> Estimate:
    r"""The entropy production rate by a neural estimator, trained on half of the paths and read off on the other half.

    A network's s(y, y') = f(middle, change) - f(middle, -change) changes sign when time is reversed; maximising
    E[s - exp(-s)] makes it the entropy production of a step (Kim, Bae, Lee and Jeong 2020, Phys. Rev. Lett. 125, 140604).
    Inputs are scaled to unit variance; coordinates that never move are left out.

    **Arguments:** `states` and `dt` as for `short_time_bound`; a `key`; `width`, `iterations` and `batch_size` of the
    training with Adam under a cosine schedule.

    **Returns:** the rate and its standard error over the paths of the second half. The network's own error is on top.

    **Raises:** TypeError or ValueError, naming the argument.
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
    per_path = values.mean(axis=1) / dt
    return Estimate(np.asarray(per_path.mean()), np.asarray(per_path.std(ddof=1) / len(per_path) ** 0.5))


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

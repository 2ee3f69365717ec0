"""Learning rates of the training steps, and the times of what is recorded."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from equations import AbstractDynamics
from equations.internal import abstract_value, is_traced, learning_rate_of


def learning_rates(dynamics: AbstractDynamics, steps: int) -> Array | None:
    """The learning rates of all steps, shape `(steps,)`; None where one serves them all.

    **Raises:** ValueError where a schedule gives no learning rate.
    """
    if abstract_value(_changing, dynamics) is None:
        return None
    rates = rates_at(dynamics, jnp.arange(steps))
    if not is_traced(rates) and not np.all(allowed := np.isfinite(rates) & (np.asarray(rates) >= 0)):
        step = int(np.argmin(allowed))
        raise ValueError(
            "Argument `equation` must have a finite learning rate, zero or more, in every step, but its schedule gives "
            f"{float(rates[step]):g} in step {step}."
        )
    return rates


@eqx.filter_jit
def rates_at(dynamics: Any, steps: Array) -> Array:
    """The learning rates at training steps, whole or real numbers, of shape `(n,)`."""
    return jax.vmap(dynamics.scaling_limit().learning_rate_at)(steps) * jnp.ones(steps.shape)


def _changing(dynamics):
    """A number where the learning rate of a step may be another than `learning_rate`; None where it is that."""
    rate = dynamics.scaling_limit().learning_rate_at(jnp.zeros((), jnp.int32))
    own = learning_rate_of(dynamics)
    return None if own is None or rate is own else jnp.zeros(())


def recorded(
    rates: Array | None, first: int, end: int, save_every: int, dt: Array, begin: Array | None
) -> tuple[Array, Array]:
    """The recorded steps from `first` to `end` and their times, from `learning_rates`; dt is the time of a step where that
    is None, and `begin` the time at the first where a run goes on, whose learning rate may have been another."""
    saved: Any = np.arange(first, end + 1, save_every)  # by NumPy, which dispatches nothing
    if rates is None:
        times = saved.astype(jax.dtypes.canonicalize_dtype(float)) * (dt if is_traced(dt) else np.asarray(dt))
    else:
        times = jnp.concatenate([jnp.zeros(1), jnp.cumsum(rates)])[first::save_every]
    if begin is not None:
        times = jnp.where(times[0] == begin, times, begin + (times - times[0]))
    return jnp.asarray(saved), jnp.asarray(times)

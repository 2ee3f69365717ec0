"""Schedules: functions of the training step, as Optax has them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def schedule_of(value: Any) -> Callable:
    """A field converter: a schedule of factors."""
    wording = "Argument `schedule` must be an Optax schedule, a function from the training step to a factor, but "
    if not callable(value):
        raise TypeError(f"{wording}{value!r} was given.")
    try:
        with jax.numpy_dtype_promotion("standard"):
            factor = jax.eval_shape(
                lambda step: jnp.asarray(value(step)), jax.ShapeDtypeStruct((), jnp.result_type(float))
            )
    except Exception as error:
        raise ValueError(f"{wording}it fails at a real step: {type(error).__name__}: {error}") from error
    if factor.shape != () or not jnp.issubdtype(factor.dtype, jnp.floating):
        raise ValueError(f"{wording}it returns {factor.dtype} of shape {factor.shape}.")
    return value


def stretched(schedule: Callable, step: Any, stretch: Array) -> Array:
    """What a schedule gives at a training step times `stretch`; at a whole one, unstretched, at the very count."""
    with jax.numpy_dtype_promotion("standard"):
        value = jnp.asarray(schedule(step * stretch))
        if not jnp.issubdtype(jnp.result_type(step), jnp.integer):
            return value
        return jnp.where(stretch == 1, jnp.asarray(schedule(step)), value)

"""Batch sizes that are scheduled, and where there must be one."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .arguments import LARGEST

_STEPS = 2**16  # of a batch size, which are looked at beforehand


@functools.lru_cache(maxsize=64)
def sizes_of(schedule: Callable) -> np.ndarray:
    """The batch sizes of the first training steps, `(_STEPS,)`, checked."""
    wording = "Argument `batch_size` must be a function from the training step to a whole number of examples, but "
    if not callable(schedule):
        raise TypeError(f"{wording}{schedule!r} was given.")
    try:
        with jax.ensure_compile_time_eval(), jax.numpy_dtype_promotion("standard"):
            jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.result_type(float)))
            found = np.asarray(jax.vmap(lambda step: jnp.asarray(schedule(step)))(jnp.arange(_STEPS)), float)
    except Exception as error:
        raise ValueError(f"{wording}it fails at a training step: {type(error).__name__}: {error}") from error
    if found.ndim != 1:
        raise ValueError(f"{wording}it gives an array of shape {found.shape[1:]}.")
    wrong = ~((found >= 1) & (found <= LARGEST) & (np.abs(found - np.round(found)) < 1e-6 * found))
    if np.any(wrong):
        raise ValueError(f"{wording}at step {np.argmax(wrong)} it is {found[np.argmax(wrong)]:g}.")
    return np.round(found)


def check_one_batch_size(equation: Any, what: str) -> None:
    """Raises a ValueError where the noise of a step is that of a batch of its own size: it is another one where held."""
    held = equation.held(jnp.zeros((), jnp.int32))
    if jax.tree.structure(held.gradient_noise) != jax.tree.structure(equation.gradient_noise):
        raise ValueError(
            f"Argument `equation` must have one batch size for {what}, but it is scheduled: {equation!r} was given."
        )

"""Inputs and targets, as a stream shows them to a circuit or as a circuit reads them out."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._signals.examples import checked_examples


def check_pairs(X: Any, Y: Any, layers: tuple[int, ...] = ()) -> tuple[Float[Array, "N n_in"], Float[Array, "N n_out"]]:
    """Inputs and targets, of any sizes or of those that a circuit of `layers` has; the targets may have shape `(N,)` for a
    single output, and become numbers of the dtype of the inputs where they are none.

    **Raises:** TypeError or ValueError, naming `X` or `Y`.
    """
    x: Any = checked_examples(X, "X")
    y: Any = checked_examples(Y, "Y")
    if not (eqx.is_array(x) and jnp.issubdtype(x.dtype, jnp.floating)):
        raise TypeError(f"Argument `X` must be an array of floating-point numbers, but {x!r} was given.")
    if not (eqx.is_array(y) and not jnp.issubdtype(y.dtype, jnp.complexfloating)):
        raise TypeError(f"Argument `Y` must be an array of real numbers, but {y!r} was given.")
    inputs, outputs = (layers[0], layers[-1]) if layers else ("n_in", "n_out")
    whose = f" for a circuit of layers {layers}" if layers else ""
    if x.ndim != 2 or layers and x.shape[1] != inputs:
        raise ValueError(f"Argument `X` must have shape (N, {inputs}){whose}, but shape {x.shape} was given.")
    targets = y[:, None] if y.ndim == 1 else y
    if targets.ndim != 2 or len(targets) != len(x) or layers and targets.shape[1] != outputs:
        single = " or (N,)" if outputs in ("n_out", 1) else ""
        raise ValueError(
            f"Argument `Y` must have shape (N, {outputs}){single} with N = {len(x)}{whose}, but shape {y.shape} was given."
        )
    return x, targets if jnp.issubdtype(y.dtype, jnp.floating) else targets.astype(x.dtype)

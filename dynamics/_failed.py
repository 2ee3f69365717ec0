"""Paths that fail in their first step because the rate of change is not finite at the start."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations import AbstractDynamics, AbstractSignal
from equations._checks import leaf_name
from equations._once import quick_jit, silent, warn


def tell_start(dynamics: AbstractDynamics, signal: Any, params: PyTree, failed_at: Array) -> None:
    """Warns where paths fail in step 1 since the gradient, or else the rate of change, is not finite at the start."""
    if silent((dynamics, signal, params, failed_at)) or not np.any(np.asarray(failed_at) == 1):
        return
    if isinstance(signal, AbstractSignal):
        what, rates, name = "the gradient of the loss", _gradient(signal, params), "params"
    else:
        what, rates, name = f"the drift of {type(dynamics).__name__}", _drift(dynamics, signal, params), "state"
    bad = [
        leaf_name(name, path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(rates)
        if not np.all(np.isfinite(np.asarray(leaf)))
    ]
    if bad:
        warn(
            f"{what[0].upper()}{what[1:]} is NaN or infinite at the start, in {', '.join(bad)}: paths fail in step 1 and "
            "stay where they are, with `ok` False. A norm or a root has no derivative at zero; start elsewhere, or give "
            "it one by the double `where` of JAX's FAQ."
        )


@quick_jit(level=0)
def _gradient(signal, params):
    return signal.gradient(params)


@quick_jit(level=0)
def _drift(dynamics, signal, params):
    state = dynamics.init(params)
    return dynamics.flow(jnp.zeros((), jax.tree.leaves(params)[0].dtype), state, signal)

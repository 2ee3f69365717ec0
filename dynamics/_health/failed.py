"""Words on paths that failed: in their first step, since the rate of change is not finite at the start, or all of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations import AbstractDynamics, AbstractSignal
from equations.internal import inside, leaf_name, learning_rate_of, quick_jit, silent, split, undefined_at, warn


def tell_start(
    dynamics: AbstractDynamics, signal: Any, params: PyTree, failed_at: Array, unsplit: bool = False
) -> bool:
    """Warns where paths fail in step 1 since the gradient, or else the rate of change, is not finite at the start, and says
    whether it did.

    `unsplit`: of a run that goes by the drift itself, which may have more in it than the gradient.
    """
    if silent((dynamics, signal, params, failed_at)) or not np.any(np.asarray(failed_at) == 1):
        return False
    if isinstance(signal, AbstractSignal):
        what, rates, name = "the gradient of the loss", _gradient(signal, params), "params"
        if unsplit and all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(rates)):
            what, rates, name = f"the drift of {_form(dynamics)}", _whole_drift(dynamics, signal, params), "state"
    else:
        what, rates, name = f"the drift of {type(dynamics).__name__}", _drift(dynamics, signal, params), "state"
    bad = [
        leaf_name(name, path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(rates)
        if not np.all(np.isfinite(np.asarray(leaf)))
    ]
    if bad:
        call = undefined_at(dynamics, params)
        reason = f"{call} has no real value that is known there; start elsewhere, or give another by `functions`."
        if call is None:
            reason = (
                "A norm or a root has no derivative at zero; start elsewhere, or give it one by the double `where` of "
                "JAX's FAQ."
            )
        warn(
            f"{what[0].upper()}{what[1:]} is NaN or infinite at the start, in {', '.join(bad)}: paths fail in step 1 and "
            f"stay where they are, with `ok` False. {reason}"
        )
    return bool(bad)


def tell_end(dynamics: AbstractDynamics, failed_at: Array, substeps: int | None) -> None:
    """Warns where no path of an algorithm's equation is left at the end, of which the final parameters say nothing.

    `substeps`: how many there were, None where a controller chose the steps.
    """
    if silent((dynamics, failed_at)) or learning_rate_of(dynamics) is None or np.any(np.asarray(failed_at) < 0):
        return
    solver = (
        f"Whether the solver is to blame more `substeps` than {substeps} tell, or 'auto'; whether"
        if substeps is not None
        else "Whether"
    )
    warn(
        f"All paths of the equation of {_form(dynamics)} failed, the first in training step {int(np.min(failed_at))}, and "
        f"stay at their last records with `ok` False. {solver} the algorithm itself diverges `train` tells."
    )


def rescued(failed: np.ndarray, finer: np.ndarray, random: bool) -> bool:
    """Whether a finer step saves paths that failed, bools `(paths,)`, by more than sampling noise explains.

    The paths are the same Brownian ones: of those that fail at one step alone, each is as likely to fail at either where
    the equation is to blame (McNemar 1947), and the difference has their number for its variance. Every path against none
    is no such chance.
    """
    worse, better = int(np.sum(failed & ~finer)), int(np.sum(finer & ~failed))
    if not random or (failed.all() and not finer.any()):
        return worse > better
    return worse - better > 3 * (worse + better) ** 0.5


def postponed(failed_at: Array, finer: Array, random: bool) -> bool:
    """Whether a finer step saves paths, or lets them fail later, by more than sampling noise explains: then the solver may
    be to blame, and steps that are shorter still will tell."""
    one, other = (np.where(np.asarray(at) < 0, np.inf, np.asarray(at)) for at in (failed_at, finer))
    return rescued(one < other, other < one, random)


@quick_jit(level=0)
def _gradient(signal, params):
    return signal.gradient(params)


@quick_jit(level=0)
def _drift(dynamics, signal, params):
    state = dynamics.init(params)
    return split(dynamics).flow(jnp.zeros((), jax.tree.leaves(params)[0].dtype), state, signal)


@quick_jit(level=0)
def _whole_drift(dynamics, signal, params):
    state = dynamics.init(params)
    return dynamics.drift(jnp.zeros((), jax.tree.leaves(params)[0].dtype), state, signal)


def _form(dynamics: AbstractDynamics) -> str:
    """A dynamics by its name, with what is inside of it."""
    inner = inside(dynamics)
    name = type(dynamics).__name__
    return name if inner is None else f"{name}({_form(inner)})"

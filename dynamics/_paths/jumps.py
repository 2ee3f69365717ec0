"""A rate of one's own that jumps in time: told of, since a solver's stages would read across the jump."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import (
    definer,
    fixed_gradient,
    is_free,
    is_ours,
    of_time,
    once,
    silent,
    split,
    velocity_of,
    warn,
    within,
)

from .held import NEAR, jumps

_LONGEST = 4096  # training steps that are looked at
_LOOKED_AT = 4  # jumps of what is made of time alone, of which one must be a jump of the rates
_RATES = ("velocity", "drift", "diffusion", "splitting")
_OFF = 0.1  # from where a run begins, where a memory may be empty and a state at rest


class _Reading(eqx.Module):
    """One of the numbers that rates make of their time, a function of the training step."""

    numbers: Any = eqx.field(static=True)
    place: int = eqx.field(static=True)
    step: Array

    def scaling_limit(self):
        return self

    def learning_rate_at(self, step: Array) -> Array:
        """Of the name by which `jumps` reads a schedule."""
        return self.numbers((step * self.step).astype(self.step.dtype))[self.place]


def warn_of_jumps(dynamics: AbstractDynamics, signal: Any, params: PyTree, steps: int, dt: Any) -> None:
    """Warns where rates of the user's jump with the training step, of length dt, and nothing says so; made once."""
    for inner in within(dynamics):
        kind = type(inner)
        own = [name for name in _RATES if hasattr(kind, name) and not is_ours(definer(kind, name))]
        if own and is_ours(definer(kind, "held")) and not silent((inner, signal, params, dt)):
            of = None if own == ["velocity"] else signal
            if once(_reads_time, inner, params, of):
                found = once(_first_jump, inner, params, min(steps, _LONGEST), of, float(dt))
                if found is not None:
                    _tell(kind, own, found, inner.series().discrete)
                    return


def _tell(kind, own, found, discrete):
    instead = "put what is counted into `scheduled`, or give `held`"
    if not discrete:
        instead = "run up to the jump and go on from there, or give `held`"
    warn(
        f"Argument `equation`: {kind.__name__}.{' or '.join(own)} jumps in time, first with training step {found}, and the "
        f"stages of a solver read across the jump: {instead}."
    )


def _rates(equation, params, signal):
    """A function `(time, state, gradient)`: the rates where nothing but time is left, and those two near the begin."""
    state = jax.tree.map(lambda leaf: leaf + jnp.asarray(_OFF, leaf.dtype), equation.init(params))
    ones = jax.tree.map(jnp.ones_like, params)
    gradient = fixed_gradient(equation, ones)
    if signal is None and equation.series().discrete:
        return functools.partial(velocity_of, equation), state, gradient
    splitting = split(equation)
    structure = splitting.noise(state, signal, 1)

    def rates(t, state, gradient):
        if structure is None:
            return splitting.flow(t, state, signal)
        noise = jax.tree.map(lambda leaf: 0.5 * jnp.ones(leaf.shape, leaf.dtype), structure)
        return splitting.flow(t, state, signal), splitting.kick(t, state, signal, noise, jnp.ones_like(t))

    return rates, state, gradient


def _time(state) -> Array:
    return jnp.ones((), jnp.result_type(*jax.tree.leaves(state)))


def _reads_time(equation, params, signal) -> bool:
    rates, state, gradient = _rates(equation, params, signal)
    return not is_free(lambda t: rates(t, state, gradient), _time(state))


def _first_jump(equation, params, steps, signal=None, dt=None) -> int | None:
    """The first training step with which the rates jump; None where there is none.

    What they make of time alone is tabulated; where that jumps the rates are looked at, which may go on smoothly.
    """
    rates, state, gradient = _rates(equation, params, signal)
    one = (equation.learning_rate if dt is None else dt) * _time(state)
    numbers = of_time(rates, one, state, gradient)
    stops: set = set()
    for place in range(len(jax.eval_shape(numbers, one))):
        stops |= set(np.asarray(jumps(_Reading(numbers, place, one), steps)[0]).tolist())
    found = (int(stop) for stop in sorted(stops)[:_LOOKED_AT] if _jumps_at(rates, state, gradient, stop, one))
    return next(found, None)


def _jumps_at(rates, state, gradient, stop, one) -> bool:
    """Whether the rates jump with a training step, or between it and the one before."""

    def at(step):
        leaves = jax.tree.leaves(rates(step * one, state, gradient))
        return jnp.concatenate([leaf.ravel() for leaf in leaves])

    places = jnp.asarray([-2, -1, 1, 2, 1 - 1 / NEAR, 2 - 1 / NEAR], one.dtype) * NEAR
    left, before, after, right, start, later = np.asarray(jax.lax.map(at, stop + places), float)
    size = np.linalg.norm
    slopes = size(before - left) + size(right - after)
    rounding = 1e-5 * max(size(before), size(after))
    inside = (4 / NEAR) * (size(before - left) + size(later - start))
    smooth = size(after - before) <= 4 * slopes + rounding and size(before - start) <= inside + rounding
    return not smooth

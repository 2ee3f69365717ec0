"""Kicks of rules that are not affine in the gradient, over another time than a training step."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._checks.lineage import newer
from ._splitting import split
from ._tree import scaled_sum
from ._velocity import velocity_of


def long_kick(dynamics: Any, t: Array, state: PyTree, signal: Any, noise: PyTree, dt: Array) -> PyTree:
    r"""dt [E u + sqrt(learning_rate/dt) (u(\bar g + delta) - E u) - flow]: the mean and the covariance of the diffusion
    over any dt, from one draw.

    For dynamics of which `kicks_long` says so.
    """
    splitting: Any = split(dynamics)
    mean = splitting.mean_velocity(t, state, signal)
    drawn = velocity_of(dynamics, t, state, dynamics.gradient(dynamics.params(state), signal, noise))
    even = scaled_sum((1.0, mean), (-1.0, splitting.flow(t, state, signal)))
    odd = scaled_sum((jnp.sqrt(dynamics.learning_rate / dt), scaled_sum((1.0, drawn), (-1.0, mean))))
    return scaled_sum((dt, even), (dt, splitting.clip_noise(state, even, odd, dt)))


def kicks_long(dynamics: Any, signal: Any, params: PyTree) -> bool:
    """Whether a rule that is not affine may be kicked so: its mean velocity is known without a look at every example, and
    its noise is nearly linear in the normals, so that runs of two lengths differ by little."""
    splitting, state = split(dynamics), dynamics.init(params)
    if newer(type(splitting), "kick", "mean_velocity"):
        return False
    t = jnp.asarray(dynamics.learning_rate)
    return eqx.filter_eval_shape(splitting.mean_velocity, t, state, signal) is not None

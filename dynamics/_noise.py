"""What is known of the noise of a dynamics: whether it is additive, and whether its columns commute."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import abstract_value, is_free, normals_of, once, quick_jit, silent, zeros_of

_OFF = 1e-3  # relative; in float32 derivatives have six digits


def is_additive(dynamics: AbstractDynamics, signal: Any, params: PyTree, time: Array) -> bool:
    """Whether the diffusion does not depend on the state: as the `interpretation` of the class says, or its jaxpr proves.

    **Arguments:** `params`, what is trained; `time`, of a training step.

    **Raises:** ValueError where it says what is not so, tried on numbers.
    """
    if dynamics.interpretation != "additive":
        return abstract_value(_depends_on_state, dynamics, signal, params) is None
    if not silent((dynamics, signal, params, time)):
        once(_refuse_additive, dynamics, signal, params, time)
    return True


def is_steady(dynamics: AbstractDynamics, signal: Any, params: PyTree) -> bool:
    """Whether the diffusion provably does not depend on time."""
    return abstract_value(_depends_on_time, dynamics, signal, params) is None


def commutes(dynamics: AbstractDynamics, signal: Any, params: PyTree, time: Array) -> bool | None:
    """Whether the columns of the diffusion commute, (D sigma_k) sigma_l = (D sigma_l) sigma_k, by Jacobian-vector products
    at a few states; None under a trace. They do where every coordinate of the noise depends on that coordinate only."""
    if silent((dynamics, signal, params, time)):
        return None
    return float(_commutator(dynamics, signal, params, time)) <= _OFF  # whose answer is one of values


def _depends_on_state(dynamics, signal, params):
    state = dynamics.init(params)
    free = is_free(lambda y: _noise_of(dynamics, signal, jnp.zeros(()), y), state)
    return None if free else jnp.zeros(())


def _depends_on_time(dynamics, signal, params):
    state = dynamics.init(params)
    time = jnp.zeros((), jnp.result_type(*jax.tree.leaves(state)))
    return None if is_free(lambda t: _noise_of(dynamics, signal, t, state), time) else jnp.zeros(())


def _noise_of(dynamics, signal, t, state):
    operator = dynamics.diffusion(t, state, signal)
    return operator.mv(zeros_of(operator.in_structure()))


def _refuse_additive(dynamics, signal, params, time) -> None:
    off = float(_change(dynamics, signal, params, time))
    if off > _OFF:
        raise ValueError(
            f"Attribute `interpretation` of {type(dynamics).__name__} must be 'additive' only where the diffusion is the "
            f"same at every state, but between states it changes by {off:.2g} of its size."
        )


@quick_jit(0)
def _change(dynamics, signal, params, time) -> Array:
    """How much of the noise there is elsewhere is not that at the start."""
    begin = dynamics.init(params)

    def off(key):
        state = _moved(begin, key)
        normals = normals_of(dynamics.diffusion(time, begin, signal).in_structure(), key)
        here, there = (dynamics.diffusion(time, y, signal).mv(normals) for y in (begin, state))
        return _size(jax.tree.map(jnp.subtract, here, there)), _size(here) + _size(there)

    changes, sizes = jax.lax.map(off, jax.random.split(jax.random.key(11), 4))
    return _worst(changes, sizes)


@quick_jit(0)
def _commutator(dynamics, signal, params, time) -> Array:
    """Of two random combinations of columns, over the size of its halves."""
    begin = dynamics.init(params)

    def one(key):
        state = _moved(begin, key)

        def root(y, normals):
            noise = dynamics.diffusion(time, y, signal).mv(normals)
            return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), noise, y)

        structure = dynamics.diffusion(time, state, signal).in_structure()
        first, second = (normals_of(structure, k) for k in jax.random.split(key))

        def along(a, b):
            return jax.jvp(lambda y: root(y, a), (state,), (root(state, b),))[1]

        one, two = along(first, second), along(second, first)
        return _size(jax.tree.map(jnp.subtract, one, two)), _size(one) + _size(two)

    changes, sizes = jax.lax.map(one, jax.random.split(jax.random.key(12), 4))
    return _worst(changes, sizes)


def _moved(state, key) -> PyTree:
    return jax.tree.map(
        lambda y, n: y + 0.3 * (1 + jnp.abs(y)) * n, state, normals_of(state, jax.random.fold_in(key, 1))
    )


def _size(tree) -> Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def _worst(changes, sizes) -> Array:
    """The largest ratio; a state where nothing is defined says nothing."""
    known = jnp.isfinite(changes) & (sizes > 0)
    return jnp.max(jnp.where(known, changes / jnp.where(known, sizes, 1), 0))

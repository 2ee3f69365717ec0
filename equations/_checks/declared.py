"""What an equation declares of its affinity, tried on numbers; and a word where a slower path is taken for want of it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._jaxpr.structure import departure, obstacles
from .._signals.base import is_parameter, parameter_dtype
from .._velocity import reads_affine, velocity_of
from .once import once, quick_jit, warn


def check_linear(equation: Any, params: PyTree) -> None:
    """Raises a TypeError or ValueError where `linear` is not what it says, and warns where True could be said.

    Silent under a trace.
    """
    declared = equation.linear
    if not (declared is None or isinstance(declared, bool)):
        raise TypeError(
            f"Attribute `linear` of {type(equation).__name__} must be True, False or None, whether its velocity is affine "
            f"in the gradient, but {declared!r} was given."
        )
    if equation.several_gradients:
        if declared:
            raise ValueError(
                f"Attribute `linear` of {type(equation).__name__} must not be True where a step takes several gradients, "
                "for what its velocity makes of them is not affine in one, but True was given."
            )
        return
    if declared is not False:
        once(_tried, equation, params)


def _tried(equation, params) -> None:
    name, declared = type(equation).__name__, equation.linear
    if not declared and not equation.random:
        return
    dynamic = eqx.filter(params, is_parameter)
    shapes = jax.eval_shape(equation.init, dynamic)
    state = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)  # of any values, and only traced
    if reads_affine(equation, state):
        return
    unknown = obstacles(lambda gradient: velocity_of(equation, equation.learning_rate, state, gradient), dynamic)
    if not declared and not unknown:
        return
    off = float(_departure(equation, dynamic))
    affine = off < 1e4 * float(jnp.finfo(parameter_dtype(dynamic)).eps)
    if declared and not affine:
        raise ValueError(
            f"Attribute `linear` of {name} must be True only where the velocity is affine in the gradient at every state, "
            f"but its velocity is off its tangent at no gradient by {off:.2g} of its size."
        )
    if affine and not declared:
        warn(
            f"{name} looks affine in the gradient, but cannot be proven to be so, for {', '.join(sorted(unknown))}, and is "
            "solved as a nonlinear rule, at several times the cost: `linear = True` in its class says that it is, "
            "`linear = False` that it is not."
        )


@quick_jit(0)
def _departure(equation, params) -> Array:
    """The largest departure from the tangent, at the state at the beginning and at others: at random parameters, with a
    memory of any sign and with a positive one, at later times. There a rule that is undefined (a root of what is never
    negative) says nothing."""
    rate = equation.learning_rate.astype(parameter_dtype(params))
    begin = equation.init(params)

    def off(item):
        key, size, positive = item
        first = size == 0
        state = moved_state(equation, begin, key, size, positive)
        time = jnp.where(first, rate, 100 * rate)
        found = departure(
            lambda gradient: velocity_of(equation, time, state, gradient), params, jnp.where(first, 6.0, 2.0)
        )
        return jnp.where(first | jnp.isfinite(found), found, 0)

    sizes = jnp.array([0, 1, 1, 10, 10], rate.dtype)
    positive = jnp.array([False, False, True, False, True])
    return jnp.max(jax.lax.map(off, (jax.random.split(jax.random.key(1), 5), sizes, positive)))


def moved_state(equation: Any, state: PyTree, key: Array, size: Array, positive: Array) -> PyTree:
    """A state with normal numbers of this size added, or their absolute values to the memory."""
    leaves, treedef = jax.tree.flatten(state)
    params = {id(leaf) for leaf in jax.tree.leaves(equation.params(state))}

    def one(key, leaf):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return leaf
        normal = jax.random.normal(key, leaf.shape, leaf.dtype)
        memory = positive & (id(leaf) not in params)
        return leaf + size.astype(leaf.dtype) * jnp.where(memory, jnp.abs(normal), normal)

    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(treedef, [one(key, leaf) for key, leaf in zip(keys, leaves, strict=True)])

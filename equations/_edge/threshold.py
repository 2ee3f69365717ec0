"""Where the linearized step of an algorithm has an eigenvalue -1, for any twin."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._base import AbstractEquation, check_contract
from .._modified.increment import AbstractIncrement, Increment, TwinState, at_infinity
from .._tree import add_scaled
from .._velocity import velocity_of

_OFF = 1e-3


def stability_threshold(equation: AbstractEquation) -> Array | None:
    r"""The curvature at which training on a parabola begins to alternate and grow, in the units of 1/`learning_rate`.

    There the linearized step of the algorithm, memory included, has an eigenvalue -1: 2/eta for gradient descent,
    2 (1 + beta)/eta for the heavy ball, 2 (1 + beta)/((1 + 2 beta) eta) for Nesterov's momentum as Optax has it. Of a rule
    that divides by the root of a second moment it is that of the preconditioned curvature, with the second moment frozen at
    one and all counts at infinity: 2 (1 + b1)/((1 - b1) eta) for Adam (Cohen et al. 2022, arXiv:2207.14484). Of any Optax
    transformation that acts coordinate by coordinate.

    **Returns:** a number; None where a small gradient moves nothing in proportion to it, as for rules of the sign.

    **Raises:** TypeError or ValueError where the rule mixes coordinates, as Muon does, or takes several gradients.
    """
    increment = increment_of(equation)
    # A matrix of several numbers, so that what mixes them is noticed.
    state = at_rest(increment, jnp.zeros((2, 2)))
    check_by_coordinate(increment, state)
    value = reaches(increment, state)[0, 0]
    return None if float(value) <= 0 else 1 / value


def increment_of(equation: AbstractEquation) -> AbstractIncrement:
    """The increment field of an equation, whose step is linearized; a ValueError where it takes several gradients."""
    check_contract(equation, twin=True)
    if equation.several_gradients:
        raise ValueError(
            "Argument `equation` must take one gradient in a step to have a threshold, but a "
            f"{type(equation).__name__} was given."
        )
    return Increment.of(equation)


def reaches(increment: AbstractIncrement, state: TwinState) -> PyTree:
    """Of every parameter the inverse of the curvature at which its step has an eigenvalue -1, as they are coordinate by
    coordinate: with A = dPhi/dy and b = dPhi/dg it is -(1 + A)^-1 b, its part of the parameter (derived: the determinant of
    1 + A + curvature * b e^T vanishes there).

    **Arguments:** `state`: where the step is linearized, see `at_rest`.
    """
    parts = _alike(state)
    params = state.params
    zero = jax.tree.map(jnp.zeros_like, params)
    ones = jax.tree.map(jnp.ones_like, params)

    def step(state, gradient):
        rate = velocity_of(increment, jnp.zeros(()), state, gradient)
        return add_scaled(state, (increment.learning_rate, rate))

    columns = [jax.jvp(lambda y: step(y, zero), (state,), (_only(state, part),))[1] for part in parts]
    response = jax.jvp(lambda g: step(state, g), (zero,), (ones,))[1]

    def solved(*leaves):
        count = len(parts)
        square, right = leaves[: count * count], leaves[count * count :]
        matrix = jnp.stack([jnp.stack(square[i * count : (i + 1) * count], -1) for i in range(count)], -2)
        vector = jnp.stack(right, -1)
        return -jnp.linalg.solve(matrix + jnp.eye(count, dtype=matrix.dtype), vector[..., None])[..., 0, 0]

    rows = [_part(column, part) for part in parts for column in columns]  # row by row
    right = [_part(response, part) for part in parts]
    return jax.tree.map(solved, *rows, *right)


def at_rest(increment: AbstractIncrement, params: PyTree, memory: PyTree = None) -> TwinState:
    """The state around which a step is linear: second moments that a step without a gradient leaves as they are in `memory`
    (or one), counts as there (or at infinity), all else zero."""
    state = increment.init(params) if memory is None else TwinState(params, memory)
    gains, averages = increment.squares(state), increment.averages(params)

    def leaf(value, gain, average):
        if gain:
            return jnp.ones_like(value) if memory is None else value
        if average:
            return jnp.zeros_like(value)
        return at_infinity(value) if memory is None else value

    still = TwinState(params, jax.tree.map(leaf, state.memory, gains.memory, averages.memory))
    rate = velocity_of(increment, jnp.zeros(()), still, jax.tree.map(jnp.zeros_like, params)).memory

    def held(value, gain, rate):
        left = value + increment.learning_rate * rate
        return (value * value / jnp.where(left > 0, left, 1)).astype(value.dtype) if gain else value

    return TwinState(params, jax.tree.map(held, still.memory, gains.memory, rate))


def check_by_coordinate(increment: AbstractIncrement, state: TwinState) -> None:
    """Raises a ValueError for a rule that mixes coordinates."""
    name = type(increment.algorithm).__name__
    signs = jax.tree.map(
        lambda leaf: (-1.0) ** jnp.arange(leaf.size).reshape(leaf.shape).astype(leaf.dtype), state.params
    )
    zero = jax.tree.map(jnp.zeros_like, state.params)

    def along(direction):
        velocity = lambda g: velocity_of(increment, jnp.zeros(()), state, g).params  # noqa: E731
        return jax.jvp(velocity, (zero,), (direction,))[1]

    plain = along(jax.tree.map(jnp.ones_like, state.params))
    turned = jax.tree.map(jnp.multiply, signs, along(signs))
    pairs = zip(jax.tree.leaves(plain), jax.tree.leaves(turned), strict=True)
    if not all(bool(jnp.all(jnp.abs(a - b) <= _OFF * jnp.max(jnp.abs(a)))) for a, b in pairs):  # nor where it is NaN
        raise ValueError(
            f"Argument `equation` must act coordinate by coordinate to have a threshold, but a {name} was given."
        )


def _nodes(state: TwinState):
    """The memory as nodes, of which some are like the parameters."""
    return jax.tree.flatten(state.memory, is_leaf=lambda node: _is_like(node, state.params))


def _is_like(node: Any, params: PyTree) -> bool:
    if jax.tree.structure(node) != jax.tree.structure(params):
        return False
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(node)] == [leaf.shape for leaf in jax.tree.leaves(params)]


def _alike(state: TwinState) -> list[int | None]:
    """The parts of a state that are like the parameters: these first, as None, then nodes of the memory."""
    return [None, *(index for index, node in enumerate(_nodes(state)[0]) if _is_like(node, state.params))]


def _part(state: TwinState, which: int | None) -> PyTree:
    return state.params if which is None else _nodes(state)[0][which]


def _only(state: TwinState, which: int | None) -> TwinState:
    """One in a part of the state, zero elsewhere."""
    zero = jax.tree.map(jnp.zeros_like, state)
    if which is None:
        return eqx.tree_at(lambda s: s.params, zero, jax.tree.map(jnp.ones_like, state.params))
    nodes, treedef = _nodes(zero)
    nodes[which] = jax.tree.map(jnp.ones_like, nodes[which])
    return TwinState(zero.params, jax.tree.unflatten(treedef, nodes))

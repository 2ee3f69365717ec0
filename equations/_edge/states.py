"""The states of equations in which an algorithm alternates about a center."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._modified.increment import TwinState
from .._tree import add_scaled


class RodState(eqx.Module):
    """The algorithm is at `center + rod` and `center - rod` in turn, parameters and memory; both are `TwinState`s."""

    center: TwinState
    rod: TwinState

    @property
    def memory(self) -> PyTree:
        """That of the algorithm at the center."""
        return self.center.memory


class Window(NamedTuple):
    """The memory of an algorithm with the parameters before its last step, and before the one before that."""

    inner: Any
    previous: PyTree
    earlier: PyTree


def rod_ends(state: RodState) -> PyTree:
    """The parameters at both ends, with an axis of them in front."""
    return ends(state.center.params, state.rod.params)


def ends(center: PyTree, half: PyTree) -> PyTree:
    """`center + half` and `center - half`, with an axis of them in front."""
    return jax.tree.map(lambda c, s: jnp.stack([c + s, c - s]), center, half)


def from_window(params: PyTree, memory: Window) -> tuple[PyTree, PyTree]:
    """The center and the alternating part of a run at its last step, from the last three parameters.

    The alternating part is that of the step before, (x_- - 2x + x_+)/4 up to its sign, and the center is what is left of
    the parameters without it: exact where one moves along a line while the other keeps its size.
    """
    half = _alternating(params, memory.previous, memory.earlier)
    return add_scaled(params, (-1.0, half)), half


def from_two_steps(params: PyTree, first: PyTree, second: PyTree) -> tuple[PyTree, PyTree]:
    """The center and the alternating part of a run at its first step, from the parameters at its start and at two steps.

    The same where a run begins: of a mode of curvature X/eta what alternates is X^2/4 of it, nearly all about the edge and
    next to nothing where the flow is smooth.
    """
    half = _alternating(second, first, params)
    return add_scaled(first, (1.0, half)), half


def _alternating(new: PyTree, old: PyTree, older: PyTree) -> PyTree:
    """What alternates at the middle of three parameters in a row, up to its sign."""
    return jax.tree.map(lambda x, y, z: ((x - 2 * y + z) / 4).astype(x.dtype), new, old, older)


def norm(tree: PyTree) -> Array:
    """The Euclidean norm over all leaves, with a derivative of zero at zero."""
    square = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree))
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def unit(tree: PyTree) -> PyTree:
    """Of length one; zero where all is zero."""
    length = norm(tree)
    scale = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    return jax.tree.map(lambda leaf: (scale * leaf).astype(leaf.dtype), tree)


def shortest(center: PyTree) -> Array:
    """The distance below which two gradients on either side of a center lose the digits of their difference."""
    dtype = jnp.result_type(*jax.tree.leaves(center))
    scale = min(float(jnp.finfo(dtype).eps) ** 0.5, 1e-5)
    return jnp.asarray(scale, dtype) * jnp.maximum(1, norm(center)).astype(dtype)

"""Counts: how a dynamics that reads a whole number of training steps is held there, or kept between two of them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

# A count from an interval between two jumps stays so many units in the last place away from its ends: more than the
# rounding of t/eta or of a count that a solver has integrated.
_MARGIN = 256


def around(outer: Any, name: str, inner: Any) -> Any:
    """`outer` around another `inner`, which is its field `name`; the same object where that is so already."""
    return outer if inner is getattr(outer, name) else eqx.tree_at(lambda o: getattr(o, name), outer, inner)


def put(module: Any, **values: Any) -> Any:
    """A module with other values in fields that may be None, without the checks that its construction makes."""
    names = list(values)
    return eqx.tree_at(
        lambda m: [getattr(m, name) for name in names], module, list(values.values()), is_leaf=lambda leaf: leaf is None
    )


def clip_count(count: Array, window: tuple[Array, Array] | None) -> Array:
    """A real count, kept inside an interval `(low, high)` as seen from within, the very number where that is empty; as it
    is where there is None."""
    if window is None:
        return count
    low, high = (jnp.asarray(end, count.dtype) for end in window)
    margin = _MARGIN * jnp.finfo(count.dtype).eps * jnp.maximum(1, high)
    return jnp.where(low < high, jnp.clip(count, low + margin, high - margin), low)


def schedule_counts(memory: PyTree) -> PyTree[bool]:
    """Which leaves of an optimizer's memory are the steps of a schedule, and not those of a bias correction.

    These are what Optax's own states say: those of `scale_by_schedule` (and so of every learning rate that is a schedule)
    and of `inject_hyperparams`.
    """
    if isinstance(memory, optax.ScaleByScheduleState):
        return jax.tree.map(lambda leaf: True, memory)
    if isinstance(memory, optax.InjectHyperparamsState | optax.InjectStatefulHyperparamsState):
        integer = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.integer)  # noqa: E731
        mine = jax.tree.map(integer, memory._replace(inner_state=None))
        return mine._replace(inner_state=schedule_counts(memory.inner_state))
    children, treedef = jax.tree.flatten(memory, is_leaf=lambda node: node is not memory)
    if treedef == jax.tree.structure(0):
        return False
    return jax.tree.unflatten(treedef, [schedule_counts(child) for child in children])


def foreign_counts(memory: PyTree, known: bool = False) -> PyTree[bool]:
    """Which leaves of a memory are whole numbers in a state that is not of Optax: nobody knows what they count."""
    children, treedef = jax.tree.flatten(memory, is_leaf=lambda node: node is not memory)
    if treedef == jax.tree.structure(0):
        return bool(jnp.issubdtype(memory.dtype, jnp.integer)) and not known
    if not isinstance(memory, dict) and type(memory) not in (tuple, list):
        known = type(memory).__module__.split(".")[0] == "optax"
    return jax.tree.unflatten(treedef, [foreign_counts(child, known) for child in children])

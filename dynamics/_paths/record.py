"""What is recorded of a path, the keys of paths, and what is kept of one that diverges."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

Observables = dict[str, Callable]


def record(observe: Observables, params: PyTree, static: PyTree) -> dict[str, Array]:
    """The observables of one path at one save."""
    model = eqx.combine(params, static)
    return {name: jnp.asarray(function(model)) for name, function in observe.items()}


def is_ok(params: PyTree, state: PyTree = None) -> Array:
    """Whether parameters and state are finite, and the parameters' fourth power would not overflow.

    The error of a variance takes that power. The memory of an optimizer may well hold larger numbers.
    """

    def small(leaf):
        bound = float(jnp.finfo(leaf.dtype).max) ** 0.25
        if leaf.size <= 64:
            return jnp.all(jnp.abs(leaf) < bound)
        # This is computed in every step, and on a CPU a maximum and a sum cost half of `all`. The sum is there for NaN,
        # which XLA's maximum passes over under vmap.
        return (jnp.max(jnp.abs(leaf)) < bound) & jnp.isfinite(jnp.sum(leaf))

    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    ok = [small(leaf) for leaf in jax.tree.leaves(params)] + [jnp.all(jnp.isfinite(leaf)) for leaf in floats]
    return jnp.all(jnp.stack(ok))


def first_failure(failed_at: Array, ok: Array, step: Array | int) -> Array:
    """`failed_at`, or `step` if the path has only now gone bad."""
    return jnp.where((failed_at < 0) & ~ok, jnp.asarray(step, jnp.int32), failed_at)


def keep(failed: Array, old: PyTree, new: PyTree) -> PyTree:
    """The old state for a failed path, the new one for any other."""
    return jax.tree.map(lambda a, b: jnp.where(failed, a, b), old, new)


def for_all_paths(tree: PyTree, paths: int) -> PyTree:
    """The results of one path for `paths` paths that are all the same."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (paths, *leaf.shape[1:])), tree)


def with_start(first: PyTree, rest: PyTree) -> PyTree:
    """Records with the one of step 0 in front."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)

"""Loops over steps in which paths are the last axis of every array."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

_FEW = 16
# Paths are filled up to a multiple, so that none is in the remainder of a vectorized loop, which rounds differently.
_WIDTH = 16


def are_few(*trees: PyTree) -> bool:
    """Whether states and the numbers that move them are so small that a step takes less than its way through memory."""
    return all(sum(leaf.size for leaf in jax.tree.leaves(tree)) <= _FEW for tree in trees)


def loop_in_lanes(step: Callable, given: PyTree, start: Array, stop: Array, begin: PyTree) -> PyTree:
    """`step(given, t, state)` from `begin` on for t = start, start + 1, ... before `stop`.

    Where `jax.vmap` maps over it, that is over the steps and not over the loop, with paths as the last axis: for a handful
    of numbers a path JAX's own rule, which puts paths first, makes a product with a small matrix ten times as dear.
    """
    arrays, static = eqx.partition(given, eqx.is_array)

    def run(step, start, stop, begin):
        _, end = jax.lax.while_loop(
            lambda carry: carry[0] < stop, lambda carry: (carry[0] + 1, step(*carry)), (start, begin)
        )
        return end

    @jax.custom_batching.custom_vmap
    def loop(arrays, start, stop, begin):
        whole = eqx.combine(arrays, static)
        return run(lambda t, state: step(whole, t, state), start, stop, begin)

    @loop.def_vmap
    def _(size, mapped, arrays, start, stop, begin):
        of_paths, *clocks, begins = mapped
        if any(clocks):
            axes = jax.tree.map(lambda one: 0 if one else None, mapped)
            end = jax.vmap(lambda *given: loop.fun(*given), axes)(arrays, start, stop, begin)
            return end, jax.tree.map(lambda leaf: True, end)
        axes = jax.tree.map(lambda one: -1 if one else None, of_paths)
        full = _WIDTH * -(-size // _WIDTH)

        def to_last(leaf, one):
            if not one:
                return leaf
            leaf = jnp.moveaxis(leaf, 0, -1)
            more = [leaf[..., -1:]] * (full - size)
            return jnp.concatenate([leaf, *more], axis=-1) if more else leaf

        def spread(leaf, one):
            return to_last(leaf, one) if one else jnp.broadcast_to(leaf[..., None], (*leaf.shape, full))

        last = jax.tree.map(to_last, arrays, of_paths)

        def all_steps(t, state):
            one = lambda arrays, state: step(eqx.combine(arrays, static), t, state)  # noqa: E731
            return jax.vmap(one, (axes, -1), -1)(last, state)

        end = run(all_steps, start, stop, jax.tree.map(spread, begin, begins))
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0)[:size], end), jax.tree.map(lambda leaf: True, end)

    return loop(arrays, start, stop, begin)


def row(leaf: Array, index: Any) -> Array:
    """`leaf[index]`. Of a single row by a sum, since JAX's rule for an index puts the axis that it maps over first."""
    return jnp.sum(leaf, axis=0, dtype=leaf.dtype) if len(leaf) == 1 else leaf[index]

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
# So many take all steps of a loop before the next ones do: what a step needs of them fits into the cache.
_LANES = 4096


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
        lanes = min(_WIDTH * -(-size // _WIDTH), _LANES)
        count = -(-size // lanes)

        def split(leaf, one):
            """Leaves `(count, ..., lanes)`."""
            if not one:
                return jnp.broadcast_to(leaf[..., None], (count, *leaf.shape, lanes))
            more = [leaf[-1:]] * (count * lanes - size)
            leaf = jnp.concatenate([leaf, *more]) if more else leaf
            return jnp.moveaxis(leaf.reshape(count, lanes, *leaf.shape[1:]), 1, -1)

        own, shared = eqx.partition(arrays, of_paths)

        def part(given):
            own, begin = given

            def all_steps(t, state):
                whole = lambda own: eqx.combine(own, shared, static)  # noqa: E731
                return jax.vmap(lambda own, state: step(whole(own), t, state), -1, -1)(own, state)

            return run(all_steps, start, stop, begin)

        end = jax.lax.map(part, (jax.tree.map(lambda leaf: split(leaf, True), own), jax.tree.map(split, begin, begins)))
        end = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 1).reshape(-1, *leaf.shape[1:-1])[:size], end)
        return end, jax.tree.map(lambda leaf: True, end)

    return loop(arrays, start, stop, begin)


def row(leaf: Array, index: Any) -> Array:
    """`leaf[index]`. Of a single row by a sum, since JAX's rule for an index puts the axis that it maps over first."""
    return jnp.sum(leaf, axis=0, dtype=leaf.dtype) if len(leaf) == 1 else leaf[index]

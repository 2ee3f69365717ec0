"""What is recorded of a path, and what is kept of one that diverges."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._arguments.observables import Observables, sees_state


def record(
    observe: Observables, params: PyTree, static: PyTree, state: Callable[[], PyTree] | None = None
) -> dict[str, Array]:
    """The observables of one path at one save; `state()` is that of the equation there."""
    model = eqx.combine(params, static)

    def value(function):
        return function(model, state()) if state is not None and sees_state(function) else function(model)

    return {name: jnp.asarray(value(function)) for name, function in observe.items()}


def first_record(observe: Observables, params: PyTree, static: PyTree, dynamics: Any) -> dict[str, Array]:
    """That of the start."""
    return record(observe, params, static, lambda: dynamics.init(params))


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
    """Records with the one of the start in front."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)


@dataclasses.dataclass(frozen=True)
class Places:
    """Room for the records of a run after that of its start.

    As many as are asked for where the run is traced, since it may be differentiated; else some more, so that runs of other
    lengths need no other program.
    """

    number: int
    exact: bool = True

    @classmethod
    def of(cls, count: int, record: PyTree, paths: int, traced: bool) -> "Places":
        """For `count` records like `record`, of so many paths."""
        if traced:
            return cls(count)
        size = paths * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(record))
        free = min(_FREE_RECORDS, _FREE_BYTES // max(size, 1))
        coarse = max(1, 2 ** (count.bit_length() - 3))  # at most a quarter more
        return cls(max(free, -(-count // coarse) * coarse), exact=False)

    def loop(self, interval: Callable, carry: PyTree, count: Array, first: PyTree) -> tuple[PyTree, PyTree]:
        """As `jax.lax.scan` of `interval(carry, index)` over the first `count` intervals, with the record `first` in front
        of theirs; what lies beyond them holds zeros."""
        if self.exact:
            carry, saves = jax.lax.scan(interval, carry, jnp.arange(self.number, dtype=jnp.int32))
            return carry, with_start(first, saves)

        def put(saves, index, saved):
            return jax.tree.map(lambda all, one: all.at[index].set(one), saves, saved)

        def body(carried):
            index, carry, saves = carried
            carry, saved = interval(carry, index)
            return index + 1, carry, put(saves, index + 1, saved)

        empty = jax.tree.map(lambda leaf: jnp.zeros((self.number + 1, *leaf.shape), leaf.dtype), first)
        begin = jnp.zeros((), jnp.int32), carry, put(empty, 0, first)
        _, carry, saves = jax.lax.while_loop(lambda carried: carried[0] < count, body, begin)
        return carry, saves


# Records that cost nothing to have room for.
_FREE_RECORDS, _FREE_BYTES = 512, 2**18


@functools.partial(jax.jit, static_argnums=1)
def cut(saves: PyTree, count: int) -> PyTree:
    """The records of the start and of `count` intervals, leaves `(paths, 1 + count, ...)`, of the room for them."""
    return jax.tree.map(lambda leaf: leaf[:, : count + 1], saves)

"""How far a path has come: all that it goes on from, to the bit."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from .quotient import Peak, no_peak


class Progress(eqx.Module):
    """The state of a run between two records, of one path or with a leading axis of paths.

    **Attributes:**

    - `running`: what the run itself carries: of a solver the state with the half flow that it may owe, of an algorithm
        its parameters, its memory and what its sampler carries.
    - `recorded`: the state of the last record, complete.
    - `failed_at`: the training step in which the path failed, -1: it did not.
    - `peak`: of the quotients of stages.
    """

    running: PyTree
    recorded: PyTree
    failed_at: Int[Array, " *paths"]
    peak: Peak

    @classmethod
    def begin(cls, running: PyTree, recorded: PyTree, params: PyTree) -> "Progress":
        """That of a path at its start, from these parameters."""
        return cls(running, recorded, jnp.full((), -1, jnp.int32), no_peak(params))

    def of_path(self, index: Array | int) -> "Progress":
        """That of one path of several."""
        return jax.tree.map(lambda leaf: leaf[index], self)


class Ensemble(eqx.Module):
    """How far the paths of a run have come; what is the same in all of them, such as a count, stands once.

    In a run from parameters nothing but what is drawn has an axis of paths: only then do the two compute alike.
    """

    progress: Progress
    axes: PyTree[int | None] = eqx.field(static=True)

    @classmethod
    def of(cls, progress: Progress) -> "Ensemble":
        """From that of all paths, leaves `(paths, ...)`."""
        leaves, treedef = jax.tree.flatten(progress)
        shared = [bool(np.array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))) for leaf in map(np.asarray, leaves)]
        found = [leaf[0] if same else leaf for leaf, same in zip(leaves, shared, strict=True)]
        return cls(jax.tree.unflatten(treedef, found), tuple(None if same else 0 for same in shared))

    def of_path(self, index: Array | int) -> Progress:
        """That of one path."""
        leaves, treedef = jax.tree.flatten(self.progress)
        found = [leaf if axis is None else leaf[index] for leaf, axis in zip(leaves, self.axes, strict=True)]
        return jax.tree.unflatten(treedef, found)

    def each(self, run: Callable[[Array, Progress], PyTree], keys: Array) -> PyTree:
        """`run(key, progress)` of every path, leaves `(paths, ...)`; one alone has no axis inside."""
        if len(keys) == 1:
            return jax.tree.map(lambda leaf: leaf[None], run(keys[0], self.of_path(0)))
        leaves, treedef = jax.tree.flatten(self.progress)

        def one(key, *leaves):
            return run(key, jax.tree.unflatten(treedef, leaves))

        return jax.vmap(one, in_axes=(0, *self.axes))(keys, *leaves)

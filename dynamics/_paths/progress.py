"""How far the paths of a run have come: all that they go on from, to the bit."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from equations.internal import is_traced, leaf_name

from .layout import Layout
from .quotient import Peak, no_peak


class Progress(eqx.Module):
    """The state of a run between two records, of one path or with a leading axis of paths.

    **Attributes:**

    - `running`: what the run itself carries: of a solver the state, with the half flow that it may owe, of an algorithm
        its memory and what its sampler carries.
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

    def like(self, progress: "Progress") -> "Progress":
        """In the structure of another one: its own."""
        return self

    @property
    def state(self) -> PyTree:
        """The state of the last record."""
        return self.recorded

    @property
    def ended(self) -> None:
        """Not known beside it."""
        return None


class Leaves(eqx.Module):
    """Leaves by name, of a tree whose structure is not known."""

    by_name: dict[str, Array]


def names_of(tree: PyTree) -> tuple[str, ...]:
    """Of the leaves of a tree, as one reads them in code; the same ones for the same keys and attributes in one order."""
    if isinstance(tree, Leaves):
        return tuple(sorted(tree.by_name))  # in the order of its leaves
    return tuple(leaf_name("", path).strip("`.") for path, _ in jax.tree_util.tree_leaves_with_path(tree))


class Stored(eqx.Module):
    """A `Progress` from a file. What of its states has no structure, leaves by name, the run that goes on knows.

    **Attributes:** as of `Progress`; `ended`: the state of the equation at the end, leaves `(paths, ...)`, or None.
    """

    running: Leaves
    recorded: PyTree | Leaves
    failed_at: Array
    peak: Peak
    ended: PyTree | None = None

    def like(self, progress: Progress) -> Progress:
        """In the structure of another one, with its own leaves by name; where it has other ones, as these are."""

        def part(own, structure):
            treedef, names = jax.tree.structure(structure), names_of(structure)
            if not isinstance(own, Leaves):
                own = Leaves(dict(zip(names_of(own), jax.tree.leaves(own), strict=True)))
            if sorted(names) != sorted(own.by_name):
                return own
            return jax.tree.unflatten(treedef, [own.by_name[name] for name in names])

        running, recorded = part(self.running, progress.running), part(self.recorded, progress.recorded)
        return Progress(running, recorded, self.failed_at, self.peak)

    @property
    def state(self) -> PyTree | None:
        """The state of the last record; None where it has no structure."""
        return None if isinstance(self.recorded, Leaves) else self.recorded


class Fresh(eqx.Module):
    """A run that begins with parameters, the same for all paths."""

    given: PyTree
    resumed: ClassVar[bool] = False

    def each(self, run: Callable[[Array, Progress], PyTree], begin: Callable, keys: Array, layout: Layout) -> PyTree:
        """`run(key, progress)` of every path, leaves `(paths, ...)`, from `begin(params, key)`."""
        return layout.each_path(lambda key: run(key, begin(self.given, key)), keys)

    def of_path(self, index: Array | int, begin: Callable, keys: Array) -> Progress:
        """That of one path."""
        return begin(self.given, keys[index])

    def state(self, dynamics: Any) -> PyTree:
        """The state of the dynamics, of the first path."""
        return dynamics.init(self.given)

    def params(self, dynamics: Any) -> PyTree:
        """The parameters of the first path."""
        return self.given


def _alike(leaf: Array) -> bool:
    """Whether all paths have the same, bit by bit; NaN are taken for different."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    numbers = np.asarray(leaf)
    return bool(np.array_equal(numbers, np.broadcast_to(numbers[:1], numbers.shape)))


class Ensemble(eqx.Module):
    """A run that goes on; what is the same in all its paths, such as a count, stands once.

    In a run from parameters nothing but what is drawn has an axis of paths: only then do the two compute alike.
    """

    progress: Progress
    axes: tuple[int | None, ...] = eqx.field(static=True)
    resumed: ClassVar[bool] = True

    @classmethod
    def spread(cls, begin: Callable, params: PyTree, keys: Array) -> "Ensemble":
        """From parameters of its own for every path, leaves `(paths, ...)`."""
        return cls.of(eqx.filter_jit(eqx.filter_vmap(begin))(params, keys))

    @classmethod
    def of(cls, progress: Progress) -> "Ensemble":
        """From that of all paths, leaves `(paths, ...)`."""
        leaves, treedef = jax.tree.flatten(progress)
        if any(is_traced(leaf) for leaf in leaves):
            return cls(progress, (0,) * len(leaves))
        shared = [_alike(leaf) for leaf in leaves]
        found = [leaf[0] if same else leaf for leaf, same in zip(leaves, shared, strict=True)]
        return cls(jax.tree.unflatten(treedef, found), tuple(None if same else 0 for same in shared))

    def each(self, run: Callable[[Array, Progress], PyTree], begin: Callable, keys: Array, layout: Layout) -> PyTree:
        """As of `Fresh`."""
        if len(keys) == 1:
            return layout.each_path(lambda key: run(key, self.of_path(0)), keys)
        leaves, treedef = jax.tree.flatten(self.progress)

        def one(key, *leaves):
            return run(key, jax.tree.unflatten(treedef, leaves))

        return layout.vmap(one, (0, *self.axes), keys, *leaves)

    def of_path(self, index: Array | int, begin: Any = None, keys: Any = None) -> Progress:
        """That of one path."""
        leaves, treedef = jax.tree.flatten(self.progress)
        found = [leaf if axis is None else leaf[index] for leaf, axis in zip(leaves, self.axes, strict=True)]
        return jax.tree.unflatten(treedef, found)

    def state(self, dynamics: Any) -> PyTree:
        """As of `Fresh`."""
        return self.of_path(0).recorded

    def params(self, dynamics: Any) -> PyTree:
        """As of `Fresh`."""
        return dynamics.params(self.state(dynamics))

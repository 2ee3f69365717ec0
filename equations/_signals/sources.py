"""Examples that are not held in memory: drawn afresh, read from a disk, or handed on by an iterator of batches.

What goes by all examples (the mean, the noise of a solver other than SVAG, `value`) goes by a sample of them, drawn once.
Algorithm and SVAG draw batches, and need nothing else.
"""

import abc
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from .._checks.arguments import integer

_DRAWS = 1024


def _rows(leaf: Any, index: np.ndarray) -> np.ndarray:
    """Rows of what lies elsewhere, each read once and in ascending order: h5py takes no other, Zarr reads chunks so."""
    unique, places = np.unique(index, return_inverse=True)
    try:
        found = leaf.oindex[unique]
    except AttributeError:
        found = leaf[unique]
    return np.asarray(found)[places.reshape(index.shape)]


def _struct(array: Any) -> jax.ShapeDtypeStruct:
    """That of one example as JAX holds it, which halves 64 bits unless told otherwise."""
    return jax.ShapeDtypeStruct(array.shape[1:], jax.dtypes.canonicalize_dtype(array.dtype))


def is_elsewhere(leaf: Any) -> bool:
    """Whether a value is like an array, of one axis at least."""
    try:
        return len(leaf.shape) > 0 and leaf.dtype is not None
    except (AttributeError, TypeError):
        return False


class AbstractSource(abc.ABC):
    """Where the examples of batches come from, given to a signal in place of its data.

    **Attributes:** `draws`, the size of the sample that stands for all examples; `size`, the number of examples, None where
    there is no end of them; `batch_size`, where batches are all of one; `by_index`, whether examples are counted, so that
    batches may be drawn without replacement.
    """

    draws: int
    size: Any = None
    batch_size: Any = None
    by_index: ClassVar[bool] = False

    @abc.abstractmethod
    def sample(self) -> PyTree:
        """That sample, always the same: leaves `(draws, ...)`."""

    @abc.abstractmethod
    def draw(self, key: Array, size: int) -> PyTree:
        """A batch by its key, leaves `(size, ...)`."""

    def take(self, index: Array) -> PyTree:
        """The examples of these numbers, shape `(B,)`, where they are counted."""
        raise NotImplementedError

    def restart(self) -> None:  # noqa: B027  # most have nothing to begin anew
        """Before a run from its first step."""


class Population(AbstractSource):
    """Infinite data: `sampler(key) -> example`, a fresh one for every place in every batch.

        objective = Objective(loss, Population(sampler))

    `train` and `SVAG` then have the very algorithm on the population. Elsewhere its mean and noise are those of `draws`
    examples, always the same: their standard error is what `draws` leave of the examples' spread.

    **Arguments:** `sampler`, a function of JAX's from a typed key to an example, a PyTree of arrays; `draws`; `key`, by
    which these are drawn.
    """

    def __init__(self, sampler: Callable[[Array], PyTree], draws: int = _DRAWS, key: Array | None = None):
        if not callable(sampler):
            raise TypeError(f"Argument `sampler` must be callable as sampler(key), but {sampler!r} was given.")
        self.sampler, self.draws = sampler, integer("draws", draws, minimum=2)
        self._key = jax.random.key(0) if key is None else key

    def sample(self):
        return jax.jit(lambda key: self.draw(key, self.draws))(self._key)

    def draw(self, key, size):
        return jax.vmap(self.sampler)(jax.random.split(key, size))

    def __repr__(self):
        return f"Population(draws={self.draws})"


class Stored(AbstractSource):
    """Arrays that are not in memory, of which the rows of a batch are read when it is drawn.

        objective = Objective(loss, Stored((np.load("x.npy", mmap_mode="r"), zarr.open_array("y.zarr"))))

    The batches are those that arrays in memory would have had.

    **Arguments:** `data`, a PyTree of arrays of NumPy, `np.memmap`s, Zarr's or h5py's, whose leading axis counts the
    examples; `draws`, by default 1024 or all.
    """

    by_index = True

    def __init__(self, data: PyTree, draws: int = _DRAWS):
        self._leaves, self._treedef = jax.tree.flatten(data)
        try:
            self._structs = [_struct(leaf) for leaf in self._leaves]
        except AttributeError:
            self._structs = []
        if not self._structs:
            raise TypeError(f"Argument `data` must hold arrays with a shape and a dtype, but {data!r} was given.")
        sizes = sorted({leaf.shape[0] if leaf.shape else 0 for leaf in self._leaves})
        if len(sizes) > 1 or not sizes[0]:
            raise ValueError(
                f"Argument `data` must have the same number of examples in every leaf, but {sizes} were given."
            )
        self.size = sizes[0]
        self.draws = min(integer("draws", draws, minimum=2), self.size)

    def _read(self, index) -> tuple[np.ndarray, ...]:
        index = np.asarray(index)
        pairs = zip(self._leaves, self._structs, strict=True)
        return tuple(_rows(leaf, index).astype(struct.dtype, copy=False) for leaf, struct in pairs)

    def sample(self):
        index = np.sort(np.random.default_rng(0).choice(self.size, self.draws, replace=False))
        return jax.tree.unflatten(self._treedef, self._read(index))

    def take(self, index):
        shapes = [jax.ShapeDtypeStruct((*index.shape, *struct.shape), struct.dtype) for struct in self._structs]
        found = jax.pure_callback(self._read, tuple(shapes), index, vmap_method="broadcast_all")
        return jax.tree.unflatten(self._treedef, found)

    def draw(self, key, size):
        return self.take(jax.random.randint(key, (size,), 0, self.size))

    def __repr__(self):
        return f"Stored({self.size} examples, draws={self.draws})"


class Feed(AbstractSource):
    """Batches as an iterator hands them on, such as a `DataLoader`: the next one for each step of each path.

        objective = Objective(loss, Feed(loader))

    A run begins with the first batch of what can be iterated anew, at the end of which it goes through it again; an
    iterator goes on, and ends with an error where it has no more. SVAG takes batches for independent ones: that is for the
    iterator to see to. Which path gets which batch is no part of what a key determines.

    **Arguments:** `batches`, an iterable of PyTrees of arrays (of NumPy, PyTorch or JAX), all of one size, smaller ones
    left out; `draws`: so many examples of the first batches stand for all, by default 1024 or one pass.
    """

    def __init__(self, batches: Iterable, draws: int = _DRAWS):
        if not isinstance(batches, Iterable):
            raise TypeError(f"Argument `batches` must be an iterable of batches, but {batches!r} was given.")
        self._batches, self._lock = batches, threading.Lock()
        self._ahead: list = []  # of an iterator, what was looked at
        wanted, first, begun = integer("draws", draws, minimum=2), [], iter(batches)
        for batch in begun:
            first.append(jax.tree.map(np.asarray, batch))
            if sum(len(jax.tree.leaves(one)[0]) for one in first) >= wanted:
                break
        if not first:
            raise ValueError("Argument `batches` must hold at least one batch, but it is empty.")
        self._renews = begun is not batches
        self._ahead = [] if self._renews else first
        self._treedef = jax.tree.structure(first[0])
        self.batch_size = max(len(jax.tree.leaves(one)[0]) for one in first)
        self._sample = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:wanted], *first)
        self._structs = [_struct(leaf) for leaf in jax.tree.leaves(self._sample)]
        self.draws = len(jax.tree.leaves(self._sample)[0])
        self._iterator = iter(batches) if self._renews else begun

    def restart(self):
        if self._renews:
            self._iterator = iter(self._batches)

    def _next(self) -> list[np.ndarray]:
        for _ in range(2):
            while self._ahead:
                leaves = jax.tree.leaves(self._ahead.pop(0))
                if len(leaves[0]) == self.batch_size:
                    return leaves
            for batch in self._iterator:
                leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(batch)]
                if len(leaves[0]) == self.batch_size:
                    return leaves
            if not self._renews:
                break
            self.restart()
        raise RuntimeError("Argument `batches` has no more batches for this run.")

    def _several(self, key) -> tuple[np.ndarray, ...]:
        ahead = np.shape(key)[:-1]
        with self._lock:
            found = [self._next() for _ in range(int(np.prod(ahead)))]
        columns = zip(zip(*found, strict=True), self._structs, strict=True)
        return tuple(
            np.stack(column).astype(struct.dtype, copy=False).reshape(*ahead, self.batch_size, *struct.shape)
            for column, struct in columns
        )

    def sample(self):
        return self._sample

    def draw(self, key, size):
        shapes = tuple(jax.ShapeDtypeStruct((size, *struct.shape), struct.dtype) for struct in self._structs)
        found = jax.pure_callback(self._several, shapes, jax.random.key_data(key), vmap_method="broadcast_all")
        return jax.tree.unflatten(self._treedef, found)

    def __repr__(self):
        return f"Feed({type(self._batches).__name__}, draws={self.draws})"


class Sampled(eqx.Module):
    """The data of a signal from a source: the sample that stands for all, and where batches come from."""

    examples: PyTree
    source: AbstractSource = eqx.field(static=True)

    def __getitem__(self, place):
        return self.examples[place]


def sampled(data: Any) -> Any:
    """Data, or what a signal has in place of them from a source."""
    return Sampled(data.sample(), data) if isinstance(data, AbstractSource) else data


def source_of(data: Any) -> AbstractSource | None:
    """Where the batches of these data come from; None where they are held."""
    return data.source if isinstance(data, Sampled) else None


def held(data: PyTree) -> PyTree:
    """Data that are held, or the sample that stands for them."""
    return data.examples if isinstance(data, Sampled) else data


def check_source(data: Any, batch_size: int | None, sampling: str) -> None:
    """Raises a ValueError unless batches are drawn from a source as it can."""
    source = source_of(data)
    if source is None or batch_size is None:
        return
    if sampling != "with_replacement" and not source.by_index:
        raise ValueError(
            f"Argument `sampling` must be 'with_replacement' for examples of {source!r}, none of which comes twice, but "
            f"{sampling!r} was given."
        )
    if source.batch_size not in (None, batch_size):
        raise ValueError(
            f"Argument `batch_size` must be {source.batch_size}, that of the batches of {source!r}, but "
            f"{batch_size} was given."
        )


def size_of(signal: Any) -> int:
    """The number of examples that batches are drawn from; that of the sample where there is no end of them."""
    source = source_of(signal.data)
    return signal.size if source is None or source.size is None else source.size

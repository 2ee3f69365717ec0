"""How the paths of an ensemble are laid out: in blocks of one size, and over devices.

A block is computed by one program wherever it runs: how many devices there are changes no number.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from equations.internal import LARGEST, integer, is_traced

# An ensemble on devices goes in so many blocks if nothing is said, and so many devices have something to do.
_BLOCKS = 16
# Paths of a block, of one that is taken whatever it leaves empty, and numbers that it may hold. Reduced ensembles of small
# states take .69 of the time in blocks of 16384 that they take in those of 4096 or 32768.
_LARGEST, _SMALL, _NUMBERS = 16384, 4096, 2**24


@dataclasses.dataclass(frozen=True)
class Layout:
    """Blocks of so many paths, None: all of them in one, along an axis of a mesh of devices, if there is one."""

    block: int | None = None
    mesh: Mesh | None = None
    axis: str = "paths"

    @classmethod
    def of(cls, devices: Any, block: Any) -> "Layout":
        """From what the user gave.

        **Raises:** TypeError or ValueError, naming the argument.
        """
        block = None if block is None else integer("block", block, maximum=LARGEST)
        if devices is None:
            return cls(block)
        mesh = devices if isinstance(devices, Mesh) else Mesh(np.asarray(_devices(devices)), ("paths",))
        if not mesh.axis_names:
            raise ValueError(f"Argument `devices` must have an axis for paths, but {mesh!r} was given.")
        axis = "paths" if "paths" in mesh.axis_names else str(mesh.axis_names[0])
        automatic = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
        return cls(block, automatic, axis)

    @property
    def width(self) -> int:
        """How many blocks are computed at once."""
        return 1 if self.mesh is None else self.mesh.shape[self.axis]

    def blocks(self, paths: int, most: Callable[[], int]) -> "Layout":
        """With a size for blocks where none was given but devices were: by the number of paths, at most `most()`."""
        if self.mesh is None or self.block is not None:
            return self
        size = 1 << (math.ceil(paths / _BLOCKS) - 1).bit_length()
        return dataclasses.replace(self, block=min(size, most()))

    def in_groups(self, size: int) -> "Layout":
        """The same for groups of so many paths, as few in a block as there are that many paths in."""
        return self if self.block is None else dataclasses.replace(self, block=-(-self.block // size))

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """What is said of it in the details of a result."""
        return () if self.block is None else (("block", f"{self.block} paths"),)

    def each_path(self, run: Callable[[Array], PyTree], keys: Array) -> PyTree:
        """`run(key)` on every path's key, leaves `(paths, ...)`; one path has no axis inside, which would cost kernels of
        its own."""
        if self.block is None and len(keys) == 1:
            return jax.tree.map(lambda leaf: leaf[None], run(keys[0]))
        return self.vmap(run, (0,), keys)

    def vmap(self, function: Callable, in_axes: Sequence[int | None], *arrays: Array) -> PyTree:
        """`jax.vmap(function, in_axes)(*arrays)` over paths, block by block."""
        if self.block is None:
            return jax.vmap(function, in_axes=tuple(in_axes))(*arrays)
        paths = next(len(array) for array, axis in zip(arrays, in_axes, strict=True) if axis is not None)
        rows = -(-paths // (self.block * self.width)) * self.width
        # The last path stands for those that are missing, so that nothing else can fail.
        order = jnp.minimum(jnp.arange(rows * self.block), paths - 1).reshape(rows, self.block)
        mapped = [array[order] for array, axis in zip(arrays, in_axes, strict=True) if axis is not None]

        def one(row):
            row = iter(row)
            given = (array if axis is None else next(row) for array, axis in zip(arrays, in_axes, strict=True))
            return jax.vmap(function, in_axes=tuple(in_axes))(*given)

        found = self._over_devices(one, mapped) if self.mesh is not None else jax.lax.map(one, mapped)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:paths], found)

    def _over_devices(self, one: Callable, rows: list[Array]) -> PyTree:
        """`jax.lax.map(one, rows)`, of which each device takes its part."""
        # Traced before, where no array lies on a mesh: operators of Lineax compare the types of their arguments.
        structure = [jax.ShapeDtypeStruct(array.shape[1:], array.dtype) for array in rows]
        closed, shape = jax.make_jaxpr(one, return_shape=True)(structure)
        block, treedef = jax.extend.core.jaxpr_as_fun(closed), jax.tree.structure(shape)
        part = PartitionSpec(self.axis)
        mapped = jax.shard_map(
            lambda rows: jax.lax.map(lambda row: block(*row), rows),
            mesh=self.mesh,
            in_specs=part,
            out_specs=part,
            axis_names={self.axis},
            check_vma=False,
        )
        return jax.tree.unflatten(treedef, mapped(rows))

    def placed(self, tree: PyTree) -> PyTree:
        """The same where arrays that are laid out along explicit axes of the mesh lie along automatic ones, and where
        those committed to other devices are on all of it."""
        if self.mesh is None:
            return tree
        mesh = self.mesh
        everywhere = NamedSharding(mesh, PartitionSpec())

        def place(leaf):
            if not isinstance(leaf, jax.Array) or is_traced(leaf) or not leaf.committed:
                return leaf
            sharding = leaf.sharding
            if isinstance(sharding, NamedSharding) and sharding.mesh != mesh and _alike(sharding.mesh, mesh):
                return jax.device_put(leaf, NamedSharding(mesh, sharding.spec))
            if sharding.device_set == everywhere.device_set:
                return leaf  # itself, by which what was found of it is known
            return jax.device_put(leaf, everywhere)

        return jax.tree.map(place, tree)


def most_paths(numbers: int) -> int:
    """How many paths make a block where nothing is said, each of so many numbers: a power of two."""
    return 1 << (max(1, min(_LARGEST, _NUMBERS // max(1, numbers))).bit_length() - 1)


def fitting(paths: int, most: int) -> int:
    """How many of these paths make a block: a power of two up to `most`, the largest of which blocks hold at most a fourth
    more paths than there are, or a small one."""
    size = min(most, 1 << (paths - 1).bit_length())
    while size > _SMALL and 4 * size * -(-paths // size) > 5 * paths:
        size //= 2
    return size


def size_of(tree: PyTree) -> int:
    """How many numbers there are in arrays or their structures."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _alike(mesh: Any, other: Mesh) -> bool:
    """Whether two meshes are the same but for the types of their axes."""
    same = isinstance(mesh, Mesh) and mesh.axis_names == other.axis_names
    return same and np.array_equal(mesh.devices, other.devices)


def _devices(given: Any) -> list:
    """Devices of JAX: so many of them, or these."""
    have = jax.devices()
    if isinstance(given, int) and not isinstance(given, bool):
        if not 1 <= given <= len(have):
            raise ValueError(
                f"Argument `devices` must be a number from 1 to {len(have)}, that of JAX's devices here, but {given} was "
                "given."
            )
        return have[:given]
    found = list(given) if isinstance(given, Sequence) else []
    if not found or not all(isinstance(one, jax.Device) for one in found):
        raise TypeError(
            "Argument `devices` must be a number of devices, a sequence of jax.Device or a jax.sharding.Mesh, but "
            f"{given!r} was given."
        )
    if len(set(found)) < len(found):
        raise ValueError(f"Argument `devices` must name each device once, but {given!r} was given.")
    return found

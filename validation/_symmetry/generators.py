"""Generators of the usual symmetries of networks."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array


class Between(eqx.Module):
    """K W on the arrays that come into a hidden layer, -W K on those that go out; kernels of convolutions alike."""

    incoming: Callable = eqx.field(static=True)
    outgoing: Callable = eqx.field(static=True)
    matrix: Array

    def __call__(self, vector):
        coming, going = selected("incoming", self.incoming, vector), selected("outgoing", self.outgoing, vector)
        places = [("incoming", array, 0) for array in coming]
        places += [("outgoing", array, min(1, array.ndim - 1)) for array in going]
        for name, array, axis in places:
            if array.ndim == 0 or array.shape[axis] != len(self.matrix):
                raise ValueError(
                    f"Argument `{name}` must give arrays of the width {len(self.matrix)} of `matrix` along their "
                    f"{'second' if axis else 'first'} axis, but one of shape {array.shape} was given."
                )
        distinct("Arguments `incoming` and `outgoing`", [*coming, *going])
        new = [
            matrix_times(array, self.matrix if name == "incoming" else -self.matrix.T, axis)
            for name, array, axis in places
        ]
        zeros = jax.tree.map(jnp.zeros_like, vector)
        return eqx.tree_at(lambda tree: [*self.incoming(tree), *self.outgoing(tree)], zeros, new)


def matrix_times(array: Array, matrix: Array, axis: int) -> Array:
    """A matrix times an array along one of its axes."""
    return jnp.moveaxis(jnp.tensordot(matrix.astype(array.dtype), array, axes=(1, axis)), 0, axis)


class Scaling(eqx.Module):
    """The identity on some arrays, zero on all others."""

    where: Callable = eqx.field(static=True)

    def __call__(self, vector):
        arrays = selected("where", self.where, vector)
        distinct("Argument `where`", arrays)
        return eqx.tree_at(self.where, jax.tree.map(jnp.zeros_like, vector), arrays)


def selected(name: str, where: Callable, vector) -> list[Array]:
    """The list of arrays that a function picks; a TypeError unless it is one."""
    arrays = where(vector)
    if not isinstance(arrays, list | tuple) or not all(eqx.is_inexact_array(array) for array in arrays):
        raise TypeError(f"Argument `{name}` must give a list of the parameters' arrays, but it gives {arrays!r}.")
    return list(arrays)


def distinct(name: str, arrays: list[Array]) -> None:
    """A ValueError where an array is picked twice, as a weight that two layers share is."""
    if len({id(array) for array in arrays}) < len(arrays):
        raise ValueError(
            f"{name} must give every array once, but some are given twice; where layers share a weight, give a "
            "`generator` of your own."
        )

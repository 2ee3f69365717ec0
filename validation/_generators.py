"""Generators of the usual symmetries of networks."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array


class Between(eqx.Module):
    """K W on the arrays that come into a hidden layer, -W K on those that go out."""

    incoming: Callable = eqx.field(static=True)
    outgoing: Callable = eqx.field(static=True)
    matrix: Array

    def __call__(self, vector):
        coming, going = selected("incoming", self.incoming, vector), selected("outgoing", self.outgoing, vector)
        width = len(self.matrix)
        for name, arrays, axis in (("incoming", coming, 0), ("outgoing", going, -1)):
            for array in arrays:
                if array.ndim == 0 or array.shape[axis] != width:
                    raise ValueError(
                        f"Argument `{name}` must give arrays of the width {width} of `matrix` along their "
                        f"{'first' if axis == 0 else 'last'} axis, but one of shape {array.shape} was given."
                    )
        new = [self.matrix.astype(w.dtype) @ w for w in coming] + [-(w @ self.matrix.astype(w.dtype)) for w in going]
        zeros = jax.tree.map(jnp.zeros_like, vector)
        return eqx.tree_at(lambda tree: [*self.incoming(tree), *self.outgoing(tree)], zeros, new)


class Scaling(eqx.Module):
    """The identity on some arrays, zero on all others."""

    where: Callable = eqx.field(static=True)

    def __call__(self, vector):
        arrays = selected("where", self.where, vector)
        return eqx.tree_at(self.where, jax.tree.map(jnp.zeros_like, vector), arrays)


def selected(name: str, where: Callable, vector) -> list[Array]:
    """The list of arrays that a function picks; a TypeError unless it is one."""
    arrays = where(vector)
    if not isinstance(arrays, list | tuple) or not all(eqx.is_inexact_array(array) for array in arrays):
        raise TypeError(f"Argument `{name}` must give a list of the parameters' arrays, but it gives {arrays!r}.")
    return list(arrays)

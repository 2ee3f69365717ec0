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
        coming, going = self.incoming(vector), self.outgoing(vector)
        new = [self.matrix.astype(w.dtype) @ w for w in coming] + [-(w @ self.matrix.astype(w.dtype)) for w in going]
        zeros = jax.tree.map(jnp.zeros_like, vector)
        return eqx.tree_at(lambda tree: [*self.incoming(tree), *self.outgoing(tree)], zeros, new)


class Scaling(eqx.Module):
    """The identity on some arrays, zero on all others."""

    where: Callable = eqx.field(static=True)

    def __call__(self, vector):
        return eqx.tree_at(self.where, jax.tree.map(jnp.zeros_like, vector), self.where(vector))

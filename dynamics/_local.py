"""Drift and diffusion of a dynamics as vectors and matrices on its flat state: for small problems."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from equations import AbstractDynamics

LARGEST = 512  # dimensions of a state whose matrices are held


class Local(eqx.Module):
    """A dynamics at a point in flat coordinates: shapes `(d,)` for the state, `(d, n)` for the root of the diffusion."""

    dynamics: AbstractDynamics
    signal: Any
    unravel: Callable = eqx.field(static=True)

    def drift(self, t: Array, y: Array) -> Array:
        """`(d,)`."""
        return ravel_pytree(self.dynamics.drift(t, self.unravel(y), self.signal))[0]

    def root(self, t: Array, y: Array) -> Array:
        """The columns in front of dW, `(d, n)`."""
        operator = self.dynamics.diffusion(t, self.unravel(y), self.signal)
        if operator is None:
            return jnp.zeros((y.size, 0), y.dtype)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), operator.in_structure())
        flat, structure = ravel_pytree(zeros)
        columns = jax.vmap(lambda unit: ravel_pytree(operator.mv(structure(unit)))[0])
        return columns(jnp.eye(flat.size, dtype=flat.dtype)).T

    def covariance(self, t: Array, y: Array) -> Array:
        """S = root root^T, the covariance of dY over dt, `(d, d)`."""
        root = self.root(t, y)
        return root @ root.T

    def divergence(self, t: Array, y: Array) -> Array:
        """sum_j d S_ij / d y_j, `(d,)`."""
        return jnp.einsum("ijj->i", jax.jacfwd(lambda x: self.covariance(t, x))(y))


def flat_size(state: PyTree) -> int:
    """The dimension of a state; a ValueError where its matrices would be too large."""
    size = sum(leaf.size for leaf in jax.tree.leaves(state))
    if size > LARGEST:
        raise ValueError(
            f"Argument `params` must have a state of at most {LARGEST} dimensions, whose matrices can be held, but it "
            f"has {size}."
        )
    return size


def parity_vector(parity: PyTree, state: PyTree) -> Array:
    """The signs under time reversal, `(d,)`; `parity` is a prefix of the state with leaves 1 and -1, or None: all 1."""
    signs = 1.0 if parity is None else parity
    full = jax.tree.map(lambda sign, part: jax.tree.map(lambda leaf: jnp.full_like(leaf, sign), part), signs, state)
    vector = ravel_pytree(full)[0]
    return eqx.error_if(vector, jnp.any(jnp.abs(vector) != 1), "Argument `parity` must hold 1 and -1.")

"""Drift and diffusion of a dynamics as vectors and matrices on its flat state: for small problems."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import split, zeros_of

LARGEST = 512  # dimensions of a state whose matrices are held for every step of every path


def coordinates(dynamics: AbstractDynamics, state: PyTree) -> tuple[PyTree, PyTree]:
    """A state in two: what moves, and what the memory of an algorithm counts, which is time and no coordinate."""
    return split(dynamics).coordinates(state)


class Local(eqx.Module):
    """A dynamics at a point in flat coordinates: shapes `(d,)` for the state, `(d, n)` for the root of the diffusion.

    `unravel` makes a state of a vector; counts, if the state has any, stand at `counts`.
    """

    dynamics: AbstractDynamics
    signal: Any
    unravel: Callable = eqx.field(static=True)
    counts: PyTree = None

    @classmethod
    def at(cls, dynamics: AbstractDynamics, signal: Any, state: PyTree) -> tuple["Local", Array]:
        """In the coordinates of `state` and with its counts; and these coordinates."""
        moving, counts = coordinates(dynamics, state)
        y, unravel = ravel_pytree(moving)
        return cls(dynamics, signal, unravel, counts), y

    def state(self, y: Array) -> PyTree:
        """The state at a vector."""
        moving = self.unravel(y)
        return moving if self.counts is None else eqx.combine(moving, self.counts)

    def flat(self, rates: PyTree) -> Array:
        """The vector of what is like a state."""
        return ravel_pytree(coordinates(self.dynamics, rates)[0])[0]

    def drift(self, t: Array, y: Array) -> Array:
        """`(d,)`."""
        return self.flat(self.dynamics.drift(t, self.state(y), self.signal))

    def root(self, t: Array, y: Array) -> Array:
        """The columns in front of dW, `(d, n)`."""
        noise, zeros = self.noise(t, y)
        return jax.vmap(noise)(jnp.eye(zeros.size, dtype=zeros.dtype)).T if zeros.size else self.quiet(y)

    def noise(self, t: Array, y: Array) -> tuple[Callable[[Array], Array], Array]:
        """The linear map from `(n,)` normals to `(d,)`, and such normals, all of them 0."""
        operator = self.dynamics.diffusion(t, self.state(y), self.signal)
        if operator is None:
            return lambda normals: jnp.zeros_like(y), jnp.zeros(0, y.dtype)
        zeros = zeros_of(operator.in_structure())
        flat, structure = ravel_pytree(zeros)
        return lambda normals: self.flat(operator.mv(structure(normals))), flat

    def column(self, t: Array, y: Array, place: Array | int) -> Array:
        """One column of `root`, `(d,)`."""
        noise, zeros = self.noise(t, y)
        return noise(zeros.at[place].set(1))

    @staticmethod
    def quiet(y: Array) -> Array:
        """The root without any noise, `(d, 0)`."""
        return jnp.zeros((y.size, 0), y.dtype)

    def covariance(self, t: Array, y: Array) -> Array:
        """S = root root^T, the covariance of dY over dt, `(d, d)`."""
        root = self.root(t, y)
        return root @ root.T

    def divergence(self, t: Array, y: Array) -> Array:
        """sum_j d S_ij / d y_j, `(d,)`."""
        return jnp.einsum("ijj->i", jax.jacfwd(lambda x: self.covariance(t, x))(y))


def late(dynamics: AbstractDynamics, y: Array) -> Array:
    """A time late enough for what dies away."""
    return jnp.asarray(dynamics.scaling_limit().learning_rate_at(jnp.zeros(())), y.dtype) * 1e6


def flat_size(state: PyTree, largest: int = LARGEST) -> int:
    """The dimension of a state; a ValueError where its matrices would be too large."""
    size = sum(leaf.size for leaf in jax.tree.leaves(state))
    if size > largest:
        raise ValueError(
            f"Argument `params` must have a state of at most {largest} dimensions, whose matrices can be held, but it "
            f"has {size}."
        )
    return size


def parity_vector(parity: PyTree, state: PyTree) -> np.ndarray:
    """The signs under time reversal, `(d,)`; `parity` is a prefix of the state with leaves 1 and -1, or None: all 1."""
    signs = 1.0 if parity is None else parity
    try:
        full = jax.tree.map(lambda sign, part: jax.tree.map(lambda leaf: np.full(leaf.shape, sign), part), signs, state)
        vector = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(full)]).astype(float)
        right = bool(np.all(np.abs(vector) == 1))
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            "Argument `parity` must be a prefix of the state with leaves 1 and -1, such as MomentumState(1, -1), but "
            f"{parity!r} was given for the state {jax.tree.structure(state)}."
        )
    return vector

"""Which key is for what: one scheme for all runs, so that a path is the same whoever makes it.

A path has one key. From it come by training step (or by block of these, or epoch) the Brownian motion of an equation, the
Gaussian gradients or the minibatches of an algorithm: of these a path has one, for the two sides of a comparison are either
to be driven by the same normal numbers or are given different keys.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from equations.internal import LARGEST


def path_keys(key: Array, paths: int, ahead: Array | int = 0) -> Array:
    """A key for each path after those `ahead` of them; it does not depend on how many there are."""
    return jax.vmap(lambda path: jax.random.fold_in(key, path))(ahead + jnp.arange(paths, dtype=jnp.int32))


def apart(key: Array, number: Array | int) -> Array:
    """Key number 0, 1, ... that is independent of all that is drawn from `key` by training step, block or epoch."""
    return jax.random.fold_in(jax.random.fold_in(key, LARGEST), number)


def order_and_noise(key: Array) -> tuple[Array, Array]:
    """Of a path under a stream: for the order of its stimuli, and for its noise."""
    order, noise = jax.random.split(key)
    return order, noise

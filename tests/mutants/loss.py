"""Mutants of the noise of a random loss."""

import jax
import jax.numpy as jnp

from equations import LossNoise


class NoKeys(LossNoise):
    """The noise of the batches alone."""

    def own(self, batches, params, normals):
        return jax.tree.map(jnp.zeros_like, super().own(batches, params, normals))


class NotSubtracted(LossNoise):
    """What sampling adds to the covariance of the examples' means is left in it."""

    def share(self, batches):
        return 1 / batches.count


class OneKey(LossNoise):
    """The same key for all examples of a batch."""

    def real(self, batch, params, normals):
        same = jnp.broadcast_to(normals["own"][:1], normals["own"].shape)
        return super().real(batch, params, normals | {"own": same})

"""Noise that is added to the sum over a batch, as for privacy."""

from typing import Any

import jax
import jax.numpy as jnp

from .._tree import add_scaled
from .base import AbstractGradientNoise, like_parameters
from .injected import AbstractInjected, on_top


class SummedNoise(AbstractInjected):
    """`scale` times independent standard normals added to every coordinate of the sum over the batch of B examples: to the
    gradient, their mean, noise of variance (scale/B)^2, B = N for the full batch, that of the step where it is scheduled.
    """

    scale: Any
    on: AbstractGradientNoise = on_top()

    def share(self, count: int) -> Any:
        """What a normal number is multiplied by, in the gradient of a batch of `count` examples that are drawn."""
        return self.scale / (count if self.scheduled_size is None else self.scheduled_size)

    def own_structure(self, batches, params):
        return like_parameters(params)

    def own(self, batches, params, normals):
        return jax.tree.map(lambda z: (self.share(batches.count) * z).astype(z.dtype), normals)

    def real(self, batch, params, normals):
        return add_scaled(self.below(batch, params, normals), (self.share(batch.size), normals["own"]))

    def variance(self, batches, params):
        own = jax.tree.map(
            lambda leaf: jnp.full(leaf.shape, self.share(batches.count) ** 2, leaf.dtype), like_parameters(params)
        )
        if not self.on.random(batches.noisy):
            return own
        return add_scaled(own, (1.0, self.on.variance(batches, params)))

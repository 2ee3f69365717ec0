"""Noise that is added to the sum over a batch, as for privacy."""

from typing import Any

import jax
import jax.numpy as jnp

from .._tree import add_scaled
from .base import AbstractGradientNoise, like_parameters
from .injected import AbstractInjected, on_top


class SummedNoise(AbstractInjected):
    """`scale` times independent standard normals added to every coordinate of the sum over the batch of B examples: to the
    gradient, their mean, noise of variance (scale/B)^2, B = N for the full batch."""

    scale: Any
    on: AbstractGradientNoise = on_top()

    def of_size(self, size):
        raise ValueError(
            "Argument `noise` of equations.clipped must be None where the batch size is scheduled, since what is added to "
            "the sum over a batch is divided by the size of all that is drawn."
        )

    def own_structure(self, batches, params):
        return like_parameters(params)

    def own(self, batches, params, normals):
        return jax.tree.map(lambda z: (self.scale / batches.count * z).astype(z.dtype), normals)

    def real(self, batch, params, normals):
        return add_scaled(self.below(batch, params, normals), (self.scale / batch.size, normals["own"]))

    def variance(self, batches, params):
        own = jax.tree.map(
            lambda leaf: jnp.full(leaf.shape, (self.scale / batches.count) ** 2, leaf.dtype), like_parameters(params)
        )
        if not self.on.random(batches.noisy):
            return own
        return add_scaled(own, (1.0, self.on.variance(batches, params)))

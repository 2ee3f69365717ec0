"""Mutants of Langevin dynamics; those of its temperature are in test_langevin."""

import jax
import jax.numpy as jnp

from equations import Langevin


class Uphill(Langevin):
    """dX = +grad L dt."""

    def velocity(self, t, state, gradient):
        return gradient


class HeatByLearningRate(Langevin):
    """sqrt(2 eta T) dW."""

    def kick(self, t, state, signal, noise, dt):
        return jax.tree.map(lambda k: jnp.sqrt(self.learning_rate) * k, super().kick(t, state, signal, noise, dt))


class Frozen(Langevin):
    """Without heat and without batches."""

    def kick(self, t, state, signal, noise, dt):
        return jax.tree.map(jnp.zeros_like, super().kick(t, state, signal, noise, dt))

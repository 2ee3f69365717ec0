"""Mutants of SGD."""

import jax
import jax.numpy as jnp
import optax

from equations import SGD


class NoiseByLearningRate(SGD):
    """eta (C/B)^{1/2} dW."""

    def kick(self, t, state, signal, noise, dt):
        return jax.tree.map(lambda k: jnp.sqrt(self.learning_rate) * k, super().kick(t, state, signal, noise, dt))


class NoNoise(SGD):
    """Gradient flow."""

    def kick(self, t, state, signal, noise, dt):
        return jax.tree.map(jnp.zeros_like, state)


class BatchSizeLost(SGD):
    """sqrt(eta) C^{1/2} dW."""

    def kick(self, t, state, signal, noise, dt):
        factor = 1.0 if self.batch_size is None else self.batch_size**0.5
        return jax.tree.map(lambda k: factor * k, super().kick(t, state, signal, noise, dt))


class Ascent(SGD):
    """The sign of the gradient."""

    def velocity(self, t, state, gradient):
        return gradient


class HalfStep(SGD):
    """A twin at half the learning rate."""

    def twin(self):
        return optax.sgd(self.learning_rate / 2)

"""Mutants of SGD."""

import jax
import jax.numpy as jnp
import optax
from changed import changed

from equations import SGD


class NoiseByLearningRate(SGD):
    """eta (C/B)^{1/2} dW."""

    splitting = changed(
        kick=lambda s, *args: jax.tree.map(lambda k: jnp.sqrt(s.dynamics.learning_rate) * k, s.kick(*args))
    )


class NoNoise(SGD):
    """Gradient flow."""

    splitting = changed(kick=lambda s, t, state, signal, noise, dt: jax.tree.map(jnp.zeros_like, state))


def batch_size_lost(s, t, state, signal, noise, dt):
    size = s.dynamics.batch_size
    factor = 1.0 if size is None else size**0.5
    return jax.tree.map(lambda k: factor * k, s.kick(t, state, signal, noise, dt))


class BatchSizeLost(SGD):
    """sqrt(eta) C^{1/2} dW."""

    splitting = changed(kick=batch_size_lost)


class Ascent(SGD):
    """The sign of the gradient."""

    def velocity(self, t, state, gradient):
        return gradient


class HalfStep(SGD):
    """A twin at half the learning rate."""

    def twin(self):
        return optax.sgd(self.learning_rate / 2)

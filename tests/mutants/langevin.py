"""Mutants of Langevin dynamics; those of its temperature are in test_langevin."""

import jax
import jax.numpy as jnp
from changed import changed

from equations import Langevin


class Uphill(Langevin):
    """dX = +grad L dt."""

    def velocity(self, t, state, gradient):
        return gradient


class HeatByLearningRate(Langevin):
    """sqrt(2 eta T) dW."""

    splitting = changed(
        kick=lambda s, *args: jax.tree.map(lambda k: jnp.sqrt(s.dynamics.learning_rate) * k, s.kick(*args))
    )


class Frozen(Langevin):
    """Without heat and without batches."""

    splitting = changed(kick=lambda s, *args: jax.tree.map(jnp.zeros_like, s.kick(*args)))

"""Mutants of underdamped Langevin dynamics; those of its temperature are in test_langevin."""

import jax
import jax.numpy as jnp
from changed import changed

from equations import UnderdampedLangevin


class NoFriction(UnderdampedLangevin):
    """dp = -g dh + heat."""

    def velocity(self, t, state, gradient):
        force = jax.tree.map(lambda g: g / self.learning_rate, gradient)
        return type(state)(jax.tree.map(jnp.negative, state.trace), force)


class FrictionPerStep(UnderdampedLangevin):
    """beta = 1 - gamma eta in the equation."""

    def velocity(self, t, state, gradient):
        force = jax.tree.map(lambda m, g: g / self.learning_rate - self.friction * m, state.trace, gradient)
        return type(state)(jax.tree.map(jnp.negative, state.trace), force)


def frozen(s, *args):
    kick = s.kick(*args)
    return type(kick)(kick.params, jax.tree.map(jnp.zeros_like, kick.trace))


class Frozen(UnderdampedLangevin):
    """Without heat and without batches."""

    splitting = changed(kick=frozen)

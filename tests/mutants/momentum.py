"""Mutants of Momentum."""

import jax
import jax.numpy as jnp
import optax
from changed import changed

from equations import Momentum, ScalingLimit
from equations._optimizers.momentum import MomentumState


class NoFriction(Momentum):
    """The memory never forgets."""

    def velocity(self, t, state, gradient):
        rates = super().velocity(t, state, gradient)
        force = jax.tree.map(lambda f, m: f + (1 - self.momentum) * m / self.learning_rate, rates.trace, state.trace)
        return MomentumState(rates.params, force)


class Averaged(Momentum):
    """The gradient enters with the weight 1 - beta, as in an average."""

    def velocity(self, t, state, gradient):
        return super().velocity(t, state, jax.tree.map(lambda g: (1 - self.momentum) * g, gradient))


class OtherLookAhead(Momentum):
    """Nesterov's look-ahead where there is none, and none where there is."""

    def twin(self):
        return optax.sgd(self.learning_rate, momentum=self.momentum, nesterov=not self.nesterov)


class FixedMomentum(Momentum):
    """Another learning rate at the same momentum."""

    scaling_limit = changed(rescaled=lambda s, factor: ScalingLimit(s.equation).rescaled(factor))


class TimeOfGradientDescent(Momentum):
    """The clock eta * step, in which there is no limit."""

    scaling_limit = changed(time_per_step=lambda s: jnp.asarray(s.equation.learning_rate))


def twice(s, t, state, signal, noise, dt):
    response = s.kick(t, state, signal, noise, dt)
    drift = s.kick(t, state, signal, jax.tree.map(jnp.zeros_like, noise), dt)
    return jax.tree.map(lambda k, d: 2 * k - d, response, drift)


class TwiceTheNoise(Momentum):
    """The noise of the memory doubled, in kick and diffusion alike."""

    splitting = changed(kick=twice)

    def diffusion(self, t, state, signal):
        root = super().diffusion(t, state, signal)
        return None if root is None else 2 * root

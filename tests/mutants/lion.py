"""Mutants of Lion."""

import jax
import jax.numpy as jnp
from typing_extensions import override

from equations import Lion


class ScaleOfTheGradientLost(Lion):
    """The mean sign at g + b1 mu, the noise of g undivided by 1 - b1."""

    @override
    def _inside(self, state, gradient):
        return jax.tree.map(lambda mu, g: g + self.b1 * mu, state.mu, gradient)


class NewAverage(Lion):
    """A step along the sign of the average that it is about to remember, with b2 in place of b1."""

    def velocity(self, t, state, gradient):
        inside = jax.tree.map(lambda mu, g: self.b2 * mu + (1 - self.b2) * g, state.mu, gradient)
        return self._rates(state, gradient, jax.tree.map(jnp.sign, inside))


class DecayWithoutRate(Lion):
    """Weight decay that is not multiplied by the learning rate."""

    @override
    def _rates(self, state, gradient, sign):
        rates = super()._rates(state, gradient, sign)
        decayed = jax.tree.map(
            lambda v, p: v + self.weight_decay * (1 - 1 / self.learning_rate) * p, rates.params, state.params
        )
        return type(rates)(decayed, rates.mu)

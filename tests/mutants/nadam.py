"""Mutants of NAdam."""

import jax

from equations import NAdam
from equations._optimizers.adaptive import AbstractAdam


class NoLookAhead(NAdam):
    """Adam's step."""

    def direction(self, steps, state, gradient):
        return AbstractAdam.direction(self, steps, state, gradient)


class SameBias(NAdam):
    """Both averages corrected for the same number of steps."""

    def direction(self, steps, state, gradient):
        weight = (1 - self.b1 ** (steps + 1)) / (1 - self.b1**steps)
        mu = jax.tree.map(lambda m: m * weight.astype(m.dtype), state.mu)
        return super().direction(steps, type(state)(state.params, mu, state.nu), gradient)


class Uncorrected(NAdam):
    """The gradient of the step without its bias correction."""

    def direction(self, steps, state, gradient):
        weight = 1 - self.b1**steps
        return super().direction(steps, state, jax.tree.map(lambda g: g * weight.astype(g.dtype), gradient))

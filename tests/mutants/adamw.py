"""Mutants of AdamW."""

import jax

from equations import AdamW
from equations._optimizers.adaptive import AbstractAdam


class InTheGradient(AdamW):
    """The decay as part of the gradient, as a penalty on the weights has it, which Adam divides by the root."""

    def velocity(self, t, state, gradient):
        penalized = jax.tree.map(lambda g, p: g + self.weight_decay * p, gradient, state.params)
        return super().velocity(t, state, penalized)

    def direction(self, steps, state, gradient):
        return AbstractAdam.direction(self, steps, state, gradient)


class Growth(AdamW):
    """The sign of the decay."""

    def direction(self, steps, state, gradient):
        right = super().direction(steps, state, gradient)
        return jax.tree.map(lambda step, p: step + 2 * self.weight_decay * p, right, state.params)


class PerStep(AdamW):
    """A decay by weight_decay and not weight_decay * learning_rate a step."""

    def direction(self, steps, state, gradient):
        right = super().direction(steps, state, gradient)
        excess = self.weight_decay / self.learning_rate - self.weight_decay
        return jax.tree.map(lambda step, p: step - excess * p, right, state.params)


class RootAsOutside(AdamW):
    """eps_root ~ 1/eta in the batch-equivalent scaling, as eps outside the root."""

    def exponents(self):
        return super().exponents() | {"eps_root": -1}

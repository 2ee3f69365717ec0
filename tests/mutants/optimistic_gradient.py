"""Mutants of OptimisticGradient."""

import dataclasses

import jax

from equations import OptimisticGradient
from equations._optimizers.optimistic_gradient import OptimisticState


class Pessimistic(OptimisticGradient):
    """The signal before with the other sign."""

    def velocity(self, t, state, gradient):
        rates = super().velocity(t, state, gradient)
        more = jax.tree.map(lambda rate, old: rate - 2 * self.beta * old, rates.params, state.previous_gradient)
        return OptimisticState(more, rates.previous_gradient)


class NeverForgets(OptimisticGradient):
    """The memory is a sum."""

    def velocity(self, t, state, gradient):
        rates = super().velocity(t, state, gradient)
        return OptimisticState(rates.params, jax.tree.map(lambda g: g / self.learning_rate, gradient))


class Plain(OptimisticGradient):
    """A twin without a memory of its own."""

    def twin(self):
        return OptimisticGradient.twin(dataclasses.replace(self, beta=0.0 * self.beta))

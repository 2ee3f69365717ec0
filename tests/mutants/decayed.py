"""Mutants of Decayed."""

import jax
import optax

from equations import Decayed


class Growth(Decayed):
    """The sign of the decay."""

    def added(self, t, state):
        return jax.tree.map(lambda rate: -rate, super().added(t, state))


class Coupled(Decayed):
    """Decay before the optimizer."""

    def twin(self):
        return optax.chain(optax.add_decayed_weights(self.weight_decay), self.equation.twin())


class PerStep(Decayed):
    """A decay that does not know the learning rate."""

    def twin(self):
        return optax.chain(self.equation.twin(), optax.add_decayed_weights(-self.weight_decay))


class SameDecay(Decayed):
    """Another learning rate at the same lambda, whatever the natural clock."""

    def moves(self, clock, rate):
        return {}

"""Mutants of ScheduledBatches."""

import equinox as eqx
import jax.numpy as jnp
from changed import changed

from equations import ScheduledBatches


class Unscaled(ScheduledBatches):
    """The noise is that of the largest batch."""

    def size(self, step):
        return jnp.full_like(super().size(step), self.batch_size)


class TwiceTheRoot(ScheduledBatches):
    """The noise has the factor B_0/B, and not its root."""

    def size(self, step):
        return super().size(step) ** 2 / self.batch_size


class BatchesInSteps(ScheduledBatches):
    """The sizes are those of the steps, whatever the learning rate."""

    scaling_limit = changed(
        rescaled=lambda s, factor: eqx.tree_at(lambda e: e.stretch, s.rescaled(factor), s.equation.stretch)
    )

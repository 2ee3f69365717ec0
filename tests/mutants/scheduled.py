"""Mutants of Scheduled."""

import jax
import jax.numpy as jnp
import optax

from equations import Scheduled


class RootOfTheFactor(Scheduled):
    """The noise has the factor sqrt(s), as that of eta would be."""

    def kick(self, t, state, signal, noise, dt):
        factor = self.factor_at(t)
        root = jnp.sqrt(jnp.where(factor > 0, factor, 1.0))
        return jax.tree.map(lambda k: k / root.astype(k.dtype), super().kick(t, state, signal, noise, dt))


class MemoryToo(Scheduled):
    """The memory is scheduled as well."""

    def mapped(self, t, rates):
        return jax.tree.map(lambda rate: self.factor_at(t).astype(rate.dtype) * rate, rates)


class NotStretched(Scheduled):
    """A schedule in steps, whatever the learning rate."""

    def rescaled(self, factor):
        return type(self)(**vars(super().rescaled(factor)) | {"stretch": self.stretch})


class OneStepLate(Scheduled):
    """The factor of the step before."""

    def twin(self):
        return optax.chain(
            self.inner.twin(), optax.scale_by_schedule(lambda step: self.factor(jnp.maximum(step - 1, 0)))
        )


class FirstStepWhole(Scheduled):
    """A first step of the whole learning rate."""

    def start(self, state, signal, noise):
        return self.inner.start(state, signal, noise)

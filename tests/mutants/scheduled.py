"""Mutants of Scheduled."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from changed import changed

from equations import Scheduled


def rooted(s, t, state, signal, noise, dt):
    factor = s.dynamics.factor_at(t)
    root = jnp.sqrt(jnp.where(factor > 0, factor, 1.0))
    return jax.tree.map(lambda k: k / root.astype(k.dtype), s.kick(t, state, signal, noise, dt))


class RootOfTheFactor(Scheduled):
    """The noise has the factor sqrt(s), as that of eta would be."""

    splitting = changed(kick=rooted)


class MemoryToo(Scheduled):
    """The memory is scheduled as well."""

    def mapped(self, t, rates):
        return jax.tree.map(lambda rate: self.factor_at(t).astype(rate.dtype) * rate, rates)


class NotStretched(Scheduled):
    """A schedule in steps, whatever the learning rate."""

    scaling_limit = changed(
        rescaled=lambda s, factor: eqx.tree_at(lambda e: e.stretch, s.rescaled(factor), s.equation.stretch)
    )


class OneStepLate(Scheduled):
    """The factor of the step before."""

    def twin(self):
        return optax.chain(
            self.equation.twin(), optax.scale_by_schedule(lambda step: self.factor(jnp.maximum(step - 1, 0)))
        )


class FirstStepWhole(Scheduled):
    """A first step of the whole learning rate."""

    splitting = changed(start=lambda s, *args: s.inner.start(*args))

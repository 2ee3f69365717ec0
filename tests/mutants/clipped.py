"""Mutants of Clipped."""

import equinox as eqx
import jax.numpy as jnp
from changed import changed
from jax.flatten_util import ravel_pytree
from typing_extensions import override

from equations import Clipped
from equations._signals.clipped import ClippedSignal, clipped_signal


class ClipOfTheMean(Clipped):
    """The mean of a batch is clipped in place of its examples."""

    @staticmethod
    @override
    def _clip(signal, norm):
        return OneShare(clipped_signal(signal, norm).signal, norm)


class OneShare(ClippedSignal):
    def shares(self, params):
        norm = jnp.linalg.norm(ravel_pytree(self.signal.gradient(params))[0])
        return jnp.full(self.size, jnp.minimum(1.0, self.norm / norm))


class UnclippedDrift(Clipped):
    """Covariance and kicks of clipped gradients, the drift of plain ones."""

    def drift(self, t, state, signal):
        return self.acting.drift(t, state, signal)


class UnclippedNoise(Clipped):
    """The kicks are those of plain gradients."""

    splitting = changed(kick=lambda s, t, state, signal, *args: s.inner.kick(t, state, signal, *args))


class MovingNorm(Clipped):
    """The norm moves with the learning rate."""

    scaling_limit = changed(
        rescaled=lambda s, factor: eqx.tree_at(lambda e: e.norm, s.rescaled(factor), s.equation.norm * factor)
    )

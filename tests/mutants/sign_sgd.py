"""Mutants of SignSGD."""

import jax
import jax.numpy as jnp
from changed import changed

from equations import SignSGD


class RootTwoLost(SignSGD):
    """erf(g/sigma)."""

    def mean_sign(self, params, signal, x):
        return super().mean_sign(params, signal, jax.tree.map(lambda leaf: 2**0.5 * leaf, x))


class SignOfTheMean(SignSGD):
    """The flow along sign(g), as if the mean of the sign were the sign of the mean."""

    def mean_sign(self, params, signal, x):
        return jax.tree.map(jnp.sign, x)


def full_noise(s, t, state, signal, noise, dt):
    drift = s.dynamics.drift(t, state, signal)
    kick = s.kick(t, state, signal, noise, dt)
    return jax.tree.map(lambda k, e: k / jnp.sqrt(1 - e**2), kick, drift)


class FullNoise(SignSGD):
    """The noise of a sign without its mean, of variance 1 in place of 1 - e^2."""

    splitting = changed(kick=full_noise)

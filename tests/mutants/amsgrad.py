"""Mutants of AMSGrad."""

import dataclasses

import jax
import jax.numpy as jnp

from equations import AMSGrad

from ._second_moment import Noiseless


class ComesDown(AMSGrad):
    """No maximum: what is divided by follows the second moment up and down."""

    def velocity(self, t, state, gradient):
        rates = super().velocity(t, state, gradient)
        weight = 1 - self.b2 ** (t / self.learning_rate)
        follow = jax.tree.map(
            lambda v, top: (v / weight.astype(v.dtype) - top) / self.learning_rate, state.nu, state.nu_max
        )
        return dataclasses.replace(rates, nu_max=follow)


class Uncorrected(AMSGrad):
    """The maximum of the second moment without its bias correction."""

    def velocity(self, t, state, gradient):
        rates = super().velocity(t, state, gradient)
        rise = jax.tree.map(lambda v, top: jnp.maximum(v - top, 0) / self.learning_rate, state.nu, state.nu_max)
        return dataclasses.replace(rates, nu_max=rise)


class WithoutNoise(Noiseless, AMSGrad):
    """The second moment follows the mean of the squared gradient, without noise."""

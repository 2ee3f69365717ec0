"""Mutants of RMSProp."""

import dataclasses

import jax
import jax.numpy as jnp
from changed import changed
from typing_extensions import override

from equations import RMSProp

from ._second_moment import Noiseless, Shiftless


class WithoutNoise(Noiseless, RMSProp):
    """The second moment follows the mean of the squared gradient, without noise."""


class WithoutShift(Shiftless, RMSProp):
    """The second moment is driven by the square of the mean gradient; its noise stays."""


class EpsilonOutside(RMSProp):
    """eps outside the root where it is inside, and inside where it is outside."""

    @override
    def _root(self, nu):
        return jnp.sqrt(nu) + self.eps if self.eps_in_sqrt else jnp.sqrt(nu + self.eps)


class TwiceCentered(RMSProp):
    """The central moment about twice the mean, and the plain one of the gradient less half its own root."""

    def velocity(self, t, state, gradient):
        rates = super().velocity(t, state, gradient)
        if not self.centered:
            shifted = jax.tree.map(lambda g, v: g - jnp.sqrt(v) / 2, gradient, state.nu)
        else:
            shifted = jax.tree.map(lambda g, m: g - m, gradient, state.mu)
        return dataclasses.replace(rates, nu=super().velocity(t, state, shifted).nu)


class StaysFor(RMSProp):
    """Another learning rate at the same decay."""

    scaling_limit = changed(
        rescaled=lambda s, factor: dataclasses.replace(s.equation, learning_rate=s.equation.learning_rate * factor)
    )


class Uncorrected(RMSProp):
    """The second moment without the bias correction that is asked for, and with one that is not."""

    def velocity(self, t, state, gradient):
        other = dataclasses.replace(self, bias_correction=not (self.bias_correction or self.centered))
        return RMSProp.velocity(other, t, state, gradient)


class SameEpsilon(RMSProp):
    """eps does not grow with the gradients in the batch-equivalent scaling."""

    def exponents(self):
        return {"initial_scale": -2}

"""Mutants of LaProp."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from equations import LaProp

from ._second_moment import Noiseless, Shiftless


class WithoutNoise(Noiseless, LaProp):
    """The second moment follows the mean of the squared gradient, without noise."""


class WithoutShift(Shiftless, LaProp):
    """The second moment is driven by the square of the mean gradient; its noise stays."""


class AveragedFirst(LaProp):
    """Adam: the gradient is averaged first and divided then."""

    def twin(self):
        return optax.adam(self.learning_rate, b1=self.b1, b2=self.b2, eps=self.eps)


class Uncorrected(LaProp):
    """The second moment without its bias correction."""

    def velocity(self, t, state, gradient):
        weight = 1 - self.b2 ** (t / self.learning_rate)
        biased = jax.tree.map(lambda v: v * weight.astype(v.dtype), state.nu)
        rates = super().velocity(t, dataclasses.replace(state, nu=biased), gradient)
        squares = jax.tree.map(jnp.square, gradient)
        return dataclasses.replace(rates, nu=self.forget(self.b2, squares, state.nu))


class EpsilonTheOtherWay(LaProp):
    """eps ~ eta in the batch-equivalent scaling, as the gradients do not."""

    def exponents(self):
        return {"eps": 1}

"""Mutants of AdaGrad."""

import dataclasses

import jax
import jax.numpy as jnp
from changed import changed

from equations import AdaGrad, ScalingLimit

from ._second_moment import Noiseless, Shiftless


class WithoutNoise(Noiseless, AdaGrad):
    """The sum follows the mean of the squared gradient, without noise."""


class WithoutShift(Shiftless, AdaGrad):
    """The sum is of the squares of the mean gradient; its noise stays."""


class SumInTime(AdaGrad):
    """A sum over time and not over steps: without the factor 1/eta."""

    def velocity(self, t, state, gradient):
        rates = super().velocity(t, state, gradient)
        return dataclasses.replace(rates, nu=jax.tree.map(jnp.square, gradient))


class SameAccumulator(AdaGrad):
    """Another learning rate at the same initial accumulator."""

    scaling_limit = changed(rescaled=lambda s, factor: ScalingLimit(s.equation).rescaled(factor))


class TimeOfGradientDescent(AdaGrad):
    """The clock eta * step, in which there is no limit."""

    scaling_limit = changed(time_per_step=lambda s: jnp.asarray(s.equation.learning_rate))


class SameEpsilon(AdaGrad):
    """Another learning rate at the same eps."""

    scaling_limit = changed(rescaled=lambda s, factor: dataclasses.replace(s.rescaled(factor), eps=s.equation.eps))

"""Overdamped Langevin dynamics: gradient descent in a heat bath."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from .._base import AbstractEquation
from .._checks.arguments import nonnegative
from .._noise.models import Isotropic
from .._scaling import ScalingLimit


class Langevin(AbstractEquation):
    r"""Langevin dynamics and its discretization, theta' = theta - eta g + sqrt(2 eta T) xi, xi ~ N(0, I).

        dX = -\bar g dt + sqrt(2 T) dW + sqrt(eta) (C/B)^{1/2} dW',    t = eta * step

    The stationary density is exp(-L/T) without batches; with them the algorithm is SGLD (Welling and Teh 2011, ICML), whose
    batch noise is smaller by eta and biases it at that order. The heat is noise of covariance 2T/eta in the gradient, which
    the twin, plain SGD, is given by `train`. (optax.noisy_sgd draws its own numbers, of a variance that decays with the
    steps and knows no temperature.)

    Scaling: eta -> 0 at fixed temperature. Natural clock: t. Weak order 1.

    **Arguments:** `learning_rate`, `batch_size`, `sampling`, `noise_model` as in `AbstractEquation`, then
    `temperature=1.0`, zero or more, in units of the loss.
    """

    temperature: Array = eqx.field(default=1.0, converter=nonnegative("temperature"))

    @property
    def gradient_noise(self):
        return Isotropic.traced(jnp.sqrt(2 * self.temperature / self.learning_rate), on=self.noise_model)

    def velocity(self, t, state, gradient):
        return jax.tree.map(jnp.negative, gradient)

    def scaling_limit(self):
        return ScalingLimit(self, heat=True, threshold=2.0)

    def twin(self):
        return optax.sgd(self.learning_rate)

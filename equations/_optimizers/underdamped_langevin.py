"""Underdamped Langevin dynamics: momentum, friction and heat."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from .._base import AbstractEquation
from .._checks.arguments import nonnegative, positive
from .._checks.once import is_traced
from .._noise.models import Isotropic
from .._scaling import ScalingLimit
from .._splitting import GradientSplitting


class UnderdampedState(eqx.Module):
    """Parameters and trace (Optax's), alike in structure; the momentum, at unit mass, is -sqrt(eta) trace."""

    params: PyTree
    trace: PyTree


class UnderdampedLangevin(AbstractEquation):
    r"""Underdamped Langevin dynamics at unit mass, in the time h = sqrt(eta) per step,

        d theta = p dh,    dp = -(\bar g + gamma p) dh + sqrt(2 gamma T) dW,

    with the stationary density exp(-(L + |p|^2/2)/T). The algorithm is stochastic-gradient Hamiltonian Monte Carlo without
    an estimate of the batch noise (Chen, Fox and Guestrin 2014, ICML, recalled): momentum SGD, beta = 1 - gamma sqrt(eta),
    with noise of covariance 2 (1 - beta) T/eta in the gradient,

        m' = beta m + g,    theta' = theta - eta m',    p = -sqrt(eta) m,    t = eta * step.

    Batches heat it further, by a noise smaller by sqrt(eta).

    Scaling: eta -> 0 at fixed friction and temperature, so that 1 - beta ~ sqrt(eta). Natural clock: h = sqrt(eta) * step.
    Weak order 1 in sqrt(eta).

    **Arguments:** `learning_rate`, `batch_size`, `sampling`, `noise_model` as in `AbstractEquation`, then `friction=1.0`,
    positive, at most 1/sqrt(learning_rate), and `temperature=1.0`, zero or more, in units of the loss.
    """

    friction: Array = eqx.field(default=1.0, converter=positive("friction"))
    temperature: Array = eqx.field(default=1.0, converter=nonnegative("temperature"))

    def __check_init__(self):
        self.check_friction()

    @property
    def momentum(self) -> Array:
        """beta, what a step keeps of the momentum."""
        return 1 - self.friction * jnp.sqrt(self.learning_rate)

    @property
    def gradient_noise(self):
        variance = 2 * self.friction * self.temperature / jnp.sqrt(self.learning_rate)
        return Isotropic.traced(jnp.sqrt(variance), on=self.noise_model)

    def init(self, params):
        return UnderdampedState(params, jax.tree.map(jnp.zeros_like, params))

    def params(self, state):
        return state.params

    def velocity(self, t, state, gradient):
        force = jax.tree.map(lambda m, g: (g - (1 - self.momentum) * m) / self.learning_rate, state.trace, gradient)
        return UnderdampedState(jax.tree.map(jnp.negative, state.trace), force)

    def twin(self):
        return optax.sgd(self.learning_rate, momentum=self.momentum)

    def splitting(self):
        return GradientSplitting(self, leapfrog=True)

    def scaling_limit(self):
        return UnderdampedLimit(self, jnp.sqrt(self.learning_rate), heat=True, threshold=2 * (1 + self.momentum))

    def check(self, params, signal):
        super().check(params, signal)
        self.check_friction()

    def check_friction(self) -> None:
        """Raises a ValueError where a step would turn the momentum round."""
        traced = any(is_traced(leaf) for leaf in jax.tree.leaves((self.friction, self.learning_rate)))
        if not traced and float(self.momentum) < 0:
            raise ValueError(
                f"Argument `friction` must be at most 1/sqrt(learning_rate), {float(self.learning_rate) ** -0.5:g}, but "
                f"{float(self.friction):g} was given."
            )


class UnderdampedLimit(ScalingLimit):
    """Friction stays, which bounds the learning rate."""

    def rescaled(self, factor):
        scaled = super().rescaled(factor)
        scaled.check_friction()
        return scaled

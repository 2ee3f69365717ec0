"""AMSGrad."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from .adaptive import AbstractAdam, Moments, unbiased


class AMSGradState(Moments):
    """Adam's, and the largest second moment so far."""

    nu_max: PyTree


class AMSGrad(AbstractAdam):
    r"""Adam divided by the largest bias-corrected second moment so far, as Optax has it.

        d theta = -mu_hat / (sqrt(nu_max + eps_root) + eps) dt
        d nu_max = (1/eta) max(nu_hat - nu_max, 0) dt

    with the moments, their noise and their start as in Adam (Reddi, Kale and Kumar 2018, ICLR). The running maximum is a
    reflection: nu_max is pushed up by nu_hat and never comes down. It follows within a training step here, so that a step
    of Euler is the algorithm's (derived). By the noise of nu it lies O(sqrt(eta)) above what it would be without.

    Scalings as in Adam. Weak order 1 in the clock for means (measured, 1 of the maximum alone, while of the parameters one
    cannot tell, 1.80), 1/2 for variances over eta (measured, .44). For the largest of the steps and the maximum of a path
    differ by O(eta), which is sqrt(eta) times the spread of either.
    Against an equation without that noise the mean has order 1/2 only (test_adaptive.py). Order 2, with the new
    second moment and without noise: `modified`.

    **Arguments:** as `Adam`.
    """

    def init(self, params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AMSGradState(params, zeros, zeros, zeros)

    def velocity(self, t, state, gradient):
        rates = super().velocity(t, state, gradient)
        nu_hat = unbiased(state.nu, self.b2, t / self.learning_rate)
        rise = jax.tree.map(lambda v, top: jnp.maximum(v - top, 0) / self.learning_rate, nu_hat, state.nu_max)
        return AMSGradState(rates.params, rates.mu, rates.nu, rise)

    def direction(self, steps, state, gradient):
        mu_hat = unbiased(state.mu, self.b1, steps)
        return jax.tree.map(lambda m, v: -m / self.root(v), mu_hat, state.nu_max)

    def scaling_limit(self):
        orders = {"variance/eta": 0.5} if self.random else {}
        return dataclasses.replace(super().scaling_limit(), orders=orders)

    def twin(self):
        return optax.amsgrad(**self.optax())

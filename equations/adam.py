"""Adam."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ._base import AbstractEquation
from ._checks import decay, nonnegative


class AdamState(eqx.Module):
    """Parameters, first moment and second moment (Optax's names), alike in structure."""

    params: PyTree
    mu: PyTree
    nu: PyTree


class Adam(AbstractEquation):
    r"""Adam with bias correction, as Optax has it: eps outside the root, the *new* second moment in the denominator.

        d theta = -mu_hat / (sqrt(nu_hat + eps_root) + eps) dt
        d mu = (1 - b1)/eta [(\bar g - mu) dt + sqrt(eta) delta dW]
        d nu = (1 - b2)/eta [(\bar g^2 + diag(C)/B - nu) dt + sqrt(eta) (2 \bar g delta + delta^2 - diag(C)/B) dW]

    with mu_hat = mu/(1 - b1^(t/eta)), nu_hat likewise, t = eta * step, and the *same* delta ~ N(0, C/B) in both noises.
    Drift: Compagnoni et al. 2025, ICLR ("Adaptive methods through the lens of SDEs"), recalled; the noise of the second
    moment is ours (derived): without it the variance of the parameters is wrong at leading order.

    The bias corrections are 0/0 at t = 0, so the first training step is taken as the algorithm takes it (on Gaussian
    gradients) and the equation starts from there, at t = eta.

    Scaling: 1 - b1 ~ eta and 1 - b2 ~ eta. Natural clock: t. Weak order 1.

    **Arguments:** `learning_rate`, `batch_size`, `sampling` as in `AbstractEquation`, then Optax's `b1=0.9`, `b2=0.999`,
    `eps=1e-8`, `eps_root=0.0`.
    """

    b1: Array = eqx.field(default=0.9, converter=decay("b1"))
    b2: Array = eqx.field(default=0.999, converter=decay("b2"))
    eps: Array = eqx.field(default=1e-8, converter=nonnegative("eps"))
    eps_root: Array = eqx.field(default=0.0, converter=nonnegative("eps_root"))

    def init(self, params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(params, zeros, zeros)

    def params(self, state):
        return state.params

    def _direction(self, steps, state):
        """-mu_hat / (sqrt(nu_hat + eps_root) + eps) after `steps` training steps, a real number."""

        def leaf(mu, nu):
            mu_hat = mu / (1 - self.b1**steps).astype(mu.dtype)
            nu_hat = nu / (1 - self.b2**steps).astype(nu.dtype)
            return -mu_hat / (jnp.sqrt(nu_hat + self.eps_root) + self.eps)

        return jax.tree.map(leaf, state.mu, state.nu)

    def velocity(self, t, state, gradient):
        rate1, rate2 = (1 - self.b1) / self.learning_rate, (1 - self.b2) / self.learning_rate
        return AdamState(
            self._direction(t / self.learning_rate, state),
            jax.tree.map(lambda mu, g: rate1 * (g - mu), state.mu, gradient),
            jax.tree.map(lambda nu, g: rate2 * (g**2 - nu), state.nu, gradient),
        )

    def twin(self):
        return optax.adam(self.learning_rate, b1=self.b1, b2=self.b2, eps=self.eps, eps_root=self.eps_root)

    @property
    def leapfrog(self):
        return True

    def bounded(self, state, even, odd, dt):
        """Keeps the second moment positive, with its mean as it is.

        Over a whole training step its kick is (1 - b2) g^2 >= 0. Over a part of one the noise may be larger than the mean,
        and while nu is not yet the sum of many steps, larger than nu: it is cut to three quarters of the mean increment
        and a fifth of nu. A tighter cut takes away noise that the parameters' variance needs (tests/test_adam.py), a looser
        one lets nu come near zero, and the parameters leap. Once some ten steps are in nu it no longer acts.
        """

        def cut(even, odd, nu):
            bound = 0.75 * even + nu / (5 * dt)
            return jnp.clip(odd, -bound, bound)

        return eqx.tree_at(lambda kick: kick.nu, odd, jax.tree.map(cut, even.nu, odd.nu, state.nu))

    def start(self, state, signal, noise):
        gradient = self.gradient(state.params, signal, noise)
        mu = jax.tree.map(lambda g: (1 - self.b1) * g, gradient)
        nu = jax.tree.map(lambda g: (1 - self.b2) * g**2, gradient)
        state = AdamState(state.params, mu, nu)
        step = self._direction(jnp.ones(()), state)
        params = jax.tree.map(lambda p, s: (p + self.learning_rate * s).astype(p.dtype), state.params, step)
        return AdamState(params, mu, nu)

    def rescaled(self, factor):
        scaled = super().rescaled(factor)
        betas = (decay("b1")(1 - (1 - self.b1) * factor), decay("b2")(1 - (1 - self.b2) * factor))
        return eqx.tree_at(lambda e: (e.b1, e.b2), scaled, betas)

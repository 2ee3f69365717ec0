"""LaProp."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, PyTree

from .._checks.arguments import decay, nonnegative
from .._jaxpr.roots import root
from .adaptive import AbstractAveraging, clip_quotients, unbiased


class LaPropState(eqx.Module):
    """Parameters, second moment of the gradient, first moment of the gradient over its root."""

    params: PyTree
    nu: PyTree
    mu: PyTree


class LaProp(AbstractAveraging):
    r"""LaProp: the gradient is divided by the root of its second moment first, and averaged then.

        d theta = -mu_hat dt
        d mu = (1 - b1)/eta [(\bar g + noise)/(sqrt(nu_hat) + eps) - mu] dt
        d nu = (1 - b2)/eta [(\bar g + noise)^2 - nu] dt

    with mu_hat = mu/(1 - b1^(t/eta)), nu_hat = nu/(1 - b2^(t/eta)), the noise and the start as in Adam (Ziyin, Wang and
    Ueda 2020, arXiv:2002.04839; the equation derived). Whatever b1 and b2, no step is longer than eta/sqrt(1 - b2),
    whereas Adam's grow without bound after a jump of the gradient if b1 > sqrt(b2).

    Scalings as in Adam. Weak order 1 in the clock. Order 2, with the new second moment: `modified`.

    **Arguments:** `learning_rate`, `batch_size`, `sampling` as in `AbstractEquation`, then `b1=0.9`, `b2=0.999`,
    `eps=1e-15` and `scaling="ballistic"`; the authors' learning rate is 4e-4.
    """

    b1: Array = eqx.field(default=0.9, converter=decay("b1"))
    b2: Array = eqx.field(default=0.999, converter=decay("b2"))
    eps: Array = eqx.field(default=1e-15, converter=nonnegative("eps"))

    decays = ("b1", "b2")

    def exponents(self):
        return {"eps": -1}

    def init(self, params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return LaPropState(params, zeros, zeros)

    def velocity(self, t, state, gradient):
        steps = t / self.learning_rate
        nu_hat = unbiased(state.nu, self.b2, steps)
        unit = jax.tree.map(lambda g, v: g / (root(v) + self.eps), gradient, nu_hat)
        unit = clip_quotients(unit, (1 - self.b2) / (1 - self.b2**steps))
        squares = jax.tree.map(jnp.square, gradient)
        return LaPropState(
            jax.tree.map(jnp.negative, unbiased(state.mu, self.b1, steps)),
            self.forget(self.b2, squares, state.nu),
            self.forget(self.b1, unit, state.mu),
        )

    def twin(self):
        return optax.chain(
            scale_by_laprop(self.b1, self.b2, self.eps), optax.scale_by_learning_rate(self.learning_rate)
        )


def scale_by_laprop(b1: ArrayLike = 0.9, b2: ArrayLike = 0.999, eps: ArrayLike = 1e-15) -> optax.GradientTransformation:
    """LaProp's update at learning rate -1, an Optax transformation with the memory of `optax.scale_by_adam`."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mu=zeros, nu=zeros)

    def update(updates, state, params=None):
        count = state.count + 1
        nu = jax.tree.map(lambda n, g: b2 * n + (1 - b2) * g**2, state.nu, updates)
        nu_hat = unbiased(nu, b2, count)
        mu = jax.tree.map(
            lambda m, g, n: b1 * m + (1 - b1) * g / (jnp.sqrt(n) + eps), state.mu, updates, nu_hat
        )  # fmt: skip
        return unbiased(mu, b1, count), optax.ScaleByAdamState(count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)

"""RMSProp."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from .._checks.arguments import decay, flag, nonnegative
from .._jaxpr.roots import root
from .adaptive import AbstractAveraging, clip_quotients


class RMSPropState(eqx.Module):
    """Parameters, second moment, and the first one if the second is central; else None."""

    params: PyTree
    nu: PyTree
    mu: PyTree


class RMSProp(AbstractAveraging):
    r"""RMSProp as Optax has it: eps inside the root, the *new* second moment, plain or central.

        d theta = -(\bar g + noise) / sqrt(nu + eps) dt
        d nu = (1 - decay)/eta [(\bar g + noise)^2 - nu] dt                                   (plain)
        d nu = (1 - decay)/eta [decay (\bar g + noise - mu)^2 - nu] dt,
        d mu = (1 - decay)/eta [\bar g + noise - mu] dt                                       (centered)

    with the same minibatch noise in all of them (Hinton 2012, lecture; as an equation Malladi et al. 2022, NeurIPS,
    and Compagnoni et al. 2025, ICLR, recalled; the noise of nu and the central form are derived). The central nu is Optax's
    nu - mu^2, whose own step this is; it is positive as it stands.

    Scalings: 1 - decay ~ eta in the clock t = eta * step (`"ballistic"`), ~ eta^2 with noise ~ 1/eta in the clock
    eta^2 * step (`"batch_equivalent"`), `"fixed"`. Weak order 1 in the clock from a second moment that is not empty:
    with `initial_scale`, or with `bias_correction`. From an empty one, Optax's default, the k-th step is longer than it
    should be by 1/sqrt((1 - decay) k): order 1/2 in the ballistic scaling (measured), no limit in the batch-equivalent one.
    Order 2, with the new second moment: `modified`.

    **Arguments:** `learning_rate`, `batch_size`, `sampling` as in `AbstractEquation`, then Optax's `decay=0.9`, `eps=1e-8`,
    `initial_scale=0.0` (the second moment at the start), `eps_in_sqrt=True`, `centered=False`, `bias_correction=False`, and
    `scaling="ballistic"`. Optax's `momentum` and `nesterov`, which come after the division, are not supported; LaProp
    averages after the division too, and `from_optax(optax.rmsprop, ..., momentum=...)` takes them as they are.
    """

    decay: Array = eqx.field(default=0.9, converter=decay("decay"))
    eps: Array = eqx.field(default=1e-8, converter=nonnegative("eps"))
    initial_scale: Array = eqx.field(default=0.0, converter=nonnegative("initial_scale"))
    eps_in_sqrt: bool = eqx.field(default=True, static=True, converter=flag("eps_in_sqrt"))
    centered: bool = eqx.field(default=False, static=True, converter=flag("centered"))
    bias_correction: bool = eqx.field(default=False, static=True, converter=flag("bias_correction"))

    decays = ("decay",)

    def __check_init__(self):
        if self.centered and self.bias_correction:
            raise ValueError(
                "Argument `bias_correction` must be False for centered=True, but True was given: the variance of one "
                "gradient is zero, and the first step would be divided by eps."
            )

    def exponents(self):
        return {"eps": -2 if self.eps_in_sqrt else -1, "initial_scale": -2}

    def init(self, params):
        nu = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) + self.initial_scale, params)
        return RMSPropState(params, nu, jax.tree.map(jnp.zeros_like, params) if self.centered else None)

    def velocity(self, t, state, gradient):
        weight = 1 - self.decay ** (t / self.learning_rate) if self.bias_correction else jnp.ones(())
        nu = jax.tree.map(lambda v: v / weight.astype(v.dtype), state.nu)
        quotients = jax.tree.map(lambda g, v: -g / self._root(v), gradient, nu)
        step = clip_quotients(quotients, (1 - self.decay) / weight)
        if not self.centered:
            squares = jax.tree.map(jnp.square, gradient)
            return RMSPropState(step, self.forget(self.decay, squares, state.nu), None)
        squares = jax.tree.map(lambda g, m: self.decay * (g - m) ** 2, gradient, state.mu)
        return RMSPropState(
            step, self.forget(self.decay, squares, state.nu), self.forget(self.decay, gradient, state.mu)
        )  # fmt: skip

    def remembered(self, params, memory):
        nu, mu = (optax.tree_utils.tree_get(memory, name) for name in ("nu", "mu"))
        if self.centered:
            nu = jax.tree.map(lambda v, m: v - m**2, nu, mu)
        return RMSPropState(params, nu, mu)

    def _root(self, nu):
        return root(nu + self.eps) if self.eps_in_sqrt else root(nu) + self.eps

    def twin(self):
        return optax.rmsprop(
            self.learning_rate, self.decay, self.eps, self.initial_scale, self.eps_in_sqrt, self.centered,
            bias_correction=self.bias_correction,
        )  # fmt: skip

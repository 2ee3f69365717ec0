"""AdaGrad."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from .._checks.arguments import nonnegative, positive
from .._jaxpr.roots import root
from .._scaling import ScalingLimit
from .adaptive import AbstractAdaptive, clip_quotients


class AdaGradState(eqx.Module):
    """Parameters, and the sum of squared gradients (Optax's sum_of_squares)."""

    params: PyTree
    nu: PyTree


class AdaGrad(AbstractAdaptive):
    r"""AdaGrad as Optax has it: divided by the root of the sum of all squared gradients, the new one among them.

        d theta = -(\bar g + noise) / sqrt(nu + eps) dt
        d nu = (1/eta) (\bar g + noise)^2 dt,    t = eta * step

    with the same minibatch noise in both (Duchi, Hazan and Singer 2011, JMLR 12; as an equation da Silva and Gazeau 2020,
    JMLR 21, recalled; the noise derived). Nothing is forgotten: the steps fall as 1/sqrt(step), and after s steps the
    parameters have gone a way of order eta sqrt(s).

    Scaling: initial_accumulator_value, eps ~ 1/eta^2. Natural clock: eta^2 * step, in which G = eta^2 nu obeys
    d theta = -g/sqrt(G), d G = g^2; there is no limit at fixed eta * step. Weak order 1 in the clock; at a fixed
    accumulator 1/2, since the first steps are longer than they should be. Order 2, with the new sum: `modified`.

    **Arguments:** `learning_rate`, `batch_size`, `sampling` as in `AbstractEquation`, then Optax's
    `initial_accumulator_value=0.1` and `eps=1e-7`.
    """

    initial_accumulator_value: Array = eqx.field(default=0.1, converter=nonnegative("initial_accumulator_value"))
    eps: Array = eqx.field(default=1e-7, converter=positive("eps"))

    def init(self, params):
        fill = self.initial_accumulator_value
        return AdaGradState(params, jax.tree.map(lambda leaf: jnp.zeros_like(leaf) + fill, params))

    def velocity(self, t, state, gradient):
        return AdaGradState(
            clip_quotients(jax.tree.map(lambda g, v: -g / root(v + self.eps), gradient, state.nu), jnp.ones(())),
            jax.tree.map(lambda g: g**2 / self.learning_rate, gradient),
        )

    def remembered(self, params, memory):
        return AdaGradState(params, optax.tree_utils.tree_get(memory, "sum_of_squares"))

    def twin(self):
        return optax.adagrad(self.learning_rate, self.initial_accumulator_value, self.eps)

    def scaling_limit(self):
        return ScalingLimit(self, self.learning_rate**2, powers={"initial_accumulator_value": -2, "eps": -2})

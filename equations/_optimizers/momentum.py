"""Gradient descent with heavy-ball or Nesterov momentum."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from .._base import AbstractEquation
from .._checks.arguments import choice, decay, flag
from .._scaling import ScalingLimit
from .._splitting import GradientSplitting


class MomentumState(eqx.Module):
    """Parameters and trace (Optax's name for the decaying sum of gradients), alike in structure."""

    params: PyTree
    trace: PyTree


class Momentum(AbstractEquation):
    r"""SGD with momentum, m' = beta m + g_B, theta' = theta - eta m'; Nesterov's steps along beta m' + g_B.

        d theta = -m dt                                               (Nesterov: -(beta m + \bar g) dt, with its noise)
        d m = (1/eta) [(\bar g - (1 - beta) m) dt + sqrt(eta) (C/B)^{1/2} dW],    t = eta * step

    Li, Tai and E 2019, JMLR 20(40), section 4, in Optax's variables. The Nesterov term is the look-ahead by which the two
    algorithms differ at the next order (derived).

    Scalings: `"square_root"` (the default), 1 - beta ~ sqrt(eta). Natural clock: sqrt(eta) * step; there is no limit at
    fixed eta * step. Weak order 1 in sqrt(eta). `"fixed"`, beta stays. Natural clock: eta * step. The limit is SGD at the
    learning rate eta/(1 - beta), order 1 in eta; for more, `modified(..., memory="adiabatic")`.

    **Arguments:** `learning_rate`, `batch_size`, `sampling` as in `AbstractEquation`, then `momentum=0.9` (0 <= beta < 1),
    `nesterov=False` and `scaling="square_root"`.
    """

    momentum: Array = eqx.field(default=0.9, converter=decay("momentum"))
    nesterov: bool = eqx.field(default=False, static=True, converter=flag("nesterov"))
    scaling: str = eqx.field(
        default="square_root",
        static=True,
        kw_only=True,
        converter=lambda value: choice("scaling", value, ("square_root", "fixed")),
    )

    def init(self, params):
        return MomentumState(params, jax.tree.map(jnp.zeros_like, params))

    def params(self, state):
        return state.params

    def velocity(self, t, state, gradient):
        if self.nesterov:
            ahead = jax.tree.map(lambda m, g: -(self.momentum * m + g), state.trace, gradient)
        else:
            ahead = jax.tree.map(lambda m: -m, state.trace)
        force = jax.tree.map(lambda m, g: (g - (1 - self.momentum) * m) / self.learning_rate, state.trace, gradient)
        return MomentumState(ahead, force)

    def twin(self):
        return optax.sgd(self.learning_rate, momentum=self.momentum, nesterov=self.nesterov)

    def splitting(self):
        return GradientSplitting(self, leapfrog=not self.nesterov)

    def scaling_limit(self):
        edge = 2 * (1 + self.momentum) / (1 + 2 * self.momentum if self.nesterov else 1.0)
        if self.scaling == "fixed":
            return MomentumLimit(self, threshold=edge)
        return MomentumLimit(self, jnp.sqrt(self.learning_rate), {"momentum": 0.5}, threshold=edge)


class MomentumLimit(ScalingLimit):
    """Rules for the batch size leave the momentum as it is."""

    def at_batch_size(self, rule, batch_size):
        fixed = dataclasses.replace(self.equation, scaling="fixed")
        moved = ScalingLimit(fixed).at_batch_size(rule, batch_size)
        return dataclasses.replace(moved, scaling=self.equation.scaling)

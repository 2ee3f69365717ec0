"""Adam with decoupled weight decay."""

import equinox as eqx
import jax
import optax
from jaxtyping import Array

from .._checks.arguments import nonnegative
from .adaptive import AbstractAdam


class AdamW(AbstractAdam):
    r"""Adam whose parameters decay apart from its moments, as in Optax.

        d theta = -[mu_hat / (sqrt(nu_hat + eps_root) + eps) + weight_decay theta] dt

    with the moments, their noise and their start as in Adam (Loshchilov and Hutter 2019, ICLR; as an equation Compagnoni et
    al. 2025, ICLR, recalled). The decay is outside the root: it pulls every parameter at the same rate, and on a slope that
    is steady it stops the sign-like step at |theta| = 1/weight_decay.

    Scalings as in Adam; in the batch-equivalent one weight_decay ~ eta, so that theta decays at one rate in the clock
    eta^2 * step. Weak order 1 in the clock. Order 2, with the new second moment: `modified`.

    **Arguments:** as `Adam`, with `weight_decay=1e-4`, in units of the learning rate.
    """

    weight_decay: Array = eqx.field(default=1e-4, converter=nonnegative("weight_decay"))

    def exponents(self):
        return {**super().exponents(), "weight_decay": 1}

    def direction(self, steps, state, gradient):
        adam = super().direction(steps, state, gradient)
        return jax.tree.map(lambda step, theta: step - self.weight_decay * theta, adam, state.params)

    def twin(self):
        return optax.adamw(**self.optax(), weight_decay=self.weight_decay)

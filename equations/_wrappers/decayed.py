"""Weight decay beside the optimizer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from .._base import AbstractEquation
from .._checks.arguments import nonnegative
from .base import AbstractWrapped


class Decayed(AbstractWrapped):
    r"""Decoupled weight decay, theta' = theta + update - eta lambda theta, for any equation.

        d theta = d theta of the equation - lambda theta dt,    t = eta * step

    Decay before the optimizer, which it then sees as part of the gradient, is a term of the objective: `regularized`.

    Source: Loshchilov and Hutter 2019, ICLR.
    Scaling: that of the equation, and eta lambda ~ the natural time of a step, so that theta decays at one rate in the
    natural clock: lambda stays in the clock eta * step, is ~ eta in eta^2 * step (as AdamW's), and ~ 1/sqrt(eta) in
    sqrt(eta) * step. Natural clock: that of the equation. Weak order 1.

    **Attributes:** those of the equation, and `equation`, `weight_decay`.
    """

    weight_decay: Array = eqx.field(kw_only=True, converter=nonnegative("weight_decay"))

    def added(self, t, state):
        rates = jax.tree.map(jnp.zeros_like, state)
        decay = jax.tree.map(lambda p: (-self.weight_decay * p).astype(p.dtype), self.params(state))
        return self.with_params(rates, decay)

    def moves(self, clock, rate):
        return {"weight_decay": self.weight_decay * clock / rate}

    def twin(self):
        return optax.chain(self.equation.twin(), optax.add_decayed_weights(-self.learning_rate * self.weight_decay))


def decayed(equation: AbstractEquation, weight_decay) -> Decayed:
    """An equation with weight decay beside its optimizer.

    **Arguments:**

    - `equation`: any equation; a `scheduled` one does not schedule the decay, `scheduled(decayed(...), ...)` does, as
        Optax's AdamW.
    - `weight_decay`: lambda, zero or more; a step takes away learning_rate * lambda of the parameters.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    return Decayed.around(equation, weight_decay=weight_decay)

"""The Kolen-Pollack rule."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._checks.arguments import nonnegative
from .._signals.examples import checked_examples
from .._signals.objective import checked_loss
from .base import AbstractTied, decay_penalty, layers


class KolenPollack(AbstractTied):
    r"""The Kolen-Pollack rule: feedback weights that learn what the weights learn, transposed, and decay as they do.

        g(W_l) = delta_l h_{l-1}^T + lambda W_l,    g(V_l) = h_{l-1} delta_l^T + lambda V_l,

    with delta_l = (V_{l+1} delta_{l+1}) * phi'(z_l) as in feedback alignment (Kolen and Pollack 1994, ICNN; Akrout et al.
    2019, NeurIPS). What they start with is forgotten, whatever the examples: under SGD W - V^T falls as
    (1 - learning_rate lambda)^k, in its flow as e^{-lambda t}, and the signal becomes the gradient. Without decay it never
    does.

    **Arguments:**

    - `loss`, `data`: as for `FeedbackAlignment`; the loss calls the network.
    - `decay`: lambda, zero or more, of weights and feedback alike; not of biases.

    The parameters are `WithFeedback(model, random_feedback(model, key))`. One backward pass.

    **Raises:** TypeError or ValueError, naming the argument; feedback that does not fit the network before any compilation.
    """

    loss: Callable = eqx.field(converter=checked_loss)
    data: PyTree = eqx.field(converter=checked_examples)
    decay: Array = eqx.field(converter=nonnegative("decay"))

    @property
    def feedback_rate(self):
        return jnp.ones(())

    def surrogate(self, active, frozen, example):
        value = self.routed(active, example)
        weights = [layer.weight for layer in layers(active.model)]
        return value + decay_penalty(self.decay, [*weights, *active.feedback]).astype(value.dtype)

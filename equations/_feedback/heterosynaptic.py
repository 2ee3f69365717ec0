"""Heterosynaptic plasticity."""

from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, PyTree

from .._checks.arguments import nonnegative, number
from .._signals.examples import checked_examples
from .._signals.objective import checked_loss
from .base import AbstractTied, decay_penalty, layers


def _finite(value):
    return number("rate", value, allowed="a finite number", test=lambda x: x == x)


class Heterosynaptic(AbstractTied):
    r"""Heterosynaptic plasticity: two signals meet in a neuron, and the synapses of each learn from the other.

    Activities h rise through W, errors delta come down through V. W learns the activities that reach it with the errors
    above, V the errors that reach it with the activities below, each at its rate and with its decay:

        g(W_l) = delta_l h_{l-1}^T + gamma_W W_l,    g(V_l) = rate h_{l-1} delta_l^T + gamma_V V_l.

    At rest V_l = phi W_l^T, with the consistency phi = rate gamma_W/gamma_V: the signal of a layer is the gradient times
    the factors phi of the layers above, ascent where their product is negative. With equal decays, rate W - V^T falls as
    e^{-gamma t} whatever the examples; at rate 1 besides it is the rule of Kolen and Pollack. That rest and a common sign
    suffice is the argument of arXiv:2505.02248; the differential equation is our reconstruction.

    **Arguments:**

    - `loss`, `data`: as for `FeedbackAlignment`; the loss calls the network.
    - `decay`: gamma_W, zero or more; `feedback_decay`: gamma_V. Not of biases.
    - `rate`: how fast V learns beside W; negative for the opposite sign.

    The parameters are `WithFeedback(model, random_feedback(model, key))`. One backward pass.

    **Raises:** TypeError or ValueError, naming the argument; feedback that does not fit the network before any compilation.
    """

    loss: Callable = eqx.field(converter=checked_loss)
    data: PyTree = eqx.field(converter=checked_examples)
    decay: Array = eqx.field(converter=nonnegative("decay"))
    feedback_decay: Array = eqx.field(converter=nonnegative("feedback_decay"))
    rate: Array = eqx.field(default=1.0, converter=_finite)

    @property
    def feedback_rate(self):
        return self.rate

    def surrogate(self, active, frozen, example):
        value = self.routed(active, example)
        weights = [layer.weight for layer in layers(active.model)]
        return value + (
            decay_penalty(self.decay, weights) + decay_penalty(self.feedback_decay, active.feedback)
        ).astype(value.dtype)

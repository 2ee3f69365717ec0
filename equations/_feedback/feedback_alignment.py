"""Feedback alignment."""

from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, PyTree

from .._signals.examples import checked_examples
from .._signals.objective import checked_loss
from .base import AbstractFeedback, matrices


class FeedbackAlignment(AbstractFeedback):
    r"""Feedback alignment: backpropagation whose errors go back through fixed matrices V_l in place of W_l^T.

        delta_l = (V_{l+1} delta_{l+1}) * phi'(z_l),    g(W_l) = delta_l h_{l-1}^T,    g(b_l) = delta_l,

    z_l = W_l h_{l-1} + b_l, h_l = phi(z_l), and delta_L the derivative of the loss by z_L (Lillicrap et al. 2016, Nature
    Communications 7). With V_l = W_l^T it is the gradient; with any other it is the gradient of nothing. W_l comes to align
    with V_l^T, and so the signal with the gradient.

    **Arguments:**

    - `loss`: `loss(model, example) -> scalar` for one example, as for `Objective`; it calls the model.
    - `data`: a PyTree of arrays whose leading axis, of length N, counts the examples.
    - `feedback`: a matrix for each layer but the first, of the shape of W_l^T, `(in, out)`: `random_feedback(model, key)`.

    The parameters are an `equinox.nn.MLP`. One backward pass.

    **Raises:** TypeError or ValueError, naming the argument; feedback that does not fit the network before any compilation.
    """

    loss: Callable = eqx.field(converter=checked_loss)
    data: PyTree = eqx.field(converter=checked_examples)
    feedback: tuple[Array, ...] = eqx.field(converter=matrices)

    def network(self, params):
        return params

    def backward(self, params):
        return self.feedback

"""Direct feedback alignment."""

from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, PyTree

from .._signals.examples import checked_examples
from .._signals.objective import checked_loss
from .base import AbstractFeedback, matrices


class DirectFeedbackAlignment(AbstractFeedback):
    r"""Direct feedback alignment: the error of the output goes straight to each hidden layer, through fixed matrices B_l.

        delta_l = (B_l delta_L) * phi'(z_l),    g(W_l) = delta_l h_{l-1}^T,    g(b_l) = delta_l,

    with delta_L the derivative of the loss by the output before its activation function, y - target for squared error and
    for cross-entropy (Nokland 2016, NeurIPS). With one hidden layer it is feedback alignment.

    **Arguments:**

    - `loss`, `data`: as for `FeedbackAlignment`.
    - `feedback`: a matrix `(width, outputs)` for each hidden layer: `random_feedback(model, key, direct=True)`.

    The parameters are an `equinox.nn.MLP`. One backward pass.

    **Raises:** TypeError or ValueError, naming the argument; feedback that does not fit the network before any compilation.
    """

    loss: Callable = eqx.field(converter=checked_loss)
    data: PyTree = eqx.field(converter=checked_examples)
    feedback: tuple[Array, ...] = eqx.field(converter=matrices)
    direct = True

    def network(self, params):
        return params

    def backward(self, params):
        return self.feedback

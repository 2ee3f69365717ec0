"""The weight mirror."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._checks.arguments import nonnegative
from .._signals.examples import checked_examples
from .._signals.objective import checked_loss
from .base import AbstractFeedbackParameters, decay_penalty, layers


class WeightMirror(AbstractFeedbackParameters):
    r"""The weight mirror: feedback weights that learn from noise sent through the weights.

    With noise xi_l put into the hidden layer l, next to what the example does there,

        g(W_l) = delta_l h_{l-1}^T,    g(V_l) = -xi_{l-1} (W_l xi_{l-1})^T + decay V_l,

    delta_l as in feedback alignment (Akrout et al. 2019, NeurIPS; here the mirror listens to W xi itself, without bias
    and activation function, and runs along with learning instead of in turns with it). For white noise, E xi xi^T = 1,
    V_l goes to W_l^T/decay; for any, to S W_l^T/decay with S = E xi xi^T.

    **Arguments:**

    - `loss`, `data`: as for `FeedbackAlignment`; the loss calls the network.
    - `noise`: xi of every example and hidden layer, shape `(N, depth, width)`, such as standard normals; it stays with
        its example, and is drawn with it.
    - `decay`: zero or more, of the feedback.

    The parameters are `WithFeedback(model, random_feedback(model, key))`. One backward pass, and two products per layer.

    **Raises:** TypeError or ValueError, naming the argument; feedback that does not fit the network before any compilation.
    """

    loss: Callable = eqx.field(converter=checked_loss)
    data: PyTree
    decay: Array = eqx.field(converter=nonnegative("decay"))

    def __init__(self, loss: Callable, data: PyTree, noise: PyTree, decay: Any):
        if not eqx.is_array_like(noise):
            raise TypeError(f"Argument `noise` must be an array, but {noise!r} was given.")
        self.loss, self.decay = loss, decay
        self.data = checked_examples((data, noise))

    def outcome(self, network, example):
        return self.loss(network, example[0])

    def surrogate(self, active, frozen, example):
        value, noise = self.routed(active, example), example[1]
        for xi, layer, v in zip(noise, layers(frozen.model)[1:], active.feedback, strict=True):
            value = value - jnp.dot(xi, v @ (layer.weight @ xi))
        return value + decay_penalty(self.decay, active.feedback).astype(value.dtype)

    def check(self, params):
        model, shape = self.network(params), self.data[1].shape[1:]
        if shape != (model.depth, model.width_size):
            raise ValueError(
                f"Argument `noise` must have the shape (N, {model.depth}, {model.width_size}), one vector for each hidden "
                f"layer, but {self.data[1].shape} was given."
            )
        super().check(params)

"""Plain Hebbian learning."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PyTree

from .._signals.base import AbstractSignal
from .._signals.examples import checked_examples
from .base import inputs, layers


class Hebb(AbstractSignal):
    r"""Plain Hebbian learning, what fires together wires together: g(W) = -y x^T with y = W x, of every layer.

    Descended by SGD it is dW = W C dt + noise, C = (1/N) sum_i x_i x_i^T the second moment of the layer's input, and of
    one linear neuron w(t) = e^{Ct} w0: it aligns with the top eigenvector of C, and nothing stops it (textbook). `Oja`
    and decay do.

    **Arguments:**

    - `data`: the inputs, shape `(N, d)`. The parameters are a weight vector `(d,)`, a weight matrix `(neurons, d)` or an
        `equinox.nn.MLP`, in which every layer learns from h_{l-1}, what it receives, and W_l h_{l-1}; biases do not learn.
    """

    data: PyTree = eqx.field(converter=checked_examples)

    def surrogate(self, active, frozen, example):
        if not isinstance(frozen, eqx.nn.MLP):
            return -jnp.vdot(frozen @ example, active @ example)
        pairs = zip(layers(active), layers(frozen), inputs(frozen, example), strict=True)
        return -sum(jnp.vdot(w.weight @ h, v.weight @ h) for v, w, h in pairs)

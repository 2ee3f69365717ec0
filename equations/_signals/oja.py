"""Oja's rule."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PyTree

from .base import AbstractSignal
from .examples import checked_examples


class Oja(AbstractSignal):
    r"""Oja's rule for one linear neuron y = w . x, as a signal: g = -(y x - y^2 w).

    It is not the gradient of any loss. Descended by SGD it is

        d w = (C w - (w^T C w) w) dt + noise,    C = (1/N) sum_i x_i x_i^T,

    whose mean flow from w0 is w(t) = e^{Ct} w0 / sqrt(1 - |w0|^2 + |e^{Ct} w0|^2) and converges to the top eigenvector of C
    (Oja 1982, J. Math. Biol. 15; textbook).

    **Arguments:**

    - `data`: the inputs, shape `(N, d)`. The parameters are the weight vector, shape `(d,)`.
    """

    data: PyTree = eqx.field(converter=checked_examples)

    def surrogate(self, active, frozen, example):
        output = jnp.dot(example, frozen)
        return -output * (jnp.dot(example, active) - output * jnp.dot(frozen, active))

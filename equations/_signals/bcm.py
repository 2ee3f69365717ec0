"""The rule of Bienenstock, Cooper and Munro."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._checks.arguments import positive
from .base import AbstractSignal
from .examples import checked_examples


class BCM(AbstractSignal):
    r"""The rule of Bienenstock, Cooper and Munro for one linear neuron y = w . x with a sliding threshold theta.

        g(w) = -y (y - theta) x,    g(theta) = -rate (y^2 - theta).

    Descended by SGD it is dw = E[x y (y - theta)] dt, dtheta = rate (E[y^2] - theta) dt, with noise (Bienenstock, Cooper
    and Munro 1982, J. Neurosci. 2; in the form of Intrator and Cooper 1992, Neural Networks 5). For linearly independent
    inputs of probabilities p_i the neuron becomes selective: it answers to one input alone, with y = theta = 1/p_i. For
    orthogonal inputs that point is stable where the threshold is fast enough, rate > |x_i|^2 (derived).

    **Arguments:**

    - `data`: the inputs, shape `(N, d)`. The parameters are the pair `(w, theta)` of shapes `(d,)` and `()`.
    - `rate`: of the threshold beside that of the weights, positive.
    """

    data: PyTree = eqx.field(converter=checked_examples)
    rate: Array = eqx.field(default=1.0, converter=positive("rate"))

    def surrogate(self, active, frozen, example):
        (w, theta), (w_active, theta_active) = frozen, active
        y = jnp.dot(w, example)
        slide = self.rate.astype(y.dtype) * (y**2 - theta) * theta_active
        return -y * (y - theta) * jnp.dot(w_active, example) - slide

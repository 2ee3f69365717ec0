"""Stochastic gradient descent."""

import jax
import optax

from .._base import AbstractEquation
from .._scaling import ScalingLimit


class SGD(AbstractEquation):
    r"""Stochastic gradient descent, theta' = theta - eta g_B.

        d theta = -\bar g dt + sqrt(eta) (C/B)^{1/2} dW,    t = eta * step

    C is the covariance of the per-example gradients (Li, Tai and E 2019, JMLR 20(40), first-order weak approximation).
    Without a batch size: gradient flow. `sampling="shuffled"`: noise-free at this order (Smith et al. 2021, ICLR).

    Scaling: eta -> 0 at fixed batch size. Natural clock: t. Weak order 1.

    **Arguments:** `learning_rate`, `batch_size=None`, `sampling="with_replacement"`, as in `AbstractEquation`.
    """

    def velocity(self, t, state, gradient):
        return jax.tree.map(lambda g: -g, gradient)

    def twin(self):
        return optax.sgd(self.learning_rate)

    def scaling_limit(self):
        return ScalingLimit(self, threshold=2.0)

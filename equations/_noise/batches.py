"""How minibatches are drawn, and the covariance of their gradients."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._signals.base import AbstractSignal

SAMPLINGS = ("with_replacement", "without_replacement", "shuffled")


def noise_factor(size: int, batch_size: Any, sampling: str) -> Any:
    """The covariance of a minibatch gradient over C.

    For `sampling="shuffled"` it is zero: over an epoch of batches without repetition the noise of the single steps
    cancels at leading order (the variance at epoch ends is O(eta^3)).
    """
    subsets = (size - batch_size) / max(size - 1, 1)
    return {"with_replacement": 1.0, "without_replacement": subsets, "shuffled": 0.0}[sampling] / batch_size


def noise_weights(normals: Float[Array, " N"], batch_size: Any, sampling: str) -> Float[Array, " N"]:
    """The weights, shape `(N,)`, that turn standard normals of the same shape into a noise gradient."""
    size = normals.shape[0]
    scale = (noise_factor(size, batch_size, sampling) / size) ** 0.5
    if eqx.is_array(scale):  # of a batch size that is scheduled
        scale = scale.astype(normals.dtype)
    return (normals - jnp.mean(normals)) * scale


class Batches(eqx.Module):
    """The examples, and how the minibatches of a training step are drawn from them."""

    signal: AbstractSignal
    batch_size: int | None = eqx.field(static=True)
    sampling: str = eqx.field(static=True)

    @property
    def noisy(self) -> bool:
        """Whether which examples are drawn is noise at leading order."""
        return self.batch_size is not None and self.sampling != "shuffled"

    @property
    def factor(self) -> float:
        """The covariance of the minibatch gradient over C; 0 for the full batch."""
        return noise_factor(self.signal.size, self.count, self.sampling) if self.noisy else 0.0

    @property
    def count(self) -> int:
        """The examples in a training step."""
        return self.signal.size if self.batch_size is None else self.batch_size

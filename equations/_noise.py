"""Minibatch gradient noise as a weighted gradient.

With c_i = g_i - mean(g) and C = (1/N) sum_i c_i c_i^T, a minibatch of B examples drawn with replacement has the gradient
covariance C/B, and an independent subset of B examples C (N-B)/((N-1)B). The weights (xi - mean(xi)) sqrt(factor/(N B)),
xi ~ N(0, I_N), give a weighted gradient of exactly that covariance at the cost of one backward pass.
"""

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

from ._signal import AbstractSignal, parameter_dtype

SAMPLINGS = ("with_replacement", "without_replacement", "shuffled")


def noise_factor(size: int, batch_size: int, sampling: str) -> float:
    """The covariance of a minibatch gradient over C.

    For `sampling="shuffled"` it is zero: over an epoch of batches without repetition the noise of the single steps
    cancels at leading order (the variance at epoch ends is O(eta^3)).
    """
    factor = {
        "with_replacement": 1.0,
        "without_replacement": (size - batch_size) / max(size - 1, 1),
        "shuffled": 0.0,
    }[sampling]
    return factor / batch_size


def noise_weights(normals: Array, batch_size: int, sampling: str) -> Array:
    """The weights, shape `(N,)`, that turn standard normals of the same shape into a noise gradient."""
    size = normals.shape[0]
    return (normals - jnp.mean(normals)) * (noise_factor(size, batch_size, sampling) / size) ** 0.5


def noise_operator(
    signal: AbstractSignal, params: PyTree, batch_size: int, sampling: str = "with_replacement"
) -> lx.FunctionLinearOperator:
    """A square root of the minibatch gradient covariance, from `(N,)` normals to a PyTree like `params`.

    Matrix-free: `operator.mv(xi)` is one weighted gradient, and one draw of xi correlates all leaves.
    """
    struct = jax.ShapeDtypeStruct((signal.size,), parameter_dtype(params))
    return lx.FunctionLinearOperator(
        lambda normals: signal.gradient(params, noise_weights(normals, batch_size, sampling)), struct
    )

"""A linear complementarity problem of positive semidefinite matrices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_TURNS = 150


def complementary(constant: Float[Array, "k k"], linear: Callable[[Array], Array], size: Array) -> Float[Array, "k k"]:
    r"""X with X >= 0, Y = constant + linear(X) >= 0 and <X, Y> = 0, for a symmetric positive linear map.

    It is the minimum of <X, constant> + <X, linear(X)>/2 over X >= 0, found by the accelerated projected gradient (Beck and
    Teboulle 2009, SIAM J. Imaging Sci. 2, with a restart where the momentum points uphill).

    **Arguments:** `size`: a bound of the eigenvalues of the linear map.
    """

    def turn(_, carry):
        old, ahead, momentum = carry
        new = positive_part(ahead - (constant + linear(ahead)) / size)
        uphill = jnp.vdot(ahead - new, new - old) > 0
        momentum = jnp.where(uphill, 1.0, momentum)
        following = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        return new, new + (momentum - 1) / following * (new - old), following

    zero = jnp.zeros_like(constant)
    return jax.lax.fori_loop(0, _TURNS, turn, (zero, zero, jnp.ones((), constant.dtype)))[0]


def positive_part(matrix: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """The nearest positive semidefinite matrix."""
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * jnp.maximum(values, 0)) @ vectors.T

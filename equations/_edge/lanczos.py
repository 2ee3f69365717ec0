"""The largest eigenvalues of a symmetric operator on a PyTree, by Lanczos' method with full reorthogonalization."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree


def largest(
    operator: Callable[[PyTree], PyTree], begin: PyTree, count: int, products: int
) -> tuple[Float[Array, " count"], PyTree]:
    """The `count` largest eigenvalues, from the top, and their eigenvectors, leaves `(count, ...)`, orthonormal.

    From the start vector `begin`, by at most so many products, as many as there are dimensions. Where the space they span
    is found whole before, as that of a matrix of low rank, the iteration goes on from a new direction orthogonal to it.
    (Library routines at hand divide by zero there, or take four products in an iteration.)
    """
    vector, unravel = ravel_pytree(begin)
    size, dtype = vector.size, vector.dtype
    products = min(products, size)
    eps = float(jnp.finfo(dtype).eps)
    others = jax.random.normal(jax.random.key(17), (size,), dtype)

    def orthogonal(vector, basis):
        for _ in range(2):  # once is not enough in floating-point numbers
            vector = vector - basis.T @ (basis @ vector)
        return vector

    def unit(vector):
        length = jnp.linalg.norm(vector)
        return vector / jnp.where(length > 0, length, 1)

    def step(carry, index):
        basis, vector, scale = carry
        basis = basis.at[index].set(vector)
        image = ravel_pytree(operator(unravel(vector)))[0].astype(dtype)
        scale = jnp.maximum(scale, jnp.linalg.norm(image))
        rest = orthogonal(image, basis)
        length = jnp.linalg.norm(rest)
        ended = length <= 10 * eps * jnp.sqrt(size * 1.0) * scale
        # A rotation of fixed numbers is a direction that no basis holds, but for chance.
        new = unit(orthogonal(unit(orthogonal(jnp.roll(others, index), basis)), basis))
        vector = jnp.where(ended, new, unit(rest)).astype(dtype)
        return (basis, vector, scale), image

    start = jnp.zeros((products, size), dtype), unit(vector), jnp.zeros((), dtype)
    (basis, _, _), images = jax.lax.scan(step, start, jnp.arange(products))
    inner = basis @ images.T
    values, vectors = jnp.linalg.eigh((inner + inner.T) / 2)
    count = min(count, products)
    found = vectors[:, ::-1][:, :count].T @ basis
    return values[::-1][:count], jax.vmap(unravel)(found)

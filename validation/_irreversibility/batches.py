"""All minibatches of a problem with their probabilities, or a sample of them."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dynamics.internal import check_equation
from equations import AbstractEquation, AbstractSignal
from equations.internal import Increment, add_scaled, check_one_batch_size, noise_factor, velocity_of

from .one_batch import square

LARGEST = 4096  # so many batches are enumerated
_CHUNK = 32  # examples whose gradients are held at a time


def check_batches_only(equation: AbstractEquation) -> None:
    """A ValueError unless a step takes one gradient, in which minibatches are all that is random."""
    if equation.several_gradients:
        raise ValueError(
            "Argument `equation` must take one gradient of a batch in a step, which phi is a mean over, but "
            f"{type(equation).__name__} asks for several."
        )
    check_one_batch_size(equation, "phi, a mean over its batches")
    if equation.gradient_noise.injects:
        raise ValueError(
            "Argument `equation` must have no noise but that of its minibatches, since phi is a mean over them, but "
            f"{equation.gradient_noise!r} was given."
        )


def check_plain(equation: AbstractEquation) -> None:
    """A TypeError or ValueError unless the algorithm makes plain gradient steps on minibatches."""
    check_equation(equation)
    check_batches_only(equation)
    probe = jnp.array([1.0, -2.0])
    steps_plainly = not jax.tree.leaves(jax.eval_shape(lambda: Increment.of(equation).init(probe).memory))
    if steps_plainly:
        velocity = equation.params(velocity_of(equation, jnp.zeros(()), equation.init(probe), 3 * probe))
        steps_plainly = bool(jnp.allclose(velocity, -3 * probe))
    if not steps_plainly:
        raise ValueError(
            f"Argument `equation` must make plain gradient steps, as SGD does, but {type(equation).__name__} was given."
        )


def check_batches(batches: Any, size: int) -> list[Array | None]:
    """Minibatches as arrays of indices, or None for all examples; a TypeError or ValueError where there are none."""
    wording = (
        "Argument `batches` must be a list, for each step of the integer indices of examples below "
        f"{size}, shape (B,), or None for all, but "
    )
    if isinstance(batches, str | dict) or not isinstance(batches, Iterable):
        raise TypeError(f"{wording}{batches!r} was given.")
    checked = []
    for indices in batches:
        if indices is None:
            checked.append(None)
            continue
        array = np.asarray(indices)
        if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{wording}{indices!r} was given.")
        if array.min() < 0 or array.max() >= size:
            raise ValueError(f"{wording}{indices!r} was given.")
        checked.append(jnp.asarray(array))
    if not checked:
        raise ValueError(f"{wording}none was given.")
    return checked


def count(equation: AbstractEquation, size: int) -> int:
    """How many different minibatches there are: multisets with replacement, else subsets."""
    batch = equation.batch_size
    if batch is None:
        return 1
    return math.comb(size + batch - 1, batch) if equation.sampling == "with_replacement" else math.comb(size, batch)


def enumerated(equation: AbstractEquation, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All of them: indices `(batches, B)` and probabilities `(batches,)`."""
    batch = equation.batch_size
    if batch is None:
        return np.arange(size)[None], np.ones(1)
    if equation.sampling != "with_replacement":
        indices = np.array(list(itertools.combinations(range(size), batch)))
        return indices, np.full(len(indices), 1 / len(indices))
    indices = np.array(list(itertools.combinations_with_replacement(range(size), batch)))
    repeats = [np.unique(row, return_counts=True)[1] for row in indices]
    orders = [math.factorial(batch) / math.prod(math.factorial(int(r)) for r in row) for row in repeats]
    return indices, np.array(orders) / float(size) ** batch


def sampled(equation: AbstractEquation, size: int, key: Array, number: int) -> Array:
    """`number` independent minibatches, indices `(number, B)`; the first of an epoch where epochs are shuffled."""
    batch: Any = equation.batch_size
    if equation.sampling == "with_replacement":
        return jax.random.randint(key, (number, batch), 0, size)
    draw = lambda k: jax.random.choice(k, size, (batch,), replace=False)  # noqa: E731
    return jax.lax.map(draw, jax.random.split(key, number))


def covariance_factor(equation: AbstractEquation, size: int) -> float:
    """The covariance of one minibatch's gradient over that of an example's; one of an epoch is an independent subset."""
    sampling = "without_replacement" if equation.sampling == "shuffled" else equation.sampling
    batch: Any = equation.batch_size
    return noise_factor(size, batch, sampling)


def potential(equation: AbstractEquation, signal: AbstractSignal, params: PyTree) -> tuple[Array, PyTree]:
    """phi = E|g_B|^2/4 and its gradient, exact for any number of batches, by one pass over the examples.

    E|g_B|^2 = |g|^2 + f (mean_i |g_i|^2 - |g|^2), f the covariance of a minibatch gradient over that of an example's.
    """

    def quarter(params, signal):
        return square(signal.gradient(params)) / 4

    value_and_gradient = jax.value_and_grad(quarter)
    whole = value_and_gradient(params, signal)
    if equation.batch_size is None:
        return whole
    factor = covariance_factor(equation, signal.size)
    padded = -(-signal.size // _CHUNK) * _CHUNK
    indices = jnp.minimum(jnp.arange(padded), signal.size - 1).reshape(-1, _CHUNK)
    weights = jnp.where(jnp.arange(padded) < signal.size, factor / signal.size, 0.0).reshape(-1, _CHUNK)

    def add(total, chunk):
        index, weight = chunk
        values = jax.vmap(lambda i: value_and_gradient(params, signal.take(i[None])))(index)
        part = jax.tree.map(lambda leaf: jnp.tensordot(weight.astype(leaf.dtype), leaf, 1), values)
        return add_scaled(total, (1.0, part)), None

    begin = jax.tree.map(lambda leaf: ((1 - factor) * leaf).astype(leaf.dtype), whole)
    return jax.lax.scan(add, begin, (indices, weights))[0]

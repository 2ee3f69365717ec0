"""Dropout on the inputs of a line, whose mean loss is that of a ridge: a loss that draws numbers, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np

KEEP = 0.7
X = np.array([[1.2, -0.7], [0.4, 0.9], [-0.5, 0.3], [0.8, 1.1]])
Y = np.array([0.5, 1.0, -0.8, 0.2])


def loss(w, example, key):
    """Inverted dropout on the inputs of a linear layer."""
    kept = jax.random.bernoulli(key, KEEP, example[0].shape)
    return 0.5 * (example[1] - jnp.dot(w, jnp.where(kept, example[0] / KEEP, 0.0))) ** 2


def ridge(w, example):
    """Its mean: (1 - p)/(2p) sum_j w_j^2 x_j^2 more than without dropout."""
    line = 0.5 * (example[1] - jnp.dot(w, example[0])) ** 2
    return line + 0.5 * (1 - KEEP) / KEEP * jnp.sum(w**2 * example[0] ** 2)

"""A small experiment, which processes of their own can import too."""

import jax
import jax.numpy as jnp
import numpy as np

from equations import SGD, Objective

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 2))
Y = X @ np.array([1.0, -0.5]) + 0.3 * RNG.standard_normal(8)
AXES = {"learning_rate": [0.1, 0.2], "batch_size": [1, 2], "seed": range(3)}


def loss(w, example):
    """The squared error of a linear model."""
    return (jnp.dot(example[0], w) - example[1]) ** 2 / 2


OBJECTIVE = Objective(loss, (X, Y))
OBSERVE = {"loss": OBJECTIVE.value, "w": lambda w: w}


def experiment(learning_rate, batch_size, seed):
    """Eight steps of SGD."""
    return dict(
        equation=SGD(learning_rate, batch_size),
        objective=OBJECTIVE,
        params=jnp.zeros(2),
        steps=8,
        key=jax.random.key(seed),
        observe=OBSERVE,
        save_every=4,
    )

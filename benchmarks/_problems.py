"""The network on scikit-learn's digits, and the hand-written loops that the library is held against."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from equations import Objective


def loss(layers, example):
    """Cross-entropy of a tanh network at one example."""
    x, label = example
    *hidden, (matrix, bias) = layers
    for weights, shift in hidden:
        x = jnp.tanh(x @ weights + shift)
    return -jax.nn.log_softmax(x @ matrix + bias)[label]


def digits(hidden: tuple[int, ...] = (32,), copies: int = 1):
    """The objective on all 1797 digits, `copies` times over, and initial parameters, in float32."""
    data = load_digits()
    images, labels = np.tile(data.data / 16, (copies, 1)), np.tile(data.target, copies)
    objective = Objective(loss, (jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32)))
    rng = np.random.default_rng(0)
    sizes = (64, *hidden, 10)
    layers = tuple(
        (jnp.asarray(rng.normal(size=(m, n)) / m**0.5, jnp.float32), jnp.zeros(n, jnp.float32))
        for m, n in zip(sizes, sizes[1:], strict=False)
    )
    return objective, layers


def squared_error(layers, example):
    """The squared error of a tanh network with one output at one example."""
    x, y = example
    *hidden, (matrix, bias) = layers
    for weights, shift in hidden:
        x = jnp.tanh(x @ weights + shift)
    return 0.5 * ((x @ matrix + bias)[0] - y) ** 2


def b3():
    """Problem B3: the objective on 64 examples of sin(2 x0) x1 and a network 2-16-1, in float32."""
    x = np.random.default_rng(0).standard_normal((64, 2))
    data = jnp.asarray(x, jnp.float32), jnp.asarray(np.sin(2 * x[:, 0]) * x[:, 1], jnp.float32)
    theta = jnp.asarray(np.random.default_rng(1).standard_normal(65) * 0.5, jnp.float32)
    layers = ((theta[:32].reshape(2, 16), theta[32:48]), (theta[48:64].reshape(16, 1), theta[64:]))
    return Objective(squared_error, data), layers


def size(layers) -> int:
    """The number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(layers))


def weighted_gradient(layers, data, weights):
    """sum_i weights_i grad loss_i."""
    return jax.grad(lambda p: jnp.dot(jax.vmap(lambda example: loss(p, example))(data), weights))(layers)


def full_gradient(layers, data, loss=loss):
    """The mean gradient."""
    return jax.grad(lambda p: jnp.mean(jax.vmap(lambda example: loss(p, example))(data)))(layers)


def moved(layers, *terms):
    """layers + sum of factor * gradient over pairs (factor, gradient)."""
    factors, gradients = zip(*terms, strict=True)
    return jax.tree.map(lambda p, *g: p + sum(f * leaf for f, leaf in zip(factors, g, strict=True)), layers, *gradients)


def path_keys(key, paths):
    """Keys as `solve` makes them, so that both sides run on the same numbers and must end in the same place."""
    return jax.vmap(lambda path: jax.random.fold_in(key, path))(jnp.arange(paths))


def distance(one, other) -> float:
    """The largest difference between two PyTrees."""
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), one, other)))

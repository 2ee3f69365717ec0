"""The default problem: a tanh network on scikit-learn's digits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from equations import Objective


def cross_entropy(network, example):
    """Cross-entropy of one example (image, label)."""
    image, label = example
    return -jax.nn.log_softmax(network(image))[label]


def digits_problem(key, hidden: int = 32):
    """Objective, network and observables: a tanh MLP 64-hidden-10 on all 1797 digits, pixels scaled to [0, 1].

    **Returns:** `(objective, network, observe)`; the observables are loss, accuracy and weight norm.
    """
    from sklearn.datasets import load_digits  # not at the top: it costs as much to import as JAX

    images, labels = load_digits(return_X_y=True)
    images = jnp.asarray(images / 16.0, jnp.float32)
    labels = jnp.asarray(labels.astype(np.int32))
    objective = Objective(cross_entropy, (images, labels))
    network = eqx.nn.MLP(64, 10, hidden, 1, activation=jnp.tanh, dtype=jnp.float32, key=key)

    def accuracy(network):
        return jnp.mean((jnp.argmax(jax.vmap(network)(images), axis=1) == labels).astype(jnp.float32))

    def weight_norm(network):
        return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array))))

    return objective, network, {"loss": objective.value, "accuracy": accuracy, "weight norm": weight_norm}


class Convolutional(eqx.Module):
    """Two convolutions with tanh, a pooling between them, and a linear layer: 8 x 8 images to ten numbers."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    last: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.first = eqx.nn.Conv2d(1, 6, 3, padding=1, dtype=jnp.float32, key=keys[0])
        self.second = eqx.nn.Conv2d(6, 8, 3, padding=1, dtype=jnp.float32, key=keys[1])
        self.last = eqx.nn.Linear(32, 10, dtype=jnp.float32, key=keys[2])

    def __call__(self, image):
        hidden = jnp.tanh(self.first(image.reshape(1, 8, 8)))
        hidden = jnp.tanh(self.second(hidden.reshape(6, 4, 2, 4, 2).mean((2, 4))))
        return self.last(hidden.reshape(8, 2, 2, 2, 2).mean((2, 4)).reshape(-1))


def squared_error(network, example):
    """Half the squared distance of the outputs from a one-hot target."""
    image, target = example
    return jnp.sum((network(image) - target) ** 2) / 2


def squared_problem(key, kind: str, examples: int):
    """Objective and network for full-batch training: a tanh MLP 64-16-10 or a small convolutional network, squared error.

    **Raises:** ValueError for a number of examples that there are not.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    if not 1 <= examples <= len(images):
        raise ValueError(f"Argument `examples` must be an integer from 1 to {len(images)}, but {examples} was given.")
    targets = jnp.asarray(np.eye(10)[labels[:examples]], jnp.float32)
    objective = Objective(squared_error, (jnp.asarray(images[:examples] / 16.0, jnp.float32), targets))
    if kind == "cnn":
        return objective, Convolutional(key)
    network = eqx.nn.MLP(64, 10, 16, 1, activation=jnp.tanh, dtype=jnp.float32, key=key)
    return objective, network

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

"""What one asks of a circuit's weights."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._feedback.base import cosine
from .state import Weights, plus


class Accuracy(eqx.Module):
    """The fraction of examples that a circuit at rest puts right, a function of its weights.

    One output is right if it lies on the side of its target, seen from halfway between the smallest and the largest target;
    of several outputs the largest must be where the largest target is.
    """

    circuit: Any
    x: Array
    y: Array

    def __call__(self, weights: Weights) -> Array:
        output = jax.vmap(lambda x: self.circuit.output(weights, x))(self.x)
        if output.shape[1] == 1:
            middle = (jnp.min(self.y) + jnp.max(self.y)) / 2
            right = (output > middle) == (self.y > middle)
        else:
            right = jnp.argmax(output, axis=1) == jnp.argmax(self.y, axis=1)
        return jnp.mean(right.astype(output.dtype))


def alignment(circuit: Any, weights: Weights) -> Array:
    """The cosines between what carries errors back in a circuit and what backpropagation would have there."""
    if circuit.feedback == "DFA":
        pairs = zip(weights.backward or (), _onward(circuit, weights), strict=True)
    else:
        pairs = zip(circuit.feedback_matrices(weights), circuit.relayed(weights.forward), strict=True)
    return jnp.stack([cosine(v, w.T) for v, w in pairs])


def _onward(circuit: Any, weights: Weights) -> list[Array]:
    """For each hidden layer the linear map from it to the output, shapes `(n_out, n_i)`."""
    maps: list[Any] = [None] * (len(circuit.layers) - 1) + [jnp.eye(circuit.layers[-1], dtype=weights.forward[0].dtype)]
    for layer in reversed(circuit.hidden):
        for (i, j), matrix in zip(circuit.connections, weights.forward, strict=True):
            if i == layer:
                maps[i] = plus(maps[i], maps[j] @ matrix)
    return maps[1:-1]

"""What a circuit of neurons consists of: its weights, and all that moves in it."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array


class Weights(eqx.Module):
    """The parameters of a circuit.

    - `forward`: for each connection (i, j) a matrix W, shape `(n_j, n_i)`: first layer to layer, then those that skip.
    - `backward`: what carries errors back, or None where it is the transpose of `forward`. Layerwise: for each connection
        that does not start at the input, V of shape `(n_i, n_j)`. Direct: for each hidden layer, shape `(n_i, n_out)`.
    """

    forward: tuple[Array, ...]
    backward: tuple[Array, ...] | None


class CircuitState(eqx.Module):
    """The state of a circuit; what a circuit does not have is None.

    - `activities`: z_1, ..., z_L, shapes `(n_l,)`.
    - `errors`: e_1, ..., e_{L-1}, and e_L if it is low-passed.
    - `presynaptic`: low-passed z_0, ..., z_{L-1}.
    - `eligibility`: for each connection, the trace of what its synapses could have done to the postsynaptic neuron.
    - `weights`: the parameters.
    """

    activities: tuple[Array, ...]
    errors: tuple[Array, ...]
    presynaptic: tuple[Array, ...] | None
    eligibility: tuple[Array, ...] | None
    weights: Weights


def plus(total: Array | None, term: Array) -> Array:
    """total + term; None is nothing yet."""
    return term if total is None else total + term


def matrix_shapes(circuit: Any) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The shapes of a circuit's matrices, forward and backward."""
    sizes, last = circuit.layers, circuit.layers[-1]
    forward = [(sizes[j], sizes[i]) for i, j in circuit.connections]
    if circuit.feedback == "SGD":
        return forward, []
    if circuit.feedback == "DFA":
        return forward, [(sizes[i], last) for i in circuit.hidden]
    return forward, [(sizes[i], sizes[j]) for i, j in circuit.connections if i]


def random_weights(circuit: Any, key: Array) -> Weights:
    """Normal weights, of variance one over the size of what a matrix is applied to."""
    forward, backward = matrix_shapes(circuit)
    keys = jax.random.split(key, len(forward) + len(backward))
    matrices = tuple(
        jax.random.normal(key, shape) / shape[1] ** 0.5 for key, shape in zip(keys, forward + backward, strict=True)
    )
    count = len(forward)
    return Weights(matrices[:count], None if circuit.feedback == "SGD" else matrices[count:])


def circuit_noise(circuit: Any, state: CircuitState) -> lx.FunctionLinearOperator:
    """From one vector of normals to all activities and errors, by the amplitude of white noise that each needs."""
    moving = (state.activities, state.errors)
    vector, split = ravel_pytree(moving)
    noise = circuit.integration_noise
    amplitudes = [noise * jnp.sqrt(2 / circuit.tau_propagation)] * len(state.activities + state.errors)
    if circuit.tau_error is not None:
        amplitudes[-1] = noise * jnp.sqrt(2 / circuit.tau_error)

    def mv(normals):
        leaves = [a * normal for a, normal in zip(amplitudes, jax.tree.leaves(split(normals)), strict=True)]
        activities, errors = jax.tree.unflatten(jax.tree.structure(moving), leaves)
        return dataclasses.replace(jax.tree.map(jnp.zeros_like, state), activities=activities, errors=errors)

    return lx.FunctionLinearOperator(mv, jax.ShapeDtypeStruct(vector.shape, vector.dtype))

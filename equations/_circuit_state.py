"""What a circuit of neurons consists of: its weights, and all that moves in it."""

import equinox as eqx
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

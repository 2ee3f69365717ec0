"""What a circuit settles to while its weights do not move."""

from typing import Any

import jax.numpy as jnp

from .state import CircuitState, Weights
from .stream import Stimulus


def rest(circuit: Any, weights: Weights, stimulus: Stimulus) -> CircuitState:
    """One sweep of activities forwards and one of errors back, with every filter at what it follows."""
    state = circuit.init(weights)
    z = [stimulus.x, *state.activities]
    for layer in range(1, len(z)):
        potentials = circuit.potentials(weights, tuple(z))
        z[layer] = circuit.activation(potentials[layer - 1]) if layer in circuit.hidden else potentials[-1]
    settled = CircuitState(tuple(z[1:]), state.errors, None, None, weights)
    errors = [*(jnp.zeros_like(activity) for activity in z[1:-1]), circuit.output_error(settled, stimulus)]
    for layer in reversed(circuit.hidden):
        modulation = circuit.modulation(weights, tuple(errors))[layer - 1]
        errors[layer - 1] = circuit.respond(potentials[layer - 1], modulation)[1]
    return CircuitState(
        activities=tuple(z[1:]),
        errors=tuple(errors) if circuit.tau_error is not None else tuple(errors[:-1]),
        presynaptic=None if circuit.tau_presynaptic is None else tuple(z[:-1]),
        eligibility=None if circuit.tau_eligibility is None else circuit.eligible(potentials, z),
        weights=weights,
    )

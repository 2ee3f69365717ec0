"""A plastic circuit in continuous time: activities, errors and weights evolve together, without phases."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks.arguments import choice, flag, positive, typed_key
from .base import AbstractCircuit
from .checks import (
    check_activation,
    check_stimuli,
    check_weights,
    connections,
    delay_time,
    layer_pairs,
    layer_sizes,
    optional_noise,
    optional_time,
    warn_of_times,
)
from .examples import check_pairs
from .observables import Accuracy, alignment
from .rest import rest
from .state import CircuitState, Weights, circuit_noise, matrix_shapes, plus, random_weights
from .stream import Stimulus

FEEDBACK = ("SGD", "FA", "DFA", "KP")
FILTERS = ("tau_presynaptic", "tau_error", "tau_eligibility")


class Circuit(AbstractCircuit):
    r"""Rate neurons whose synapses learn from an error while the inputs go on: SGD, FA, DFA and Kolen-Pollack as limits.

        tau_p dz_j/dt = -z_j + phi(a_j),               a_j = sum_i W_ij z_i        (the output z_L is linear)
        tau_p de_i/dt = -e_i + phi'(a_i) m_i,          m_i = sum_j V_ij e_j  (layerwise)  or  V_i e_L  (direct)
        e_L = (y - z_L)(t - delay)
        dW_ij/dt = e_j z_i^T / tau_w - W_ij / tau_d    dV_ij/dt = z_i e_j^T / tau_w - V_ij / tau_d  (KP), else 0

    A *reconstruction* of the circuits of arXiv:2510.18808, whose equations could not be read, from what its abstract and
    its reviews say. `feedback`: `"SGD"` V = W^T; `"FA"` V random and fixed, layer by layer (Lillicrap et al. 2016); `"DFA"`
    the same directly from the output (Nokland 2016); `"KP"` V plastic as W^T is, so that W - V^T decays as exp(-t/tau_d)
    (Kolen and Pollack 1994). Under stimuli of duration T with tau_p << T << tau_w one stimulus is a step of the discrete
    rule (`discrete`) with learning rate T/tau_w and weight decay tau_w/tau_d.

    With `tau_presynaptic` a synapse sees z_i low-passed; with `tau_error` so is e_L before it goes back; with
    `tau_eligibility` a synapse keeps a trace, tau_g dg_ij/dt = -g_ij + phi'(a_j) z_i^T, and learns m_j g_ij. With
    `integration_noise` s all z and e are driven, tau_p dz = ... + s sqrt(2 tau_p) dW, so that s is the standard deviation
    of one that nothing else drives.

    **Arguments:** times are in seconds and traced, but for the delay, which fixes the number of steps.

    - `layers`: the numbers of neurons, input and output included.
    - `feedback`: the rule, as above.
    - `tau_propagation`, `tau_plasticity`, `tau_decay`: tau_p, tau_w, tau_d above; `tau_decay=None`: no decay.
    - `delay`: of the error signal, zero or more.
    - `tau_presynaptic`, `tau_error`, `tau_eligibility`: as above, or None for none.
    - `integration_noise`: as above, or None for none.
    - `skip`: pairs (i, j) of layers, j > i + 1, counted from the input, 0, between which there are connections too.
    - `activation`: phi, a function of arrays that JAX differentiates.
    - `frozen`: no plasticity and no errors (`readout`).

    **Raises:** TypeError or ValueError, naming the argument.
    """

    layers: tuple[int, ...] = eqx.field(static=True, converter=layer_sizes)
    feedback: str = eqx.field(static=True, converter=lambda value: choice("feedback", value, FEEDBACK), default="SGD")
    tau_propagation: Array = eqx.field(converter=positive("tau_propagation"), default=1e-3)
    tau_plasticity: Array = eqx.field(converter=positive("tau_plasticity"), default=2.5)
    tau_decay: Array | None = eqx.field(converter=optional_time("tau_decay"), default=None)
    delay: float = eqx.field(static=True, converter=delay_time, default=0.0)
    tau_presynaptic: Array | None = eqx.field(converter=optional_time("tau_presynaptic"), default=None, kw_only=True)
    tau_error: Array | None = eqx.field(converter=optional_time("tau_error"), default=None, kw_only=True)
    tau_eligibility: Array | None = eqx.field(converter=optional_time("tau_eligibility"), default=None, kw_only=True)
    integration_noise: Array | None = eqx.field(converter=optional_noise, default=None, kw_only=True)
    skip: tuple[tuple[int, int], ...] = eqx.field(static=True, converter=layer_pairs, default=(), kw_only=True)
    activation: Callable = eqx.field(static=True, default=jnp.tanh, kw_only=True)
    frozen: bool = eqx.field(static=True, converter=flag("frozen"), default=False, kw_only=True)

    def __check_init__(self):
        connections(self.layers, self.skip)
        check_activation(self.activation, sorted({self.layers[layer] for layer in self.hidden}))

    @property
    def connections(self) -> tuple[tuple[int, int], ...]:
        """The pairs of layers that are connected, in the order of `Weights.forward`."""
        return connections(self.layers, self.skip)

    @property
    def hidden(self) -> range:
        """The hidden layers, counted from the input, 0."""
        return range(1, len(self.layers) - 1)

    # -- state ---------------------------------------------------------------------------------------------------------

    def init(self, start: Array | Weights) -> Weights | CircuitState:
        """From a typed key random weights, of variance one over what a neuron receives; from weights a circuit at rest."""
        if not isinstance(start, Weights):
            allowed = "a typed key such as jax.random.key(0), or the weights that `init(key)` makes"
            return random_weights(self, typed_key("start", start, allowed))
        check_weights(start, matrix_shapes(self), "start")

        def zeros(sizes):
            return tuple(jnp.zeros(size, start.forward[0].dtype) for size in sizes)

        with_errors = self.layers[1:] if self.tau_error is not None else self.layers[1:-1]
        return CircuitState(
            activities=zeros(self.layers[1:]),
            errors=zeros(with_errors),
            presynaptic=None if self.tau_presynaptic is None else zeros(self.layers[:-1]),
            eligibility=None if self.tau_eligibility is None else jax.tree.map(jnp.zeros_like, start.forward),
            weights=start,
        )

    def params(self, state):
        return state.weights

    # -- motion --------------------------------------------------------------------------------------------------------

    def drift(self, t, state, signal):
        weights, z = state.weights, (signal.x, *state.activities)
        potentials = self.potentials(weights, z)
        last = self.output_error(state, signal)
        errors = state.errors if self.tau_error is not None else (*state.errors, last)
        modulation = self.modulation(weights, errors)
        responses = [self.respond(a, m) for a, m in zip(potentials, modulation, strict=False)]  # of the hidden layers
        speed = 1 / self.tau_propagation
        targets = (*(phi for phi, _ in responses), potentials[-1])
        rates = tuple((e - old) * speed for (_, e), old in zip(responses, state.errors, strict=False))
        if self.tau_error is not None:
            rates = (*rates, (last - errors[-1]) / self.tau_error)
        presynaptic, seen = None, z
        if self.tau_presynaptic is not None:
            seen = state.presynaptic
            presynaptic = tuple((new - old) / self.tau_presynaptic for new, old in zip(z, seen, strict=False))
        traces = None
        if self.tau_eligibility is not None:
            new = self.eligible(potentials, seen)
            traces = jax.tree.map(lambda a, b: (a - b) / self.tau_eligibility, new, state.eligibility)
        return CircuitState(
            activities=tuple((new - old) * speed for new, old in zip(targets, state.activities, strict=True)),
            errors=rates,
            presynaptic=presynaptic,
            eligibility=traces,
            weights=self.plasticity(state, seen, errors, (*modulation, errors[-1])),
        )

    def potentials(self, weights: Weights, z: tuple[Array, ...]) -> list[Array]:
        """a_j = sum_i W_ij z_i for all layers but the input."""
        total: list[Any] = [None] * len(self.layers)
        for (i, j), matrix in zip(self.connections, weights.forward, strict=True):
            total[j] = plus(total[j], matrix @ z[i])
        return total[1:]

    def respond(self, potential: Array, modulation: Array) -> tuple[Array, Array]:
        """phi(a), which an activity goes to, and phi'(a) m, which an error goes to."""
        return jax.jvp(self.activation, (potential,), (modulation,))

    def eligible(self, potentials, seen) -> tuple[Array, ...]:
        """phi'(a_j) z_i^T for each connection: what its synapses could do to the neuron."""
        gains = [*(self.respond(a, jnp.ones_like(a))[1] for a in potentials[:-1]), jnp.ones_like(potentials[-1])]
        return tuple(jnp.outer(gains[j - 1], seen[i]) for i, j in self.connections)

    def output_error(self, state: CircuitState, signal: Stimulus) -> Array:
        """e_L as it acts now: y - z_L a delay ago."""
        if self.frozen:
            return jnp.zeros_like(signal.y)
        return self.delayed(state, signal) if signal.past is None else signal.past

    def delayed(self, state, signal):
        return signal.y - state.activities[-1]

    def modulation(self, weights: Weights, errors: tuple[Array, ...]) -> list[Array]:
        """m_i, what reaches the hidden layers of the errors ahead of them."""
        if self.feedback == "DFA":
            return [matrix @ errors[-1] for matrix in weights.backward or ()]
        total: list[Any] = [None] * len(self.layers)
        for (i, j), matrix in zip(self.relayed(self.connections), self.feedback_matrices(weights), strict=True):
            total[i] = plus(total[i], matrix @ errors[j - 1])
        return total[1:-1]

    def feedback_matrices(self, weights: Weights) -> tuple[Array, ...]:
        """V_ij of the connections that errors are relayed along."""
        if self.feedback != "SGD":
            return weights.backward or ()
        return tuple(w.T for w in self.relayed(weights.forward))

    def relayed(self, of_connections: Sequence) -> list:
        """Of what there is for each connection the part for those that errors go back along: not to the input."""
        return [part for (i, _), part in zip(self.connections, of_connections, strict=True) if i]

    def plasticity(self, state: CircuitState, seen, errors, modulation) -> Weights:
        """dW/dt and dV/dt from what the synapses see of activities, errors and modulation, by layers."""
        weights = state.weights
        if self.frozen:
            return jax.tree.map(jnp.zeros_like, weights)
        learn = 1 / self.tau_plasticity
        if self.tau_eligibility is None:
            drives = [jnp.outer(errors[j - 1] * learn, seen[i]) for i, j in self.connections]
        else:
            drives = [
                (modulation[j - 1] * learn)[:, None] * trace
                for (_, j), trace in zip(self.connections, state.eligibility or (), strict=True)
            ]
        forward = tuple(self.decayed(drive, w) for drive, w in zip(drives, weights.forward, strict=True))
        if self.feedback != "KP":
            return Weights(forward, jax.tree.map(jnp.zeros_like, weights.backward))
        pairs = zip(self.relayed(drives), weights.backward or (), strict=True)
        return Weights(forward, tuple(self.decayed_back(drive.T, v) for drive, v in pairs))

    def decayed(self, drive: Array, matrix: Array) -> Array:
        """The drive with the decay of a matrix W."""
        return drive if self.tau_decay is None else drive - matrix * (1 / self.tau_decay)

    def decayed_back(self, drive: Array, matrix: Array) -> Array:
        """The drive with the decay of a matrix V."""
        return self.decayed(drive, matrix)

    def diffusion(self, t, state, signal):
        if self.integration_noise is None:
            return None
        return circuit_noise(self, state)

    # -- the limit -----------------------------------------------------------------------------------------------------

    def rest(self, weights: Weights, stimulus: Stimulus) -> CircuitState:
        """The state that all but the weights goes to under a stimulus that stays, if the weights do not move."""
        check_weights(weights, matrix_shapes(self), "weights")
        return rest(self, weights, stimulus)

    def output(self, weights: Weights, x: Float[Array, " n_in"]) -> Float[Array, " n_out"]:
        """z_L at rest under the input `x`, shape `(n_out,)`."""
        target = jnp.zeros(self.layers[-1], x.dtype)
        return self.rest(weights, Stimulus(x, target)).activities[-1]

    def discrete(self, weights: Weights, stimulus: Stimulus, duration: Array | float) -> Weights:
        """One step of the discrete rule: W + (T/tau_w) (e z^T - (tau_w/tau_d) W) with all at rest, T = `duration`."""
        duration = positive("duration")(duration)
        now = Stimulus(stimulus.x, stimulus.y)
        rates = self.drift(jnp.zeros(()), self.rest(weights, now), now).weights
        return jax.tree.map(lambda w, rate: w + duration * rate, weights, rates)

    def readout(self) -> "Circuit":
        """The same circuit with its weights frozen and its errors clamped to zero, to read activities out online."""
        return dataclasses.replace(self, frozen=True)

    # -- observables ---------------------------------------------------------------------------------------------------

    def accuracy(self, X: Array | np.ndarray, Y: Array | np.ndarray) -> Accuracy:
        """The fraction of examples put right at rest, as a function of the weights.

        **Arguments:** `X`, shape `(N, n_in)`, and `Y`, shape `(N, n_out)`, or `(N,)` for a single output, as for `stimuli`.

        **Raises:** TypeError or ValueError, naming the argument.
        """
        return Accuracy(self, *check_pairs(X, Y, self.layers))

    def alignment(self, weights: Weights) -> Float[Array, " matrices"]:
        """The cosines between what carries errors back and what backpropagation would have there; 0 where one is zero.

        Layerwise: V_ij and W_ij^T, for each connection that does not start at the input. Direct: V_i and the transpose of
        the product of all weights from hidden layer i on (of their sum over paths where connections skip).
        """
        check_weights(weights, matrix_shapes(self), "weights")
        if not self.hidden:
            raise ValueError(
                f"Argument `layers` must have a hidden layer where feedback is to be aligned, but {self.layers} was given."
            )
        return alignment(self, weights)

    def check(self, params, signal):
        check_weights(params, matrix_shapes(self), "params")
        check_stimuli(signal, self.layers, params)
        warn_of_times(
            "a circuit follows its discrete rule where this is much below 1",
            ("tau_propagation", self.tau_propagation, "duration", signal.duration),
            ("duration", signal.duration, "tau_plasticity", self.tau_plasticity),
            ("tau_plasticity", self.tau_plasticity, "tau_decay", self.tau_decay),
            *((name, getattr(self, name), "duration", signal.duration) for name in FILTERS),
        )
        warn_of_times(
            "an error arrives when its own stimulus is over, and nothing is learned from it",
            ("delay", self.delay, "duration", signal.duration),
            reach=1.0,
        )

    def check_step(self, dt):
        fast = ("tau_propagation", *FILTERS)
        warn_of_times("an explicit step does not resolve it", *(("dt", dt, name, getattr(self, name)) for name in fast))

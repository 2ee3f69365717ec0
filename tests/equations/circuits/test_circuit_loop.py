"""Circuits with everything in them against a loop in plain NumPy, their accuracy, and the keys of paths."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from dynamics import solve, stimuli
from equations import AbstractCircuit, AbstractDynamics, Circuit
from equations._circuits.state import Weights
from equations._circuits.stream import AbstractStream, Stimulus

LAYERS, SKIP = (3, 4, 5, 2), ((0, 2), (1, 3))
T, STEPS, COUNT = 0.2, 8, 24
TAU_P, TAU_W, TAU_D = 0.06, 2.0, 15.0
RNG = np.random.default_rng(8)
X, Y = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
STREAM = stimuli(X, Y, duration=T, key=jax.random.key(5))


def slope(z):
    return 1 - z**2


class Loop:
    """Euler's method for a tanh circuit, one number of steps back for the error; matrices in dicts by their layers."""

    def __init__(self, rule, weights, delay, presynaptic=None, error=None, eligibility=None):
        self.rule, self.delay = rule, delay
        self.presynaptic, self.error, self.eligibility = presynaptic, error, eligibility
        pairs = [(0, 1), (1, 2), (2, 3), *SKIP]
        self.w = {pair: np.array(w) for pair, w in zip(pairs, weights.forward, strict=True)}
        back = [1, 2] if rule == "DFA" else [pair for pair in pairs if pair[0] > 0]
        self.v = {} if rule == "SGD" else {at: np.array(v) for at, v in zip(back, weights.backward, strict=True)}
        self.z = {layer: np.zeros(size) for layer, size in enumerate(LAYERS)}
        self.e = {layer: np.zeros(LAYERS[layer]) for layer in (1, 2, 3)}
        self.low = {layer: np.zeros(LAYERS[layer]) for layer in (0, 1, 2)}
        self.trace = {pair: np.zeros_like(w) for pair, w in self.w.items()}
        self.past = [np.zeros(LAYERS[-1])] * delay

    def step(self, x, y, dt):
        self.z[0] = x
        drive = {j: sum(w @ self.z[i] for (i, k), w in self.w.items() if k == j) for j in (1, 2, 3)}
        self.past.append(y - self.z[3])
        arriving = self.past.pop(0)
        if self.error is None:
            self.e[3] = arriving
        m = {3: self.e[3]}
        for layer in (1, 2):
            if self.rule == "DFA":
                m[layer] = self.v[layer] @ self.e[3]
            else:
                back = {at: w.T for at, w in self.w.items()} if self.rule == "SGD" else self.v
                m[layer] = sum(back[i, j] @ self.e[j] for i, j in self.w if i == layer)
        gain = {1: slope(np.tanh(drive[1])), 2: slope(np.tanh(drive[2])), 3: np.ones(LAYERS[-1])}
        seen = self.z if self.presynaptic is None else self.low
        if self.eligibility is None:
            learn = {(i, j): np.outer(self.e[j], seen[i]) for i, j in self.w}
        else:
            learn = {pair: np.diag(m[pair[1]]) @ trace for pair, trace in self.trace.items()}
        next_trace = self.trace
        if self.eligibility is not None:
            part = dt / self.eligibility
            next_trace = {
                (i, j): (1 - part) * old + part * np.outer(gain[j], seen[i]) for (i, j), old in self.trace.items()
            }
        if self.presynaptic is not None:
            self.low = {i: old + dt / self.presynaptic * (self.z[i] - old) for i, old in self.low.items()}
        self.trace = next_trace
        errors = {i: self.e[i] + dt / TAU_P * (gain[i] * m[i] - self.e[i]) for i in (1, 2)}
        errors[3] = self.e[3] if self.error is None else self.e[3] + dt / self.error * (arriving - self.e[3])
        self.e = errors
        goal = {1: np.tanh(drive[1]), 2: np.tanh(drive[2]), 3: drive[3]}
        self.z = {0: x, **{j: self.z[j] + dt / TAU_P * (goal[j] - self.z[j]) for j in (1, 2, 3)}}
        self.w = {pair: w + dt * (learn[pair] / TAU_W - w / TAU_D) for pair, w in self.w.items()}
        if self.rule == "KP":
            self.v = {pair: v + dt * (learn[pair].T / TAU_W - v / TAU_D) for pair, v in self.v.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "delay", "filters"),
    [
        pytest.param(  # longer than a stimulus
            "KP", 11, {"presynaptic": 0.11, "error": 0.07, "eligibility": 0.17}, marks=pytest.mark.slow
        ),
        pytest.param("DFA", 3, {"presynaptic": 0.11, "error": 0.07}, marks=pytest.mark.slow),
        ("SGD", 3, {"eligibility": 0.17}),
        pytest.param("FA", 11, {"error": 0.07}, marks=pytest.mark.slow),
        pytest.param("KP", 0, {}, marks=pytest.mark.slow),
        pytest.param("SGD", 16, {"presynaptic": 0.11, "eligibility": 0.17}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:delay / duration")
def test_a_circuit_is_its_loop(rule, delay, filters):
    times = {f"tau_{name}": tau for name, tau in filters.items()}
    circuit = Circuit(LAYERS, rule, TAU_P, TAU_W, TAU_D, delay=delay * T / STEPS, skip=SKIP, **times)
    start = circuit.init(jax.random.key(6))
    run = solve(circuit, STREAM, start, steps=COUNT, dt=T / STEPS, save_every=COUNT)
    loop = Loop(rule, start, delay, **filters)
    for example in STREAM.indices(COUNT):
        for _ in range(STEPS):
            loop.step(X[example], Y[example], T / STEPS)
    assert run.ok[0]
    first = jax.tree.leaves(start)
    for new, old, right in zip(jax.tree.leaves(run.final), first, [*loop.w.values(), *loop.v.values()], strict=True):
        np.testing.assert_allclose(new[0], right, rtol=0, atol=1e-12)
        assert rule in ("DFA", "FA") or np.max(np.abs(right - old)) > 0.05  # their V stays


# ---------------------------------------------------------------------------------------------------------------------
# Accuracy


def test_accuracy_of_several_outputs_is_that_of_the_largest():
    """At the identity the output is the input: rows right, right, wrong (the largest is another), wrong."""
    circuit = Circuit((3, 3), "SGD")
    weights = Weights((jnp.eye(3),), None)
    x = np.array([[0.2, 0.9, 0.1], [-0.1, -0.3, -0.2], [0.5, 0.4, 0.3], [0.0, 0.1, 0.2]])
    y = np.eye(3)[[1, 0, 2, 1]]
    assert float(circuit.accuracy(x, y)(weights)) == 0.5
    assert float(circuit.accuracy(x[:2], y[:2])(weights)) == 1.0
    assert float(circuit.accuracy(x[:2], 5 * y[:2] - 7)(weights)) == 1.0  # targets of any two values


def test_accuracy_of_one_output_is_about_the_middle_of_the_targets():
    circuit = Circuit((1, 1), "SGD")
    weights = Weights((jnp.eye(1),), None)
    x = np.array([[1.2], [1.8], [2.1], [3.4], [1.9]])
    y = np.array(
        [1.0, 1.0, 3.0, 3.0, 3.0]
    )  # the middle is 2, the mean 2.2: the last is wrong, and all would be above 0
    np.testing.assert_allclose(circuit.accuracy(x, y)(weights), 0.8, rtol=1e-12)
    np.testing.assert_allclose(circuit.accuracy(x - 2.5, y - 2.5)(weights), 0.8, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# What is drawn


class Driven(AbstractDynamics):
    """dX = x dt + dW."""

    def drift(self, t, state, signal):
        return signal.x + jnp.zeros_like(state)

    def diffusion(self, t, state, signal):
        return lx.IdentityLinearOperator(jax.ShapeDtypeStruct(state.shape, state.dtype))


class Quiet(Driven):
    """dX = x dt."""

    def diffusion(self, t, state, signal):
        return None


class White(AbstractStream):
    """Normal inputs, each drawn from the key of the path and its own number."""

    duration: float

    @property
    def random(self):
        return True

    def begin(self, key):
        return key

    def stimulus(self, index, carried):
        x = jax.random.normal(jax.random.fold_in(carried, index), (2,))
        return Stimulus(x, jnp.zeros(1)), carried


@pytest.mark.slow
def test_noise_is_independent_of_stimuli_paths_and_what_was_before():
    """Increments over stimuli: correlations within 4 standard errors of 0, where equal draws would have 1."""
    arguments = {"steps": 200, "dt": 0.5, "paths": 3, "key": jax.random.key(2), "keep_states": True}
    together, shown = (
        np.diff(np.asarray(solve(kind, White(1.0), np.zeros(2), **arguments).states), axis=1)
        for kind in (Driven(), Quiet())
    )
    noise = together - shown  # (paths, stimuli, 2)
    for values in (noise, shown):
        assert abs(np.var(values) - 1) < 4 * (2 / values.size) ** 0.5
    pairs = {
        "stimuli": (noise, shown),
        "the noise before": (noise[:, 1:], noise[:, :-1]),
        "another path's noise": (noise[0], noise[1]),
        "the other coordinate": (noise[..., 0], noise[..., 1]),
        "another path's stimuli": (shown[0], shown[1]),
    }
    for name, (a, b) in pairs.items():
        correlation, error = np.mean(a * b), a.size**-0.5
        print(f"correlation with {name}: {correlation:.3f} +- {error:.3f}")
        assert abs(correlation) < 4 * error


class Cut(Driven, AbstractCircuit):
    """dX = t dt + dW, in pieces between which a delay ends that nothing follows from."""

    delay: float = eqx.field(static=True)

    def drift(self, t, state, signal):
        return t + jnp.zeros_like(state)

    def delayed(self, state, signal):
        return state


@pytest.mark.slow
def test_time_and_noise_go_on_from_piece_to_piece():
    """In pieces of 2, 2 and 1 of the 5 steps of a stimulus the noise is that of a whole stimulus, and t dt adds up."""
    stream = stimuli(np.zeros((1, 2)), np.zeros(1), duration=1.0, order=np.zeros(1, int))
    noise, found = (
        np.asarray(solve(kind, stream, np.zeros(2), steps=6, dt=0.2, key=jax.random.key(2), keep_states=True).states[0])
        for kind in (Driven(), Cut(0.4))
    )
    step = 5 * np.arange(7)[:, None]
    np.testing.assert_allclose(found - noise, 0.2**2 * step * (step - 1) / 2 + np.zeros(2), rtol=0, atol=1e-12)
    assert np.all(np.abs(np.diff(noise, axis=0)) > 1e-3)


@pytest.mark.slow
def test_initial_weights_are_independent_and_of_unit_gain():
    """Each matrix has variance one over what it is applied to, and none is drawn with the numbers of another."""
    circuit = Circuit((60, 40, 40, 40, 10), "KP", skip=((0, 3),))
    matrices = jax.tree.leaves(circuit.init(jax.random.key(4)))
    for matrix in matrices:
        assert abs(np.mean(np.square(matrix)) * matrix.shape[1] - 1) < 4 * (2 / matrix.size) ** 0.5
    for place, a in enumerate(matrices):
        for b in matrices[:place]:
            assert a.shape != b.shape or abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 * a.size**-0.5

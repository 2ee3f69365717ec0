"""Streams of stimuli: what follows what, inputs that switch, delays on the grid, and arguments that are refused."""

import warnings

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics._integrate
from dynamics import Strang, solve, stationary, stimuli
from dynamics._paths.stream_path import _Arriving
from equations import (
    SGD,
    AbstractCircuit,
    AbstractDynamics,
    Circuit,
    DirectFeedbackAlignment,
    Objective,
    Stimulus,
    random_feedback,
)
from equations._circuits.state import Weights

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(7, 2))
Y = np.arange(7.0)


class Echo(AbstractDynamics):
    """dX = x dt: after a stimulus of duration 1 it has grown by its input."""

    def drift(self, t, state, signal):
        return signal.x + jnp.zeros_like(state)


class Late(AbstractCircuit):
    """dX/dt = x - X(t - delay), X = 0 before the start."""

    delay: float = eqx.field(static=True)

    def drift(self, t, state, signal):
        return signal.x - signal.past

    def delayed(self, state, signal):
        return state


def states(dynamics, stream, steps, dt, **arguments):
    run = solve(dynamics, stream, np.zeros(2), steps=steps, dt=dt, keep_states=True, **arguments)
    assert run.ok.all()
    return np.asarray(run.states)


# ---------------------------------------------------------------------------------------------------------------------
# What follows what


@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, dfx.Tsit5()])
def test_a_stimulus_is_held_and_no_stage_sees_the_next(solver):
    stream = stimuli(X, Y, duration=1.0, key=KEY)
    found = states(Echo(), stream, 9, 0.25, solver=solver, paths=2)
    right = np.cumsum(np.concatenate([np.zeros((1, 2)), X[stream.indices(9)]]), axis=0)
    for path in found:
        np.testing.assert_allclose(path, right, atol=1e-13)


@pytest.mark.slow
def test_without_a_key_each_path_has_stimuli_of_its_own():
    found = np.diff(states(Echo(), stimuli(X, Y, duration=1.0), 40, 0.5, paths=3, key=KEY), axis=1)
    shown = np.argmin(np.sum((found[:, :, None] - X) ** 2, axis=-1), axis=-1)
    np.testing.assert_allclose(found, X[shown], atol=1e-12)
    assert len({tuple(row) for row in shown}) == 3 and set(shown.ravel()) == set(range(7))


@pytest.mark.slow
def test_shuffled_epochs_and_given_orders():
    stream = stimuli(X, Y, duration=1.0, key=KEY, sampling="shuffled")
    shown = np.asarray(stream.indices(21)).reshape(3, 7)
    np.testing.assert_array_equal(np.sort(shown), np.tile(np.arange(7), (3, 1)))
    assert len({tuple(row) for row in shown}) == 3
    found = np.diff(states(Echo(), stream, 21, 0.5)[0], axis=0)
    np.testing.assert_allclose(found, X[shown.ravel()], atol=1e-12)
    given = stimuli(X, Y, duration=1.0, order=np.array([2, 2, 5]))
    np.testing.assert_array_equal(given.indices(7), [2, 2, 5, 2, 2, 5, 2])


@pytest.mark.slow
def test_time_is_stimuli_times_duration():
    stream = stimuli(X, Y, duration=0.05, key=KEY)
    by_time = solve(Echo(), stream, np.zeros(2), time=0.6, dt=0.01, save_every=3)
    by_steps = solve(Echo(), stream, np.zeros(2), steps=12, dt=0.01, save_every=3)
    np.testing.assert_array_equal(by_time.steps, [0, 3, 6, 9, 12])
    np.testing.assert_allclose(by_time.times, [0, 0.15, 0.3, 0.45, 0.6])
    np.testing.assert_array_equal(by_time.final, by_steps.final)
    without = solve(Still(), None, np.ones(2), time=0.6, dt=0.05)  # no stream: `dt` is the step
    assert without.steps[-1] == 12 and np.isclose(without.times[-1], 0.6)


class Still(AbstractDynamics):
    def drift(self, t, state, signal):
        return jnp.zeros_like(state)


@pytest.mark.slow
def test_replicas_with_weights_and_stimuli_of_their_own():
    circuit = Circuit((2, 3, 1), "KP", 0.1, 10.0)

    def replica(key):
        stream = stimuli(X, Y, duration=1.0)
        return solve(circuit, stream, circuit.init(key), steps=5, dt=0.05, save_every=5, key=key).final

    keys = jax.random.split(KEY, 3)
    together = jax.jit(jax.vmap(replica))(keys)
    alone = jax.jit(replica)(keys[1])
    for many, one in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(many[1], one, rtol=1e-12)
        assert not np.allclose(many[0], many[1])


# ---------------------------------------------------------------------------------------------------------------------
# Delays


def ring(stream, stimulus_steps, delay_steps, count):
    """Euler's method with a list of all the past."""
    dt, past = 1 / stimulus_steps, [np.zeros(2)] * (delay_steps + 1)
    for example in stream.indices(count):
        for _ in range(stimulus_steps):
            past.append(past[-1] + dt * (X[example] - past[-1 - delay_steps]))
    return past[delay_steps::stimulus_steps]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stimulus_steps", "delay_steps"), [(5, 2), pytest.param(4, 4, marks=pytest.mark.slow), (4, 7)]
)
def test_delays_are_exact_on_the_grid(stimulus_steps, delay_steps):
    stream = stimuli(X, Y, duration=1.0, key=KEY)
    found = states(Late(delay_steps / stimulus_steps), stream, 12, 1 / stimulus_steps)[0]
    np.testing.assert_allclose(found, ring(stream, stimulus_steps, delay_steps, 12)[: 12 + 1], atol=1e-13)


@pytest.mark.slow
def test_a_solver_of_second_order_keeps_its_order_with_a_delay():
    stream = stimuli(X, Y, duration=1.0, key=KEY)
    ends = [states(Late(1.4), stream, 6, 1 / n, solver=dfx.Heun())[0, -1] for n in (20, 40, 320)]
    errors = [np.linalg.norm(end - ends[-1]) for end in ends[:-1]]
    print(f"errors of Heun {errors}, ratio {errors[0] / errors[1]:.2f}")
    assert 3.6 < errors[0] / errors[1] < 4.5


def test_what_is_late_is_interpolated_within_a_step():
    """Between both ends of a step, which a jump tears from those of its neighbors; a stage at the very end is in it."""
    left, right = jnp.array([0.0, 2.0, 5.0]), jnp.array([2.0, 4.0, 7.0])
    late = _Arriving(Stimulus(jnp.zeros(2), jnp.zeros(1)), jnp.array(4), jnp.array(3), left, right)
    found = [float(late(jnp.asarray(tau)).past) for tau in (4.0, 4.5, 5.75, 6.0, 6.25, 7.0)]
    np.testing.assert_allclose(found, [0.0, 1.0, 3.5, 5.0, 5.5, 7.0])


@pytest.mark.slow
def test_a_path_that_diverges_is_flagged_alone():
    x = np.array(X)
    x[3] = 1e200
    stream = stimuli(x, Y, duration=1.0)
    run = solve(Echo(), stream, np.zeros(2), steps=6, dt=0.5, paths=8, key=KEY, observe={"state": lambda w: w})
    found = np.asarray(run.observables["state"])
    assert 0 < run.ok.sum() < 8 and np.all(np.abs(found) < 1e100)
    np.testing.assert_array_equal(run.failed_at >= 0, ~run.ok)
    for path in np.flatnonzero(~run.ok):  # it stays where it was before
        np.testing.assert_array_equal(found[path, run.failed_at[path] - 1], found[path, -1])
        assert 1 <= run.failed_at[path] <= 6


# ---------------------------------------------------------------------------------------------------------------------
# Refused


@pytest.fixture
def nothing_compiled(monkeypatch):
    monkeypatch.setattr(dynamics._integrate, "_ensemble", None)


GOOD = Circuit((2, 3, 1), "KP")
STREAM = stimuli(X, Y, duration=0.05, key=KEY)


def refused(error, *words, circuit=GOOD, stream=STREAM, weights=None, **changes):
    arguments = {"time": 0.5, "dt": 1e-3} | changes
    with pytest.raises(error) as found, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        solve(circuit, stream, circuit.init(KEY) if weights is None else weights, **arguments)
    message = str(found.value)
    assert all(word in message for word in words), message


def test_steps_and_times_refused(nothing_compiled):
    refused(ValueError, "`time`", "None where `steps` is given", steps=10)
    refused(ValueError, "`steps`", "`time`", "neither", time=None)
    refused(ValueError, "`time`", "multiple of 0.05", "0.51", time=0.51)
    refused(ValueError, "`time`", "positive", "-1", time=-1.0)
    refused(ValueError, "`dt`", "seconds", "Circuit", dt=None)
    refused(ValueError, "`dt`", "stimulus would be shorter than a step", "0.1", dt=0.1)
    refused(ValueError, "`dt`", "divide", "0.05", "0.003", dt=3e-3)
    refused(ValueError, "`substeps`", "must be 1", "2", substeps=2)
    refused(ValueError, "`save_every`", "divide", "3", save_every=3)
    refused(
        ValueError, "`delay`", "multiple of the step `dt`, 0.001", "0.02 or 0.021", "0.0205", circuit=delayed(0.0205)
    )
    refused(ValueError, "`stepsize_controller`", "stream", stepsize_controller=dfx.PIDController(1e-3, 1e-3))
    refused(ValueError, "`solver`", "Euler", "Strang", solver=Strang())
    noisy = Circuit((2, 3, 1), "KP", integration_noise=0.1)
    refused(ValueError, "`solver`", "must be diffrax.Euler()", "Heun", solver=dfx.Heun(), circuit=noisy)
    refused(ValueError, "`key`", stream=stimuli(X, Y, duration=0.05))
    with pytest.raises(ValueError, match="`time` must be None for SGD"):
        solve(SGD(0.1), Objective(lambda w, example: jnp.sum(w), X), np.zeros(2), time=1.0)
    with pytest.raises(TypeError, match="`objective`"):
        solve(SGD(0.1), STREAM, np.zeros(2), steps=1)


def delayed(seconds):
    return Circuit((2, 3, 1), "KP", delay=seconds)


def test_shapes_refused(nothing_compiled):
    refused(TypeError, "`objective`", "stream", stream=Objective(lambda w, example: jnp.sum(w), X))
    refused(ValueError, "`X`", "(N, 3)", "(2,)", circuit=Circuit((3, 3, 1), "KP"))
    refused(ValueError, "`Y`", "(N, 2)", "(1,)", circuit=Circuit((2, 3, 2), "KP"))
    refused(TypeError, "`X`", "float64", "float32", stream=stimuli(X.astype(np.float32), Y, duration=0.05, key=KEY))
    good = GOOD.init(KEY)
    refused(TypeError, "`params`", "init(key)", weights=np.zeros(3))
    wrong = Weights(good.forward, (good.backward[0].T,))
    refused(ValueError, "`params`", "`backward`", "[(3, 1)]", "[(1, 3)]", weights=wrong)
    refused(ValueError, "`params`", "`backward`", "None", circuit=Circuit((2, 3, 1), "SGD"), weights=good)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"feedback": "FB"}, ("`feedback`", "'SGD', 'FA', 'DFA', 'KP'", "'FB'")),
        ({"tau_propagation": 0.0}, ("`tau_propagation`", "positive", "0.0")),
        ({"tau_plasticity": -1.0}, ("`tau_plasticity`", "positive", "-1.0")),
        ({"tau_decay": 0}, ("`tau_decay`", "positive", "0")),
        ({"tau_error": np.inf}, ("`tau_error`", "positive", "inf")),
        ({"tau_presynaptic": 0.0}, ("`tau_presynaptic`", "positive")),
        ({"tau_eligibility": 0.0}, ("`tau_eligibility`", "positive")),
        ({"delay": -0.1}, ("`delay`", "zero or more", "-0.1")),
        ({"integration_noise": -1.0}, ("`integration_noise`", "zero or more", "-1.0")),
        ({"layers": (3,)}, ("`layers`", "two or more", "(3,)")),
        ({"layers": (3, 0, 1)}, ("`layers[1]`", "at least 1", "0")),
        ({"skip": ((0, 1),)}, ("`skip`", "i + 1 < j", "((0, 1),)")),
        ({"skip": ((0, 2), (0, 2))}, ("`skip`", "each once")),
        ({"skip": (0, 2)}, ("`skip`", "pairs", "(0, 2)")),
        ({"skip": 3}, ("`skip`", "pairs", "3")),
    ],
)
def test_fields_of_a_circuit_refused(fields, words):
    with pytest.raises(ValueError) as found:
        Circuit(**{"layers": (2, 3, 1), "feedback": "KP"} | fields)
    assert all(word in str(found.value) for word in words), found.value


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"X": X[:, 0]}, ("`X`", "(N, n_in)", "(7,)")),
        ({"Y": Y[:5]}, ("`Y`", "N = 7", "(5,)")),
        ({"X": X.astype(int)}, ("`X`", "floating-point")),
        ({"X": np.nan * X}, ("`X`", "finite")),
        ({"Y": [1.0] * 7}, ("`Y`", "arrays")),
        ({"Y": 1j * Y}, ("`Y`", "real numbers", "complex128")),
        ({"Y": np.array(["a"] * 7)}, ("`Y`", "numbers")),
        ({"duration": 0.0}, ("`duration`", "positive", "0.0")),
        ({"sampling": "sorted"}, ("`sampling`", "'with_replacement', 'shuffled'", "'sorted'")),
        ({"order": np.array([0, 7]), "key": None}, ("`order`", "N = 7")),
        ({"order": np.array([0.5]), "key": None}, ("`order`", "integers")),
        ({"order": np.array([0, 1])}, ("`key`", "left out where `order` is given")),
        ({"order": np.array([0, 1]), "key": None, "sampling": "shuffled"}, ("`sampling`", "`order`", "'shuffled'")),
        ({"key": 3}, ("`key`", "3")),
    ],
)
def test_stimuli_refused(arguments, words):
    with pytest.raises((ValueError, TypeError)) as found:
        stimuli(**{"X": X, "Y": Y, "duration": 0.05, "key": KEY} | arguments)
    assert all(word in str(found.value) for word in words), found.value


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_integer_targets_are_numbers_of_the_dtype_of_the_inputs(dtype):
    x, labels = X.astype(dtype), np.arange(7) % 2
    for targets in (labels, labels.astype(np.uint8), labels == 1, jnp.asarray(labels)):
        stream, right = stimuli(x, targets, duration=0.05, key=KEY), GOOD.accuracy(x, targets)
        for y in (stream.y, right.y):
            assert y.dtype == dtype
            np.testing.assert_array_equal(y[:, 0], labels)
    weights = jax.tree.map(lambda w: w.astype(dtype), GOOD.init(KEY))
    GOOD.check(weights, stream)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tau_propagation": 0.1}, "tau_propagation / duration is 2"),
        ({"tau_plasticity": 0.02}, "duration / tau_plasticity is 2.5"),
        ({"tau_plasticity": 2.0, "tau_decay": 0.5}, "tau_plasticity / tau_decay is 4"),
        ({"tau_propagation": 4e-4}, "dt / tau_propagation is 2.5"),
        ({"tau_error": 5e-4}, "dt / tau_error is 2"),
        ({"delay": 0.05}, "delay / duration is 1: an error arrives when its own stimulus is over"),
        ({"delay": 0.07}, "delay / duration is 1.4"),
        ({"tau_error": 0.1}, "tau_error / duration is 2"),
        ({"tau_presynaptic": 0.15}, "tau_presynaptic / duration is 3"),
        ({"tau_eligibility": 0.2}, "tau_eligibility / duration is 4"),
    ],
)
def test_times_in_the_wrong_order_are_warned_of(fields, words, nothing_compiled):
    circuit = Circuit((2, 3, 1), "KP", **fields)
    with pytest.warns(UserWarning, match=words), pytest.raises(TypeError):
        solve(circuit, STREAM, circuit.init(KEY), time=0.5, dt=1e-3)


def test_times_in_the_right_order_are_not_warned_of():
    times = {"tau_error": 0.02, "tau_presynaptic": 0.02, "tau_eligibility": 0.02, "delay": 0.049}
    circuit = Circuit((2, 3, 1), "KP", tau_decay=500.0, **times)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        circuit.check(circuit.init(KEY), STREAM)
        circuit.check_step(1e-3)


HELD = Stimulus(jnp.ones(2), jnp.ones(1))
FOUR = Circuit((2, 3, 4), "FA")
NET = eqx.nn.MLP(2, 1, 3, 2, key=KEY)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: GOOD.init(3), ("`start`", "typed key", "3")),
        (lambda: GOOD.init(None), ("`start`", "typed key", "None")),
        (lambda: GOOD.init(jax.random.PRNGKey(0)), ("`start`", "typed key", "uint32")),
        (lambda: GOOD.init(FOUR.init(KEY)), ("`start`", "`forward`", "(1, 3)", "(4, 3)")),
        (lambda: GOOD.alignment(FOUR.init(KEY)), ("`weights`", "`forward`", "(1, 3)", "(4, 3)")),
        (lambda: GOOD.output(FOUR.init(KEY), HELD.x), ("`weights`", "`forward`")),
        (lambda: Circuit((2, 1)).alignment(Circuit((2, 1)).init(KEY)), ("`layers`", "a hidden layer", "(2, 1)")),
        (lambda: GOOD.discrete(GOOD.init(KEY), HELD, duration=-1.0), ("`duration`", "positive", "-1.0")),
        (lambda: Circuit((2, 3, 1), activation=np.tanh), ("`activation`", "JAX differentiates", "tanh")),
        (lambda: Circuit((2, 3, 1), activation=jnp.sum), ("`activation`", "shape", "(3,)", "()")),
        (lambda: Circuit((2, 3, 1), activation=3), ("`activation`", "function", "3")),
        (lambda: Circuit(np.ones((2, 2), int)), ("`layers`", "two or more layers")),
        (lambda: Circuit(np.array([2.0, 1.0])), ("`layers[0]`", "integer", "2.0")),
        (lambda: stationary(GOOD, STREAM, GOOD.init(KEY)), ("`objective`", "must not be a stream of stimuli")),
        (lambda: GOOD.accuracy(np.ones((7, 3)), Y), ("`X`", "(N, 2)", "(7, 3)")),
        (lambda: GOOD.accuracy(np.ones((1, 1)), Y), ("`X`", "(N, 2)", "(1, 1)")),
        (lambda: GOOD.accuracy(X[:0], Y[:0]), ("`X`", "at least one example")),
        (lambda: GOOD.accuracy(X.astype(int), Y), ("`X`", "floating-point", "int64")),
        (lambda: GOOD.accuracy(X, np.ones((1, 1))), ("`Y`", "(N, 1) or (N,) with N = 7", "(1, 1)")),
        (lambda: GOOD.accuracy(X, np.array(["a"] * 7)), ("`Y`", "numbers")),
        (lambda: FOUR.accuracy(X, np.arange(7) % 4), ("`Y`", "(N, 4) with N = 7", "(7,)")),
        (lambda: FOUR.accuracy(X, np.ones((7, 1))), ("`Y`", "(N, 4)", "(7, 1)")),
        (
            lambda: DirectFeedbackAlignment(error, (X, Y), random_feedback(NET, KEY, direct=True)).feedback_angles(NET),
            ("`params`", "layerwise feedback", "DirectFeedbackAlignment"),
        ),
    ],
)
def test_what_is_asked_of_a_circuit_refused(call, words):
    with pytest.raises((ValueError, TypeError)) as found:
        call()
    assert all(word in str(found.value) for word in words), found.value


def error(net, example):
    return jnp.sum((net(example[0]) - example[1]) ** 2)


def test_layers_may_be_an_array():
    assert Circuit(np.array([2, 3, 1])).layers == Circuit(jnp.array([2, 3, 1])).layers == (2, 3, 1)

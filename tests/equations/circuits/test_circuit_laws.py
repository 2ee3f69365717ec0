"""What delays, filters, depth and slow plasticity do to learning in a circuit, against laws in closed form."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from circuits import WIDTH, circles, orthogonal, overlaps, triangle

from dynamics import solve, stimuli
from equations import Circuit, Stimulus
from equations._circuits.checks import delay_time

pytestmark = pytest.mark.filterwarnings("ignore:delay / duration")

NOTHING, SOMETHING = np.zeros((WIDTH, WIDTH)), orthogonal(9)


def linear(depth, kind=Circuit, **fields):
    """A linear circuit of square layers under stimuli of duration 1 that hardly learns."""
    times = {"tau_propagation": 2e-3, "tau_plasticity": 1e6}
    return kind((WIDTH,) * (depth + 1), "SGD", **(times | fields), activation=identity)


def identity(a):
    return a


# ---------------------------------------------------------------------------------------------------------------------
# A delayed error


class DelayedInput(Circuit):
    """The presynaptic factor is delayed in place of the error; for a single layer."""

    def delayed(self, state, signal):
        return signal.x

    def drift(self, t, state, signal):
        now = Stimulus(signal.x, signal.y)
        rates = super().drift(t, state, now)
        error = signal.y - state.activities[-1]
        drive = (jnp.outer(error, signal.past) / self.tau_plasticity,)
        return eqx.tree_at(lambda tree: tree.weights.forward, rates, drive)

    def output_error(self, state, signal):
        return signal.y - state.activities[-1]


class PreviousError(Circuit):
    """The error of the stimulus before, of duration 1, is used: it comes a stimulus later than `delay` says."""

    delay: float = eqx.field(static=True, converter=lambda value: delay_time(value) + 1.0, default=0.0)


def check_delay(delay):
    """A stimulus learns from its own error for T - delay, and from the error of the one before for the delay."""
    circuit = linear(1, delay=delay)
    (own,), (before,) = (overlaps(circuit, NOTHING, 500, shift) for shift in (0, 1))
    print(
        f"delay {delay} T: own error {own:.4f} ({triangle(delay):.4f}), the last {before:.4f} ({triangle(1 - delay):.4f})"
    )
    assert abs(own - triangle(delay)) < 0.02 * triangle(delay) + 1e-5
    assert abs(before - triangle(1 - delay)) < 0.02


@pytest.mark.slow
def test_delay():
    check_delay(0.4)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 0.2, 0.6, 0.8, 1.0, 1.2, 1.6, 2.0, 2.5])
def test_other_delays(delay):
    check_delay(delay)


@pytest.mark.slow
def test_a_delayed_input_is_seen_in_a_correlated_sequence():
    """It has the same overlap with its own error: only what the last error teaches tells it apart."""
    own, before = (overlaps(linear(1, DelayedInput, delay=0.4), NOTHING, 500, shift)[0] for shift in (0, 1))
    print(f"DelayedInput: own error {own:.4f}, as right; the last error {before:.4f}, not 0.4")
    assert abs(own - 0.6) < 0.01
    assert abs(before - 0.4) > 0.3


@pytest.mark.slow
def test_the_error_of_the_previous_stimulus_is_seen():
    own, before = (overlaps(linear(1, PreviousError), NOTHING, 500, shift)[0] for shift in (0, 1))
    print(f"PreviousError: own error {own:.1e}, not 1; the last error {before:.4f}, not 0")
    assert abs(own) < 1e-5
    assert abs(before - 1) < 0.02


# ---------------------------------------------------------------------------------------------------------------------
# Filters and depth


def low_passed(delay, presynaptic, error):
    """The integral of k(s) (1 - |s + delay|)_+ with k the density of the difference of two exponential lags."""
    s = (np.arange(-150_000, 150_000) + 0.5) * 1e-4
    lag = np.where(s > 0, error, presynaptic)
    kernel = np.exp(-np.abs(s) / np.maximum(lag, 1e-9)) * (lag > 0) / (presynaptic + error)
    return np.sum(kernel * triangle(s + delay)) * (s[1] - s[0])


FILTERS = [(0.2, 0.1, 0.3), (0.4, None, 0.2), (0.4, 0.2, None), (1.2, 0.3, 0.1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("delay", "presynaptic", "error"), [FILTERS[0], *(pytest.param(*f, marks=pytest.mark.slow) for f in FILTERS[1:])]
)
def test_low_pass_filters(delay, presynaptic, error):
    circuit = linear(1, delay=delay, tau_presynaptic=presynaptic, tau_error=error)
    (found,) = overlaps(circuit, NOTHING, 500)
    right = low_passed(delay, presynaptic or 0, error or 0)
    print(f"delay {delay}, tau_presynaptic {presynaptic}, tau_error {error}: {found:.4f}, predicted {right:.4f}")
    assert abs(found / right - 1) < 0.03
    if presynaptic is None:
        assert abs(right - (1 - delay - error * (1 - np.exp(-(1 - delay) / error)))) < 1e-4


@pytest.mark.slow
def test_an_eligibility_trace_is_a_low_passed_input_to_a_linear_neuron():
    found, right = (
        overlaps(linear(1, delay=0.4, **{name: 0.2}), NOTHING, 500)[0]
        for name in ("tau_eligibility", "tau_presynaptic")
    )
    print(f"delay 0.4, trace {found:.4f}, low-passed input {right:.4f}, neither 0.6")
    np.testing.assert_allclose(found, right, rtol=1e-9)
    assert found > 0.7  # a trace makes up for a delay


def lagged(stages_error, stages_input, tau):
    """The overlap of a box after so many exponential stages with one after so many others, by quadrature."""
    u = tau / 40 * (0.5 + np.arange(800))

    def lags(stages):
        if not stages:
            return np.zeros(1), np.ones(1)
        density = u ** (stages - 1) * np.exp(-u / tau)
        return u, density / density.sum()

    (a, p), (b, q) = lags(stages_error), lags(stages_input)
    return float(p @ triangle(a[:, None] - b[None]) @ q)


@pytest.mark.parametrize(
    ("tau", "steps"), [(0.01, 200), pytest.param(0.08, 400, marks=pytest.mark.slow)]
)  # in T; 0.08 is 4 ms of 50 ms
def test_the_lag_of_depth(tau, steps):
    circuit = linear(3, tau_propagation=tau, tau_error=tau)
    output = overlaps(circuit, NOTHING, steps)
    for layer, found in enumerate(output, start=1):
        right, lag = lagged(7 - layer, layer - 1, tau), 1 - (2 * (3 - layer) + 2) * tau
        print(f"tau {tau} T, output part, layer {layer}: {found:.4f}; stages {right:.4f}, 1 - lag/T {lag:.4f}")
        assert abs(found / right - 1) < 0.03
        if tau == 0.01:
            assert abs(found / lag - 1) < 0.03


def test_the_label_part_lags_less():
    """What comes from the target alone, by linearity: of the lags of input and error only the difference counts."""
    tau = 0.01
    circuit = linear(3, tau_propagation=tau, tau_error=tau)
    whole, output = (overlaps(circuit, targets, 200, parts=True) for targets in (SOMETHING, NOTHING))
    for layer, ((w, change), (o, without)) in enumerate(zip(whole, output, strict=True), start=1):
        label = w - o
        found = np.sum((change - without) * label) / np.sum(label**2)
        right, lag = lagged(4 - layer, layer - 1, tau), 1 - abs(3 - 2 * layer + 2) * tau
        print(f"label part, layer {layer}: {found:.4f}; stages {right:.4f}, 1 - lag/T {lag:.4f}")
        assert abs(found / right - 1) < 0.01 and abs(found / lag - 1) < 0.03


def routes(circuit, start, end):
    """The numbers of connections on all ways from one layer to another."""
    if start == end:
        return [0]
    return [1 + rest for i, j in circuit.connections if i == start for rest in routes(circuit, j, end)]


def over_routes(circuit, tau):
    """What of its own error each connection learns, by quadrature: the mean over the ways of input, output and error.

    Of a chain of single linear neurons with weights 1, in which all ways count the same; the target is 0.
    """
    depth, direct = len(circuit.layers) - 1, circuit.feedback == "DFA"
    out, result = routes(circuit, 0, depth), []
    for i, j in circuit.connections:
        back = [int(j < depth)] if direct else routes(circuit, j, depth)
        parts = [lagged(a + b, c, tau) for a in out for b in back for c in routes(circuit, 0, i)]
        result.append(np.mean(parts))
    return np.array(result)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["SGD", "FA", "DFA", "KP"])
def test_skip_connections_shorten_the_lag_of_depth(rule):
    """The first of five layers learns .55 of what it should; with connections that skip one layer each, .66."""
    depth, tau = 5, 0.05
    times = {"tau_propagation": tau, "tau_plasticity": 1e6, "activation": identity}
    chain = (1,) * (depth + 1)
    circuit = Circuit(chain, rule, skip=tuple((i, i + 2) for i in range(depth - 1)), **times)
    weights = jax.tree.map(jnp.ones_like, circuit.init(jax.random.key(0)))
    # A stimulus and twice nothing: all that the one leaves behind is its own.
    stream = stimuli(np.eye(2)[:, :1], np.zeros(2), duration=1.0, order=np.array([0, 1, 1]))
    end = solve(circuit, stream, weights, steps=3, dt=1 / 400, save_every=3).final.forward
    whole = circuit.discrete(weights, Stimulus(jnp.ones(1), jnp.zeros(1)), 1.0).forward
    found = np.array([(a[0, 0, 0] - 1) / (b[0, 0] - 1) for a, b in zip(end, whole, strict=True)])
    right, without = over_routes(circuit, tau), over_routes(Circuit(chain, rule, **times), tau)
    print(f"{rule}, tau {tau} T: {found.round(3)}; routes {right.round(3)}, without skips {without.round(3)}")
    np.testing.assert_allclose(found, right, rtol=0.01)
    assert np.all(found[:depth] > 1.01 * without)


# ---------------------------------------------------------------------------------------------------------------------
# Random stimuli


def whitened(count, width, seed):
    """Inputs of mean zero and unit covariance, exactly."""
    x = np.random.default_rng(seed).normal(size=(count, width))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / count)).T


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2])
def test_the_rate_of_learning_falls_with_the_delay(delay):
    """One linear neuron on independent inputs: it learns at (1 - delay/T)/tau_plasticity, with noise beside it."""
    width, stimuli_count, replicas = 5, 300, 4000
    x = whitened(20_000, width, 0)
    target = np.random.default_rng(1).normal(size=width)
    circuit = Circuit((width, 1), "SGD", 0.01, 1000.0, delay=delay)
    weights = jax.tree.map(jnp.zeros_like, circuit.init(jax.random.key(0)))
    stream = stimuli(x, x @ target, duration=1.0)
    run = solve(
        circuit,
        stream,
        weights,
        steps=stimuli_count,
        dt=0.01,
        save_every=stimuli_count,
        key=jax.random.key(2),
        paths=replicas,
    )
    along = np.asarray(run.final.forward[0][:, 0] @ target) / np.sum(target**2)
    mean, error = along.mean(), along.std(ddof=1) / replicas**0.5
    scale = 1000 / stimuli_count
    rate, error = -np.log(1 - mean) * scale, error / (1 - mean) * scale
    right = triangle(delay)
    print(f"delay {delay} T: rate {rate:.4f} +- {error:.4f}, 1 - delay/T = {right:.4f}")
    assert run.ok.all()
    assert abs(rate / right - 1) < 0.02 if right else abs(rate) < 4 * error
    assert error < 0.02 * max(right, 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("plasticity", [1, 3, 10, 30, 100])
def test_the_excess_error_of_fast_plasticity(plasticity):
    """mu = 1 - exp(-T/tau) at unit inputs; label noise sigma leaves sigma^2 mu/(2 - mu) in every weight."""
    width, sigma, replicas, count = 20, 0.5, 400, 50_000
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, width))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    noise = sigma * rng.normal(size=count)
    noise -= x @ np.linalg.lstsq(x, noise, rcond=None)[0]  # so that the finite sample has its optimum at the target
    target = rng.normal(size=width)
    circuit = Circuit((width, 1), "SGD", 0.005, float(plasticity))
    weights = jax.tree.map(lambda leaf: jnp.asarray(target)[None], circuit.init(jax.random.key(0)))
    mu = 1 - np.exp(-1 / plasticity)
    steps = int(np.ceil(6 * width / (2 * mu)))
    stream = stimuli(x, x @ target + noise, duration=1.0)
    run = solve(
        circuit, stream, weights, steps=steps, dt=0.0025, save_every=steps, key=jax.random.key(1), paths=replicas
    )
    excess = np.mean((np.asarray(run.final.forward[0][:, 0]) - target) ** 2, axis=1)
    mean, error, right = excess.mean(), excess.std(ddof=1) / replicas**0.5, sigma**2 * mu / (2 - mu)
    right *= 1 - (1 - mu * (2 - mu) / width) ** steps  # it starts at the target
    wrong = sigma**2 / plasticity / 2
    print(f"tau_plasticity {plasticity} T: {mean:.5f} +- {error:.5f}, predicted {right:.5f} (mu = T/tau: {wrong:.5f})")
    assert run.ok.all() and abs(mean - right) < 4 * error and error < 0.05 * right


def learned(circuit, time, dt):
    """Accuracy on the circles, 0 where a circuit diverged, and alignment, in the end; three seeds in one jit, float32."""
    x, y = circles()
    accuracy, stream = circuit.accuracy(x, y), stimuli(x, y, duration=50e-3)

    def one(key):
        with jax.numpy_dtype_promotion("standard"):
            weights = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), circuit.init(key))
        run = solve(circuit, stream, weights, time=time, dt=dt, save_every=round(time / 50e-3), key=key)
        last = jax.tree.map(lambda leaf: leaf[0], run.final)
        return jnp.where(run.ok[0], accuracy(last), 0.0), circuit.alignment(last)

    scores, alignment = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 3))
    return np.asarray(scores), np.asarray(alignment)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["SGD", "FA", "DFA", "KP"])
def test_circles(rule):
    """Above 98 % without a delay, failing before the delay is as long as a stimulus."""
    found = {}
    for delay in (0.0, 0.02, 0.03, 0.04, 0.045):
        circuit = Circuit((3, 24, 24, 1), rule, 1e-3, 2.5, 500.0, delay=delay)
        found[delay], alignment = learned(circuit, 600.0, 1e-3)
        print(f"{rule}, delay {delay * 1e3:g} ms: accuracy {found[delay]}, alignment {alignment.mean(0)}")
    assert np.all(found[0.0] > 0.98) and np.all(found[0.02] > 0.98)
    assert np.mean(found[0.045]) < 0.7


@pytest.mark.slow
def test_a_deep_circuit_needs_connections_that_skip():
    """Five hidden layers at tau_propagation = .1 T, where all the lags together are as long as a stimulus."""
    deep = Circuit((3, 12, 12, 12, 12, 12, 1), "SGD", 5e-3, 2.5, 500.0)
    ways = {
        "none": (),
        "by one layer": tuple((i, i + 2) for i in range(5)),
        "to the output": tuple((i, 6) for i in range(1, 5)),
    }
    found = {name: learned(dataclasses.replace(deep, skip=skip), 300.0, 2.5e-3)[0] for name, skip in ways.items()}
    print(f"accuracy after 300 s by skips: {found}")
    assert (
        np.all(found["none"] < 0.8) and np.all(found["by one layer"] > 0.98) and np.all(found["to the output"] > 0.98)
    )


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["SGD", "FA", "DFA", "KP"])
def test_circles_are_learned_through_integration_noise(rule):
    """Of a standard deviation of .1 nothing is seen; at 1, as large as the targets, nothing is learned."""
    circuit = Circuit((3, 24, 24, 1), rule, 1e-3, 2.5, 500.0)
    noise = (0.1, 0.3, 1.0)
    found = [learned(dataclasses.replace(circuit, integration_noise=s), 300.0, 1e-3)[0] for s in noise]
    print(f"{rule}, noise {noise}: accuracy after 300 s {found}")
    assert np.all(found[0] > 0.98) and np.all(found[1] > 0.9) and np.all(found[2] < 0.8)

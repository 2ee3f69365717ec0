"""Circuits: each rule against its discrete form written by hand, the limits, and circuits that are wrong in one thing."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from circuits import by_hand, circles, distance, flat

from dynamics import solve, stimuli
from equations import Circuit, Stimulus

RULES = ("SGD", "FA", "DFA", "KP")

# As in the documentation, but shorter.
SNIPPET = """
from equations import Circuit
from dynamics import solve, stimuli

circuit = Circuit(layers=(3, 24, 24, 1), feedback="KP",           # "SGD" | "FA" | "DFA" | "KP"
                  tau_propagation=1e-3, tau_plasticity=2.5, tau_decay=500.0, delay=0.0)     # seconds
stream = stimuli(X, Y, duration=50e-3, key=key)                   # piecewise-constant input, switching every 50 ms
flow = solve(circuit, stream, circuit.init(key), time=100.0, dt=0.5e-3, save_every=200, key=key,      # seconds; every 200 stimuli
             observe={"accuracy": circuit.accuracy(X, Y), "alignment": circuit.alignment})
"""  # noqa: E501


@pytest.mark.slow
def test_the_snippet_learns_the_circles():
    x, y = circles(dtype=np.float64)
    scope = {"X": x, "Y": y, "key": jax.random.key(0)}
    exec(SNIPPET, scope)
    flow = scope["flow"]
    np.testing.assert_array_equal(flow.steps, np.arange(0, 2001, 200))
    np.testing.assert_allclose(flow.times, np.linspace(0, 100, 11))
    assert flow.ok.shape == (1,) and flow.ok[0]
    accuracy, alignment = (flow.observables[name][0] for name in ("accuracy", "alignment"))
    print(f"accuracy {accuracy}, alignment of V and W^T at the end {alignment[-1]}")
    assert accuracy.shape == (11,) and alignment.shape == (11, 2)
    assert accuracy[0] < 0.7 and accuracy[-1] > 0.98
    assert np.all(np.abs(alignment[0]) < 0.5) and np.all(alignment[-1] > 0.3)
    assert flow.to_xarray()["time"].attrs["units"] == "s" and flow.to_xarray()["step"].attrs["units"] == "stimuli"


# ---------------------------------------------------------------------------------------------------------------------
# The discrete rules


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_the_discrete_rule_is_the_one_written_by_hand(rule):
    circuit = Circuit((3, 6, 5, 2), rule, 1e-3, 20.0, 400.0)
    weights = circuit.init(jax.random.key(3))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=3), rng.normal(size=2)
    found = circuit.discrete(weights, Stimulus(jnp.asarray(x), jnp.asarray(y)), 0.5)
    forward, backward = by_hand(
        rule,
        list(map(np.asarray, weights.forward)),
        list(map(np.asarray, weights.backward or ())),
        x,
        y,
        0.5 / 20,
        20 / 400,
    )
    for new, right in zip(jax.tree.leaves(found), (*forward, *backward), strict=True):
        np.testing.assert_allclose(new, right, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_sgd_with_skip_connections_is_gradient_descent():
    circuit = Circuit((3, 5, 4, 2), "SGD", 1e-3, 20.0, skip=((0, 3), (1, 3)))
    weights = circuit.init(jax.random.key(3))
    x, y = jnp.asarray([0.3, -1.0, 0.5]), jnp.asarray([1.0, -0.5])

    def loss(w):
        w1, w2, w3, skip0, skip1 = w.forward
        z1 = jnp.tanh(w1 @ x)
        return 0.5 * jnp.sum((y - w3 @ jnp.tanh(w2 @ z1) - skip0 @ x - skip1 @ z1) ** 2)

    found = circuit.discrete(weights, Stimulus(x, y), 0.5)
    right = jax.tree.map(lambda w, g: w - 0.5 / 20 * g, weights, jax.jit(jax.grad(loss))(weights))
    np.testing.assert_allclose(flat(found), flat(right), rtol=1e-12)


@pytest.mark.slow
def test_alignment_of_direct_feedback_follows_all_paths():
    circuit = Circuit((3, 5, 4, 2), "DFA", skip=((1, 3),))
    weights = circuit.init(jax.random.key(3))
    (_, w2, w3, skip), (v1, v2) = weights.forward, weights.backward
    right = [np.sum(v * w.T) / np.linalg.norm(v) / np.linalg.norm(w) for v, w in ((v1, w3 @ w2 + skip), (v2, w3))]
    np.testing.assert_allclose(circuit.alignment(weights), right, rtol=1e-12)
    plain = Circuit((3, 5, 4, 2), "SGD")
    np.testing.assert_allclose(plain.alignment(plain.init(jax.random.key(3))), 1.0)
    for one in (circuit, plain):  # nothing points anywhere
        np.testing.assert_array_equal(one.alignment(jax.tree.map(jnp.zeros_like, one.init(jax.random.key(3)))), 0.0)


# ---------------------------------------------------------------------------------------------------------------------
# Circuits against the rules

RNG = np.random.default_rng(0)
FEW = stimuli(RNG.normal(size=(40, 3)), RNG.normal(size=(40, 2)), duration=1.0, key=jax.random.key(1))
# Many inputs, so that an example takes little away from the next and 200 stimuli are still a small part of learning.
MANY = stimuli(RNG.normal(size=(200, 60)), RNG.normal(size=(200, 2)), duration=1.0, key=jax.random.key(1))


def sweep(rule, stream, layers, propagation, plasticity, dt):
    """The relative differences after 200 stimuli, all in one jit; weight decay per step of learning 0.01."""
    weights = Circuit(layers, rule).init(jax.random.key(3))

    def one(propagation, plasticity):
        circuit = Circuit(layers, rule, propagation, plasticity, 100 * plasticity)
        return distance(circuit, stream, weights, 200, dt)

    return np.asarray(jax.jit(jax.vmap(one))(*map(jnp.asarray, np.broadcast_arrays(propagation, plasticity))))


def slopes(x, y):
    return np.diff(np.log(y)) / np.diff(np.log(x))


@pytest.mark.slow
def test_the_difference_falls_with_the_propagation_time():
    ratios = np.array([0.04, 0.02, 0.01])
    differences = sweep("KP", FEW, (3, 6, 5, 2), ratios, 1e4, 0.005)
    print(f"KP: tau_propagation/T {ratios}: {differences}, slopes {slopes(ratios, differences)}")
    assert np.all(np.abs(slopes(ratios, differences) - 1) < 0.15) and differences[-1] < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_the_difference_falls_with_both_ratios(rule):
    ratios = np.array([0.08, 0.04, 0.02, 0.01])
    differences = sweep(rule, MANY, (60, 4, 4, 2), ratios, 1e5, 0.0025)
    print(f"{rule}: tau_propagation/T {ratios}: {differences}, slopes {slopes(ratios, differences)}")
    assert np.all(np.abs(slopes(ratios, differences) - 1) < 0.15)
    ratios = np.array([1e-3, 5e-4, 2.5e-4])
    differences = sweep(rule, MANY, (60, 4, 4, 2), 2e-4, 1 / ratios, 1e-4)
    print(f"{rule}: T/tau_plasticity {ratios}: {differences}, slopes {slopes(ratios, differences)}")
    assert np.all(np.abs(slopes(ratios, differences) - 1) < 0.15)


@pytest.mark.slow
def test_kolen_pollack_aligns_at_the_rate_of_decay():
    circuit = Circuit((3, 6, 5, 2), "KP", 0.02, 50.0, 40.0, skip=((1, 3),))
    weights = circuit.init(jax.random.key(3))
    with pytest.warns(UserWarning, match="tau_plasticity / tau_decay is 1.25"):
        run = solve(circuit, FEW, weights, time=40.0, dt=0.01, save_every=40)

    def apart(w):
        return [np.linalg.norm(a.T - b) for a, b in zip(w.forward[1:], w.backward, strict=True)]

    ratios = np.divide(apart(jax.tree.map(lambda leaf: leaf[0], run.final)), apart(weights))
    print(f"|W - V^T| after tau_decay over that at the start: {ratios}, predicted {np.exp(-1):.4f}")
    np.testing.assert_allclose(ratios, np.exp(-1), rtol=0.01)
    assert np.linalg.norm(run.final.forward[1][0] - weights.forward[1]) > 0.1  # and learns meanwhile


# ---------------------------------------------------------------------------------------------------------------------
# Wrong in one thing


class NoDerivative(Circuit):
    """phi' dropped in the error."""

    def respond(self, potential, modulation):
        return self.activation(potential), modulation


class NotTransposed(Circuit):
    """V = W in place of W^T."""

    def feedback_matrices(self, weights):
        return tuple(self.relayed(weights.forward))


class NoDecayBack(Circuit):
    """V forgets nothing."""

    def decayed_back(self, drive, matrix):
        return drive


SQUARE = stimuli(RNG.normal(size=(20, 4)), RNG.normal(size=(20, 4)), duration=1.0, key=jax.random.key(1))


@pytest.mark.parametrize("mutant", [NoDerivative, NotTransposed])
def test_mutants_leave_the_discrete_rule(mutant):
    def measured(kind):
        circuit = kind((4, 4, 4, 4), "SGD", 0.01, 100.0, 150.0)
        return float(distance(circuit, SQUARE, circuit.init(jax.random.key(3)), 20, 0.005))

    right, wrong = measured(Circuit), measured(mutant)
    print(f"{mutant.__name__}: relative difference {wrong:.3f}, of the circuit {right:.3f}")
    assert right < 0.05 and wrong > 3 * right


@pytest.mark.slow
def test_without_decay_back_kolen_pollack_does_not_align():
    circuit = NoDecayBack((3, 6, 5, 2), "KP", 0.02, 50.0, 40.0)
    weights = circuit.init(jax.random.key(3))
    with pytest.warns(UserWarning, match="tau_plasticity"):
        run = solve(circuit, FEW, weights, time=40.0, dt=0.01, save_every=40)
    apart = [
        np.linalg.norm(w.forward[1].T - w.backward[0]) for w in (weights, jax.tree.map(lambda leaf: leaf[0], run.final))
    ]
    print(f"|W - V^T| after tau_decay over that at the start: {apart[1] / apart[0]:.3f}, not {np.exp(-1):.3f}")
    assert apart[1] / apart[0] > 1.5 * np.exp(-1)


# ---------------------------------------------------------------------------------------------------------------------
# What else a circuit can do


@pytest.mark.slow
def test_online_read_out_of_frozen_weights():
    circuit = Circuit((3, 6, 5, 2), "KP", 0.02, 50.0, 4000.0, tau_error=0.02)
    weights = circuit.init(jax.random.key(3))
    run = solve(circuit.readout(), FEW, weights, steps=10, dt=0.01, keep_states=True)
    for new, old in zip(jax.tree.leaves(run.final), jax.tree.leaves(weights), strict=True):
        np.testing.assert_array_equal(new[0], old)
    assert not any(np.any(e) for e in run.states.errors)
    late = Stimulus(FEW.x[0], FEW.y[0], past=jnp.ones(2))
    assert not np.any(circuit.readout().output_error(circuit.init(weights), late))  # nor one that comes with a delay
    right = jax.vmap(lambda x: circuit.output(weights, x))(FEW.x[FEW.indices(10)])
    np.testing.assert_allclose(run.states.activities[-1][0, 1:], right, atol=1e-12)


@pytest.mark.slow
def test_noise_has_the_standard_deviation_that_it_is_given():
    circuit = Circuit((2, 20, 3, 1), "FA", 0.05, 1e6, tau_error=0.1, integration_noise=0.3).readout()
    weights = jax.tree.map(jnp.zeros_like, circuit.init(jax.random.key(0)))
    stream = stimuli(np.zeros((1, 2)), np.zeros((1, 1)), duration=1.0, order=np.zeros(1, int))
    run = solve(circuit, stream, weights, steps=20, dt=0.005, paths=8, key=jax.random.key(1), keep_states=True)
    for values, tau in (
        (run.states.activities[0], 0.05),
        (run.states.errors[0], 0.05),
        (run.states.errors[2], 0.1),  # of the output
    ):
        squares = np.mean(np.square(values[:, 5:]), axis=(1, 2))
        right = 0.3**2 / (1 - 0.005 / (2 * tau))  # of the Euler step
        error = squares.std(ddof=1) / 8**0.5
        print(f"variance {squares.mean():.4f} +- {error:.4f}, predicted {right:.4f}")
        assert abs(squares.mean() - right) < 4 * error and error < 0.2 * right


@pytest.mark.slow
def test_filters_do_not_change_the_discrete_rule():
    """At rest each is at what it follows, and a trace is the factor it stands for."""
    fields = {"tau_propagation": 0.01, "tau_plasticity": 1e4}
    circuit = Circuit((3, 6, 5, 2), "SGD", tau_presynaptic=0.3, tau_error=0.2, tau_eligibility=0.4, **fields)
    weights = circuit.init(jax.random.key(3))
    stimulus = Stimulus(FEW.x[0], FEW.y[0])
    without = Circuit((3, 6, 5, 2), "SGD", **fields)
    np.testing.assert_allclose(
        flat(circuit.discrete(weights, stimulus, 1.0)), flat(without.discrete(weights, stimulus, 1.0)), rtol=1e-12
    )
    rest = circuit.rest(weights, stimulus)
    rates = circuit.drift(jnp.zeros(()), rest, stimulus)
    assert max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(eqx.tree_at(lambda s: s.weights, rates, None))) < 1e-10

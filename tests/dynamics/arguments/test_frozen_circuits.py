"""What stays of a dynamics without a signal of examples, such as a circuit: it is seen and not moved."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from marks import some

from dynamics import Trajectory, solve, stimuli
from equations import AbstractDynamics, Circuit, Splitting, Weights

CASES = [
    ("frozen without examples", "instance", "the readout of a circuit", "test_a_circuit[readout]"),
    ("frozen without examples", "brother", "its feedback, which decays and learns", "test_a_circuit[backward]"),
    ("frozen without examples", "brother", "the first layer, with a delay and noise", "test_a_circuit[first]"),
    ("frozen without examples", "brother", "noise of a user's equation", "test_noise"),
    ("frozen without examples", "brother", "one of Diffrax's own solvers", "test_noise[SRA1]"),
    ("frozen without examples", "brother", "mutant: the noise alone is left", "test_mutant_that_keeps_the_noise"),
    ("frozen without examples", "brother", "from disk", "test_goes_on"),
    ("no part to be taken out", "instance", "parameters that are computed", "test_refused[computed]"),
    ("no part to be taken out", "brother", "a splitting of one's own", "test_refused[split]"),
    ("no part to be taken out", "brother", "all of them", "test_refused[all]"),
]
KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(7, 2))
STREAM = stimuli(X, np.arange(7.0) / 7, duration=0.02, key=KEY)


class Still(Circuit):
    """By hand: no plasticity of one matrix."""

    def plasticity(self, state, seen, errors, modulation):
        rates = super().plasticity(state, seen, errors, modulation)
        if self.tau_decay is not None and self.feedback == "KP" and self.delay == 0:
            return Weights(rates.forward, jax.tree.map(jnp.zeros_like, rates.backward))
        place = 1 if self.delay == 0 else 0
        forward = [jnp.zeros_like(rate) if i == place else rate for i, rate in enumerate(rates.forward)]
        return Weights(tuple(forward), rates.backward)


CIRCUITS = {
    "readout": (lambda w: w.forward[-1], dict(feedback="FA")),
    "backward": (lambda w: w.backward, dict(feedback="KP", tau_decay=20.0)),
    "first": (lambda w: w.forward[0], dict(feedback="KP", delay=0.004, integration_noise=0.1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", some(CIRCUITS, ["readout"]))
@pytest.mark.filterwarnings("ignore:delay / duration", "ignore:dt / tau")
def test_a_circuit(name):
    """As by hand; what stays acts, and without `frozen` it moves."""
    frozen, how = CIRCUITS[name]
    circuit, by_hand = (kind((2, 3, 1), **how) for kind in (Circuit, Still))
    weights = circuit.init(KEY)
    options = dict(steps=4, dt=0.001, key=KEY, paths=2, observe={"angle": lambda w: circuit.alignment(w)})
    run = solve(circuit, STREAM, weights, frozen=frozen, **options)
    wanted = solve(by_hand, STREAM, weights, **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), run.final, wanted.final)
    np.testing.assert_allclose(run.observables["angle"], wanted.observables["angle"], rtol=1e-10)
    stay = jax.tree.map(lambda leaf, w: np.array_equal(leaf[0], w), frozen(run.final), frozen(weights))
    assert jax.tree.all(stay) and type(run.equation) is Circuit
    free = solve(circuit, STREAM, weights, **options).final
    assert not jax.tree.all(jax.tree.map(lambda leaf, w: np.array_equal(leaf[0], w), frozen(free), frozen(weights)))


class Coupled(AbstractDynamics):
    """da = -a b dt + 0.3 dW, db = -b dt + 0.3 dW."""

    def drift(self, t, state, signal):
        return {"a": -state["a"] * state["b"], "b": -state["b"]}

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.3), state))


START = {"a": jnp.ones(2), "b": 2 * jnp.ones(2)}


def at_two(state):
    return state["b"]


def run(solver=None, steps=10, dynamics=None, **options):
    begin = {} if "start" in options else dict(params=START, key=KEY, paths=2000, frozen=at_two)
    return solve(
        dynamics or Coupled(), None, steps=steps, dt=0.05, solver=solver, save_every=steps, **(begin | options)
    )


def off(values):
    """Of da = -2 a dt + 0.3 dW after 0.5: mean and variance of a from the exact ones, in standard errors."""
    a, count = np.asarray(values["a"]).ravel(), values["a"].size
    mean, variance = np.exp(-1.0), 0.3**2 / 4 * (1 - np.exp(-2.0))
    return abs(a.mean() - mean) / np.sqrt(variance / count), abs(a.var() / variance - 1) / np.sqrt(2 / count)


@pytest.mark.slow
@pytest.mark.parametrize("solver", some([None, dfx.SRA1()], [None]), ids=["default", "SRA1"])
def test_noise(solver):
    found = run(solver, keep_states=True)
    assert np.array_equal(found.final["b"], np.broadcast_to(START["b"], (2000, 2))) and found.states["b"] is None
    assert max(off(found.final)) < 4


def test_mutant_that_keeps_the_noise():
    class Noisy(Coupled):
        def drift(self, t, state, signal):
            return {"a": -state["a"] * state["b"], "b": jnp.zeros_like(state["b"])}

    assert np.ptp(run(dynamics=Noisy(), frozen=None).final["b"]) > 0.1  # where what stays has no spread


def test_goes_on(tmp_path):
    whole, half = run(steps=4, paths=2), run(steps=2, paths=2)
    half.save(tmp_path / "half.nc")
    for given in (None, Coupled()):
        again = Trajectory.load(tmp_path / "half.nc", like=START, equation=given)
        rest = run(steps=2, start=again)
        assert jax.tree.all(jax.tree.map(np.array_equal, rest.final, whole.final))
        assert jax.tree.structure(again.final_state) == jax.tree.structure(half.final_state)


class Computed(Coupled):
    def params(self, state):
        return {"a": 2 * state["a"], "b": state["b"]}

    def init(self, params):
        return {"a": params["a"] / 2, "b": params["b"]}


class Apart(Coupled):
    def splitting(self):
        class Own(Splitting):
            pass

        return Own(self)


REFUSED = {
    "computed": (Computed(), at_two, "for Computed, whose state does not hold its parameters as a part"),
    "split": (Apart(), at_two, "for Apart, which solvers split in a way of its own"),
    "all": (Coupled(), lambda state: state, "must keep some of the arrays of `params` and leave others"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    dynamics, frozen, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"Argument `frozen`.*{words}"):
        run(dynamics=dynamics, frozen=frozen)

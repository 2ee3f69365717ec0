"""Paths that failed are not averaged over, and a start from which every path fails at once is told of."""

import dataclasses
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve, train
from equations import SGD, AbstractDynamics, Adam, Momentum, Objective
from validation._commands import circuit_run as _circuit_run
from validation._commands.circuit_report import summary
from validation._commands.circuit_run import Run

CASES = [
    (
        "a rate that is not finite at the start",
        "instance",
        "the norm at w = 0",
        "test_no_derivative_at_the_start[norm]",
    ),
    ("a rate that is not finite at the start", "brother", "a root of zero", "test_no_derivative_at_the_start[root]"),
    ("a rate that is not finite at the start", "brother", "`train`, with memory", "test_train_says_it_too"),
    ("a rate that is not finite at the start", "brother", "a drift of one's own", "test_a_drift_of_one_s_own"),
    (
        "a rate that is not finite at the start",
        "brother",
        "a step that is far too long",
        "test_divergence_is_no_such_start",
    ),
    ("failed paths in averages", "brother", "accuracies of circuits", "test_circuits_that_diverged_are_left_out"),
    ("failed paths in averages", "brother", "the rate by the delay law", "test_neurons_that_diverged_are_left_out"),
]


def test_circuits_that_diverged_are_left_out():
    """Of three, one of which stays at its last record; of none the mean is NaN, not that of what is left."""
    test, ok = np.array([[0.5, 0.9], [0.5, 0.2], [0.5, 0.7]]), np.array([True, False, True])
    run = Run("KP", 0.0, 5.0, np.array([0.0, 1.0]), test, test, test[:, :, None], ok)
    np.testing.assert_allclose(run.mean(run.test), [0.5, 0.8])
    row = summary({"curve": [run]}, None).splitlines()[2].split()
    assert row == ["KP", "0", "5", "1", "0.800", "0.700", "0.800", "0.80", "1", "of", "3"]
    lost = dataclasses.replace(run, ok=~np.ones(3, bool))
    assert np.isnan(lost.mean(lost.test)).all() and "3 of 3" in summary({"curve": [lost]}, None)


def test_neurons_that_diverged_are_left_out(monkeypatch):
    """A neuron that failed stays at its start, and would pull the rate of the others down."""
    weights = np.array([1 - np.exp(-0.5), 1 - np.exp(-0.5), 0.0])

    def solved(*args, **settings):
        final = SimpleNamespace(forward=[jnp.asarray(weights[:, None, None] * np.full(5, 5**-0.5))])
        return SimpleNamespace(final=final, ok=np.array([True, True, False]))

    monkeypatch.setattr(_circuit_run, "solve", solved)
    times = _circuit_run.Times(0.02, 1e-3, 1.0, 500.0, 4)
    with pytest.warns(UserWarning, match="1 of 3 neurons diverged"):
        law = _circuit_run.delay_law(times, (0.5,), jax.random.key(0), paths=3, count=2)
    np.testing.assert_allclose(law.rate, 1)
    np.testing.assert_allclose(law.error, 0, atol=1e-12)


def told(function, *args, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*args, **settings)
    return result, [str(one.message) for one in caught]


LOSSES = {
    "norm": lambda w, e: e * jnp.linalg.norm(w["a"]) + jnp.sum(w["b"] ** 2),
    "root": lambda w, e: jnp.sum(jnp.sqrt(w["a"])) + e * jnp.sum(w["b"] ** 2),
}
START = {"a": jnp.zeros(2), "b": jnp.ones(3)}


@pytest.mark.parametrize("name", LOSSES)
def test_no_derivative_at_the_start(name):
    run, messages = told(solve, SGD(0.1), Objective(LOSSES[name], jnp.ones(2)), START, steps=3, save_every=3)
    assert not run.ok.any() and len(messages) == 1, messages
    assert "params['a']" in messages[0] and "params['b']" not in messages[0] and "NaN" in messages[0]


def test_train_says_it_too():
    objective = Objective(LOSSES["norm"], jnp.ones(2))
    for equation in (Momentum(0.1), Adam(0.1)):
        run, messages = told(train, equation, objective, START, steps=3, save_every=3)
        assert not run.ok.any() and len(messages) == 1 and "params['a']" in messages[0], messages
    silent = told(jax.jit(lambda p: train(SGD(0.1), objective, p, steps=3, save_every=3).final), START)
    assert not silent[1]  # nothing can be looked at under a trace


class Logarithm(AbstractDynamics):
    def drift(self, t, y, signal):
        return jnp.log(y)


def test_a_drift_of_one_s_own():
    run, messages = told(solve, Logarithm(), None, jnp.asarray([0.0, 2.0]), steps=3, save_every=3, dt=0.1)
    assert not run.ok.any() and len(messages) == 1 and "drift of Logarithm" in messages[0], messages


def test_divergence_is_no_such_start():
    objective = Objective(lambda w, e: jnp.sum(jnp.exp(e * w**2)), jnp.ones(2))
    run, messages = told(train, SGD(1.0), objective, jnp.asarray([5.0]), steps=3, save_every=3)
    assert not run.ok.any() and not messages, messages

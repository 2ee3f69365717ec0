"""Paths that failed are not averaged over, and a start from which every path fails at once is told of."""

import warnings

import jax
import jax.numpy as jnp
import pytest

from dynamics import solve, train
from equations import SGD, AbstractDynamics, Adam, Momentum, Objective

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
]


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

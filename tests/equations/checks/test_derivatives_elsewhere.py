"""Derivatives that are right, or seem so, at one point only: at a symmetric start, or by a difference's own error."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import entropy_production, solve, stationary, train
from equations import SGD, Objective, modified
from equations._checks import derivatives, quotients
from equations._checks.derivatives import _false_derivative, check_derivatives, flow_is_misleading
from validation import Symmetry, corrected, irreversibility, orders

CASES = [
    ("what is stopped vanishes at the start", "instance", "a cube, stationary from zero", "test_from_zero[stationary]"),
    ("what is stopped vanishes at the start", "instance", "two of them, of the algorithm", "test_from_zero[discrete]"),
    ("what is stopped vanishes at the start", "instance", "the modified equation", "test_from_zero[modified]"),
    ("what is stopped vanishes at the start", "brother", "from a tiny start", "test_from_zero[tiny]"),
    ("what is stopped vanishes at the start", "brother", "orders", "test_from_zero[orders]"),
    ("what is stopped vanishes at the start", "brother", "irreversibility", "test_from_zero[irreversibility]"),
    ("what is stopped vanishes at the start", "brother", "the corrected equation", "test_from_zero[corrected]"),
    ("what is stopped vanishes at the start", "brother", "entropy production", "test_from_zero[entropy]"),
    ("what is stopped vanishes at the start", "brother", "Symmetry", "test_from_zero[symmetry]"),
    ("what is stopped vanishes at the start", "brother", "the stability of a flow", "test_the_flow"),
    ("what is stopped vanishes at the start", "brother", "far from the start: the point found", "test_the_point_found"),
    ("what is stopped vanishes at the start", "brother", "other parameters in a second call", "test_other_values[params]"),
    ("what is stopped vanishes at the start", "brother", "other examples in a second call", "test_other_values[examples]"),
    ("what is stopped vanishes at the start", "brother", "a mutant that looks there alone", "test_mutant_at_the_start"),
    ("a difference's own error", "instance", "logaddexp that begins with w^4", "test_right[quartic]"),
    ("a difference's own error", "instance", "a cube by custom_jvp, from 0 and .6", "test_right[cube]"),
    ("a difference's own error", "brother", "with nothing beside it", "test_right[alone]"),
    ("a difference's own error", "brother", "beside a force", "test_right[force]"),
    ("a difference's own error", "brother", "in single precision", "test_right[single]"),
    ("a difference's own error", "brother", "w |w|, which is once differentiable", "test_right[kink]"),
    ("a difference's own error", "brother", "near the symmetric point", "test_right[near]"),
    ("a difference's own error", "brother", "a root that ends near the start", "test_right[domain]"),
    ("a difference's own error", "brother", "a gradient that cancels to rounding", "test_right[cancels]"),
    ("a difference's own error", "brother", "targets far from one are no rounding", "test_any_size"),
    ("a difference's own error", "brother", "a mutant without the other step", "test_mutant_of_one_step"),
]  # fmt: skip

stop = jax.lax.stop_gradient
X = np.random.default_rng(0).normal(size=50)
X = (X - X.mean()) / X.std()
ZERO = jnp.zeros(())


def cubic(w, e):
    return jnp.sum(0.5 * (w - e - 1) ** 2 + stop(w**3) * w)


def fresh(loss, data=X):
    """An objective that nothing is remembered of."""
    return Objective(lambda w, e: loss(w, e), data)


@jax.custom_jvp
def cube(w):
    return w**3


cube.defjvp(lambda primals, tangents: (cube(primals[0]), 3 * primals[0] ** 2 * tangents[0]))


@jax.custom_jvp
def signed(w):
    return jnp.abs(w) ** 3


signed.defjvp(lambda primals, tangents: (signed(primals[0]), 3 * primals[0] * jnp.abs(primals[0]) * tangents[0]))


def entropy(objective):
    run = train(SGD(0.1, 5), objective, ZERO, steps=4, key=jax.random.key(0), keep_states=True)
    return entropy_production(run.equation, objective, dataclasses.replace(run, kind="equation"), route="path")


CALLS = {
    "stationary": lambda o: stationary(SGD(0.1, 5), o, ZERO),
    "discrete": lambda o: stationary(SGD(0.1, 5), o, jnp.zeros(2), discrete=True),
    "modified": lambda o: solve(modified(SGD(0.02), order=2), o, jnp.zeros(2), steps=2),
    "tiny": lambda o: modified(SGD(0.02), order=2).check(jnp.array([1e-9, -1e-9]), o),
    "orders": lambda o: orders(SGD(0.1), o, ZERO, time=1.0, learning_rates=[0.1, 0.05, 0.025]),
    "irreversibility": lambda o: irreversibility(SGD(0.1, 5), o, ZERO, key=jax.random.key(0)),
    "corrected": lambda o: corrected(SGD(0.1, 5), batches="minibatch", reading="stratonovich").check(ZERO, o),
    "entropy": entropy,
    "symmetry": lambda o: Symmetry(lambda p: p).check(o, ZERO),
}
REFUSED = "Argument `loss` must have a gradient with right derivatives"


@pytest.mark.parametrize("name", CALLS)
def test_from_zero(name):
    with pytest.raises(ValueError, match=REFUSED):
        CALLS[name](fresh(cubic))


def test_the_flow():
    assert flow_is_misleading(SGD(0.1), fresh(cubic), ZERO)


def beyond(w, e):
    return 0.5 * (w - e - 6) ** 2 + jnp.where(w > 5, 0.2 * (stop(w) - 5), 0.0) * w


def test_the_point_found():
    objective = fresh(beyond)
    check_derivatives(objective, ZERO, "a test")
    with pytest.raises(ValueError, match=REFUSED):
        stationary(SGD(0.1, 5), objective, ZERO)


@pytest.mark.parametrize("what", ["params", "examples"])
def test_other_values(what):
    def marked(w, e):
        return 0.5 * (w - e[0]) ** 2 + e[1] * stop(w) * w

    one, marks = Objective(beyond, X), np.ones(50)
    first, second = (
        ((one, ZERO), (one, ZERO + 6))
        if what == "params"
        else tuple((Objective(marked, (X, m)), ZERO) for m in (0 * marks, marks))
    )
    check_derivatives(*first, "a test")
    with pytest.raises(ValueError, match=REFUSED):
        check_derivatives(*second, "a test")
    check_derivatives(*first, "a test")


def test_mutant_at_the_start(monkeypatch):
    monkeypatch.setattr(derivatives, "_AWAY", (0.0,))
    assert _false_derivative(fresh(cubic), ZERO) is None


def quartic(w, e):
    return jnp.logaddexp(w**2 - e, -(w**2) + e)


ZEROS = np.zeros(2)
SINGLE = jnp.float32
RIGHT = {
    "quartic": (quartic, ZEROS, [0.0, 1.0]),
    "cube": (lambda w, e: 0.5 * (w - e) ** 2 + cube(w) * w, X, [0.0, 0.6]),
    "force": (lambda w, e: quartic(w, 0 * e) + 30 * w, ZEROS, [0.0, 1.0]),
    "single": (lambda w, e: quartic(w.astype(SINGLE), e.astype(SINGLE)), ZEROS, [0.0, 1.0]),
    "kink": (lambda w, e: signed(w) + e * w, X, [0.0, 1.0]),
    "alone": (lambda w, e: cube(w) * w + 0 * e, X, [0.0, 1e-5, 1.0]),
    "near": (quartic, ZEROS, [1e-5, 1e-9, 1e-17]),
    "cancels": (
        lambda w, e: (jnp.sum(jax.nn.softmax(w)) * e - jax.nn.relu(w[0])) ** 2,
        X,
        [[-0.3] * 3, [1e-6] * 3, [0.0] * 3],
    ),
    "domain": (lambda w, e: jnp.sqrt(w - 0.97) + cube(w) + jnp.logaddexp(w, e), X, [1.0, 0.98]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right(name):
    loss, data, values = RIGHT[name]
    objective = fresh(loss, data)
    assert [_false_derivative(objective, jnp.array(value)) for value in values] == [None] * len(values)


@pytest.mark.parametrize("size", [1e-4, 1e4, 1e6])
def test_any_size(size):
    """What is right by a rounding error is not what is small beside the values."""
    objective = fresh(lambda w, e: 0.5 * (size * e + 0.9 * stop(w) - w) ** 2)
    assert _false_derivative(objective, ZERO) and _false_derivative(objective, ZERO + size)


def test_mutant_of_one_step(monkeypatch):
    monkeypatch.setattr(quotients, "_agree", lambda best, other: True)
    assert _false_derivative(fresh(lambda w, e: cube(w) * w + 0 * e), ZERO) is not None

"""`stop_gradient` and custom derivatives inside a loss: refused where what differentiates the gradient would be wrong."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import entropy_production, solve, stationary, train
from equations import SGD, AbstractSignal, FeedbackAlignment, Objective, modified, regularized
from equations._checks.derivatives import _false_derivative, check_derivatives
from validation import Symmetry, corrected, irreversibility, orders

CASES = [
    ("stop_gradient in a loss", "instance", "temporal difference, by everything that differentiates", "test_refused"),
    ("stop_gradient in a loss", "instance", "the game 2xy by simultaneous steps", "test_wrong_derivatives[game]"),
    ("stop_gradient in a loss", "instance", "a rounded weight", "test_wrong_derivatives[straight_through]"),
    ("stop_gradient in a loss", "instance", "custom_vjp", "test_wrong_derivatives[custom_vjp]"),
    ("stop_gradient in a loss", "brother", "custom_jvp of a sign", "test_wrong_derivatives[custom_jvp]"),
    ("stop_gradient in a loss", "brother", "inside a scan, a branch and a jit", "test_wrong_derivatives[nested]"),
    ("stop_gradient in a loss", "brother", "in a penalty", "test_wrong_derivatives[penalty]"),
    ("stop_gradient in a loss", "brother", "in a surrogate of one's own", "test_wrong_derivatives[surrogate]"),
    ("stop_gradient in a loss", "brother", "in a mask of few examples", "test_wrong_derivatives[some_examples]"),
    ("stop_gradient in a loss", "brother", "what takes no second derivative runs", "test_right_without_derivatives"),
    ("stop_gradient in a loss", "brother", "the same rule as a signal is right", "test_a_signal_is_right"),
    ("custom derivatives that are right", "brother", "activations, softmax, targets, feedback", "test_no_false_alarm"),
    ("custom derivatives that are right", "brother", "zero weights at the kinks of ReLU", "test_kinks_are_no_fault"),
]  # fmt: skip

stop = jax.lax.stop_gradient
X = np.random.default_rng(0).normal(size=50)
X = (X - X.mean()) / X.std()
ONE = jnp.ones(())


def temporal(w, r):
    return 0.5 * (r + 0.9 * stop(w) - w) ** 2


class Temporal(AbstractSignal):
    data: object

    def surrogate(self, active, frozen, example):
        return 0.5 * (example + 0.9 * frozen - active) ** 2


class Spoiled(Temporal):
    """A signal that forgets its `frozen`."""

    def surrogate(self, active, frozen, example):
        return temporal(active, example)


@jax.custom_vjp
def rounded(w):
    return jnp.round(w)


# Rules that call the function itself, as many are written: the derivative of the derivative is again another, or none.
rounded.defvjp(lambda w: (rounded(w), None), lambda _, error: (error,))


@jax.custom_jvp
def sign(w):
    return jnp.sign(w)


sign.defjvp(lambda primals, tangents: (sign(primals[0]), tangents[0]))


@jax.custom_vjp
def rounded_once(w):
    return jnp.round(w)


rounded_once.defvjp(lambda w: (jnp.round(w), None), lambda _, error: (error,))


def nested(w, r):
    def step(carry, _):
        return jax.lax.cond(carry > 0, lambda c: c + 0.9 * jax.jit(stop)(w), lambda c: c, carry), None

    return (jax.lax.scan(step, w, None, length=2)[0] - r) ** 2


PAIR = {"x": 0.7 * ONE, "y": -0.4 * ONE}
WRONG = {
    "temporal": (Objective(temporal, X), ONE),
    "game": (Objective(lambda p, r: 2 * p["x"] * stop(p["y"]) - 2 * stop(p["x"]) * p["y"] + r * p["x"], X), PAIR),
    "straight_through": (Objective(lambda w, r: (w + stop(jnp.round(w) - w) - r) ** 2, X), 0.3 * ONE),
    "custom_vjp": (Objective(lambda w, r: (rounded(w) - r) ** 2, X), 0.3 * ONE),
    "custom_jvp": (Objective(lambda w, r: (sign(w) - r) ** 2, X), 0.3 * ONE),
    "nested": (Objective(nested, X), ONE),
    "penalty": (regularized(Objective(lambda w, r: (w - r) ** 2, X), lambda w: w * stop(w)), ONE),
    "surrogate": (Spoiled(jnp.asarray(X)), ONE),
    "some_examples": (Objective(lambda w, r: jnp.where(r > 0.8, stop(w) * w, w**2 / 2) - r * w, X), ONE),
}


@pytest.mark.parametrize("name", list(WRONG)[1:])
def test_wrong_derivatives(name):
    signal, params = WRONG[name]
    argument = "loss" if isinstance(signal, Objective) else "objective"
    with pytest.raises(ValueError, match=f"Argument `{argument}` must have a gradient with right derivatives.*frozen"):
        check_derivatives(signal, params, "a test")


@pytest.mark.slow
def test_refused():
    objective, _ = WRONG["temporal"]
    sgd, key = SGD(0.1, 5), jax.random.key(0)
    second = modified(SGD(0.1), order=2)
    run = train(sgd, objective, ONE, steps=2, key=key, keep_states=True)
    calls = [
        lambda: solve(second, objective, ONE, steps=2),
        lambda: stationary(sgd, objective, ONE, discrete=True),
        lambda: orders(SGD(0.1), objective, ONE, time=1.0, learning_rates=[0.1, 0.05, 0.025]),
        lambda: irreversibility(sgd, objective, ONE, key=key),
        lambda: solve(corrected(sgd, batches="minibatch", reading="stratonovich"), objective, ONE, steps=2, key=key),
        lambda: Symmetry(lambda p: p).check(objective, ONE),
        lambda: modified(SGD(0.1, 5, "shuffled"), order=2).check(ONE, objective),
        lambda: modified(sgd, order=2, route="map", fluctuations=True).check(ONE, objective),
        lambda: entropy_production(run.equation, objective, dataclasses.replace(run, kind="equation"), route="path"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="Argument `loss` must have a gradient with right derivatives"):
            call()


def test_right_without_derivatives():
    """Gradient noise, the series by the map and the corrected equation in the Itô sense differentiate nothing twice."""
    objective, _ = WRONG["temporal"]
    rate = 0.1
    for equation in (SGD(rate), SGD(rate, 5), modified(SGD(rate, 5), order=1)):
        equation.check(ONE, objective)
    run = train(SGD(rate), objective, ONE, steps=20).final
    flow = solve(modified(SGD(rate), order=4, route="map"), objective, ONE, steps=20).final
    np.testing.assert_allclose(run, (1 - 0.1 * rate) ** 20, rtol=1e-12)  # the mean of the data is zero
    np.testing.assert_allclose(flow, run, rtol=1e-9)
    corrected(SGD(rate)).check(ONE, objective)


def test_a_signal_is_right():
    """With frozen leaves: w' = w - eta ((1 - .9) w - r), whose variance is eta/(.2 - .01 eta) times C/B = 1/5."""
    found = stationary(SGD(0.1, 5), Temporal(jnp.asarray(X)), ONE, discrete=True).covariance
    np.testing.assert_allclose(found, 0.1 / (0.2 - 0.01 * 0.1) / 5, rtol=1e-10)


def network(activation, dtype, scale=1.0):
    model = eqx.nn.MLP(3, 4, 16, 1, activation=activation, key=jax.random.key(1))
    cast = lambda leaf: (scale * leaf).astype(dtype) if eqx.is_array(leaf) else leaf  # noqa: E731
    return jax.tree.map(cast, model)


INPUTS = np.random.default_rng(1).normal(size=(20, 3))
LABELS = np.arange(20) % 4


def crossed(model, example):
    return -jax.nn.log_softmax(model(example[0]))[example[1]]


def logged(w, e):
    return jax.nn.logsumexp(w * e) + jnp.sum(jax.nn.softmax(w) * e)


RIGHT = {
    "relu in single precision": (Objective(crossed, (INPUTS.astype("f4"), LABELS)), network(jax.nn.relu, jnp.float32)),
    "gelu": (Objective(crossed, (INPUTS, LABELS)), network(jax.nn.gelu, jnp.float64)),
    "logsumexp": (Objective(logged, INPUTS), jnp.arange(3.0)),
    "custom_vjp": (Objective(lambda w, r: (rounded_once(w) - r) ** 2, X), 0.3 * ONE),
    "target": (Objective(lambda p, r: (p["x"] - 0.9 * stop(p["y"]) - r) ** 2, X), PAIR),
    "single precision by force": (
        Objective(lambda w, r: jnp.sum(jax.nn.relu(w.astype(jnp.float32) * r.astype(jnp.float32))) ** 2, X),
        jnp.arange(1.0, 4.0, dtype=jnp.float32),
    ),
    "feedback": (
        FeedbackAlignment(
            lambda net, e: (net(e) - 1.0) @ jnp.ones(4), INPUTS, [jnp.ones((16, 4))]
        ), network(jnp.tanh, jnp.float64),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_no_false_alarm(name):
    assert _false_derivative(*RIGHT[name]) is None


@pytest.mark.slow
def test_kinks_are_no_fault():
    """At zero weights every example is at a kink, where no difference means anything."""
    signal = Objective(crossed, (INPUTS, LABELS))
    assert _false_derivative(signal, network(jax.nn.relu, jnp.float64, 0.0)) is None
    square = Objective(lambda w, r: jnp.sum(jax.nn.relu(w) ** 2) * r, X)
    assert _false_derivative(square, jnp.zeros(3)) is None

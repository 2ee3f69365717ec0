"""Averages of the weights: what is known of them in closed form, in equation and algorithm."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some
from oracles import mlp

from dynamics import solve, stationary, train
from equations import (
    SAM,
    SGD,
    Adam,
    AveragedState,
    Momentum,
    Objective,
    PolyakAveraged,
    at_average,
    averaged,
    decayed,
    from_optax,
    modified,
    scheduled,
    volumized,
)
from validation import compare, orders

HESSIAN = np.diag([1.0, 2.0])
POINTS = np.array([[1.0, 0.5], [-1.0, 0.5], [0.5, -1.0], [-0.5, 0.0]])
BOWL = Objective(lambda w, x: 0.5 * (w - x) @ jnp.asarray(HESSIAN) @ (w - x), POINTS)
SEEN = {"averaged": at_average()}


def covariance(run):
    """That of the average at the end, and the standard errors of a Gaussian ensemble's, `(2, 2)` each."""
    samples = np.asarray(run.observables["averaged"][:, -1])
    found = np.cov(samples.T)
    variances = np.diag(found)
    return found, np.sqrt((np.outer(variances, variances) + found**2) / len(samples))


class Slower(PolyakAveraged):
    """Mutant: the average follows at half the rate."""

    def rate(self, t):
        return super().rate(t) / 2


def polyak(run, rule, steps=400):
    """How far the covariance of the mean over a run is from H^-1 C H^-1 / steps, in standard errors.

    C is the covariance of a step's gradient, whatever the learning rate; at the minimum to begin with.
    """
    noise = HESSIAN @ np.cov(POINTS.T, bias=True) @ HESSIAN
    inverse = np.linalg.inv(HESSIAN)
    found, errors = covariance(
        run(rule, BOWL, jnp.asarray(POINTS.mean(0)), steps=steps, save_every=steps, key=jax.random.key(3), paths=1000,
            observe=SEEN)
    )  # fmt: skip
    return np.max(np.abs(found - inverse @ noise @ inverse / steps) / errors)


@pytest.mark.slow
@pytest.mark.parametrize("run", some([train, solve], [solve]))
def test_polyak_covariance(run):
    """Within two standard errors in all entries; the mutant is not."""
    rule = averaged(SGD(0.5, 1), decay="polyak")
    assert polyak(run, rule) < 2
    if run is solve:
        assert polyak(run, Slower(equation=rule.equation)) > 4


def exponential(rate, eta, rho, time):
    """The average of exp(-rate t) that keeps rho in a time eta, from 1."""
    forgets = -np.log(rho) / eta
    return (forgets * np.exp(-rate * time) - rate * np.exp(-forgets * time)) / (forgets - rate)


@pytest.mark.slow
@pytest.mark.parametrize("inner", [SGD(0.02), pytest.param(decayed(SGD(0.02), 0.0), marks=pytest.mark.slow)])
def test_another_learning_rate_keeps_the_mean(inner):
    """At kappa eta it takes rho^kappa: in the equation exactly, in the algorithm to first order. Mutant: rho as it was."""
    slow, kappa, steps = averaged(inner, decay=0.98), 4, 60
    fast = slow.scaling_limit().rescaled(kappa)
    left = averaged(inner.scaling_limit().rescaled(kappa), decay=0.98)
    np.testing.assert_allclose(fast.decay, 0.98**kappa, rtol=1e-14)

    def end(run, rule, steps):
        there = jnp.asarray(POINTS.mean(0)) + 1.0
        found = run(rule, BOWL, there, steps=steps, save_every=steps, observe=SEEN).observables["averaged"]
        return np.asarray(found[0, -1]) - POINTS.mean(0)

    wanted = exponential(np.diag(HESSIAN), 0.02, 0.98, 0.02 * steps)
    for rule, length in ((slow, steps), (fast, steps // kappa)):
        np.testing.assert_allclose(end(solve, rule, length), wanted, rtol=1e-6)
    missed = np.abs(end(solve, left, steps // kappa) - wanted)
    assert np.all(missed > 0.2)
    base, moved, unmoved = (end(train, *pair) for pair in ((slow, steps), (fast, 15), (left, 15)))
    assert np.all(np.abs(moved - base) < 0.1 * np.abs(unmoved - base))


@pytest.mark.slow
@pytest.mark.parametrize("run", [train, pytest.param(solve, marks=pytest.mark.slow)])
@pytest.mark.parametrize("inner", [SAM(0.05, 2, rho=0.1), pytest.param(Momentum(0.05, 2), marks=pytest.mark.slow)])
def test_the_weights_are_those_without(inner, run):
    """To the bit, whatever is inside; a rule that asks for a second gradient gets it."""
    options = dict(steps=5, key=jax.random.key(2), paths=2)
    both = [run(e, BOWL, jnp.ones(2), **options).final for e in (averaged(inner), averaged(inner, "polyak"), inner)]
    np.testing.assert_array_equal(both[0], both[2])
    np.testing.assert_array_equal(both[1], both[2])


@pytest.mark.slow
def test_a_model_is_averaged():
    """The same structure on both sides; the average is a model, at which the loss is that of all the weights' means."""
    network = mlp(jax.random.key(3), (3, 4, 2))
    images, labels = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3))), jnp.asarray(np.arange(6) % 2)

    def loss(net, example):
        return optax.softmax_cross_entropy_with_integer_labels(net(example[0]), example[1])

    objective = Objective(loss, (images, labels))
    rule = averaged(SGD(0.01), decay="polyak")
    observe = {"loss": at_average(objective.value), "averaged": at_average(), "weights": weights}
    run, flow = (f(rule, objective, network, steps=40, observe=observe, keep_states=True) for f in (train, solve))
    seen = run.observables
    np.testing.assert_allclose(seen["averaged"][0], np.cumsum(seen["weights"][0], axis=0) / np.arange(1.0, 42)[:, None])
    assert isinstance(flow.final_state, AveragedState)
    last = jax.tree.map(lambda leaf: leaf[0], flow.final_state.averaged)
    there = eqx.combine(last, network)
    np.testing.assert_allclose(objective.value(there), flow.observables["loss"][0, -1], rtol=1e-12)
    np.testing.assert_allclose(flow.observables["averaged"], seen["averaged"], atol=1e-3)


def weights(net):
    return jax.flatten_util.ravel_pytree(eqx.filter(net, eqx.is_inexact_array))[0]


@pytest.mark.slow
def test_schedule_free_is_evaluated_elsewhere():
    """At the point that Optax says, in the algorithm and, of the same parameters and memory, in the equation."""
    optimizer = optax.contrib.schedule_free_sgd(0.05)
    rule = from_optax(optax.contrib.schedule_free_sgd, 0.05)
    options = dict(steps=10, observe=SEEN | {"y": lambda w: w}, keep_states=True)
    run, flow = (f(rule, BOWL, jnp.ones(2), **options) for f in (train, solve))
    params, memory = jnp.ones(2), optimizer.init(jnp.ones(2))
    for _ in range(10):
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = optimizer.update(BOWL.gradient(params), memory, params)
        params = optax.apply_updates(params, updates)
    wanted = optax.contrib.schedule_free_eval_params(memory, params)
    np.testing.assert_allclose(run.observables["averaged"][0, -1], wanted, rtol=1e-12)
    np.testing.assert_allclose(flow.observables["averaged"][0, -1], wanted, rtol=0.03)  # to its first order
    one = jax.tree.map(lambda leaf: leaf[0], flow.final_state)
    evaluated = optax.contrib.schedule_free_eval_params(one.memory, one.params)
    np.testing.assert_allclose(flow.observables["averaged"][0, -1], evaluated, rtol=1e-12)
    assert np.max(np.abs(evaluated - one.params)) > 0.01


@pytest.mark.slow
def test_compare_sees_the_average():
    """The model error is that of an Euler step, of first order."""
    for decay in (0.9, "polyak"):
        errors = []
        for kappa in (1.0, 0.5):
            rule = averaged(SGD(0.1), decay).scaling_limit().rescaled(kappa)
            found = compare(rule, BOWL, jnp.ones(2), steps=round(20 / kappa), observe=SEEN)
            errors.append(np.abs(found.moments["averaged"]["mean"].model_error.value[-1]))
        np.testing.assert_allclose(errors[0] / errors[1], 2, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("order", "rates"), [(1, [0.1, 0.05, 0.025, 0.0125]), (2, [0.05, 0.025, 0.0125, 0.00625])])
def test_the_order_of_a_series(order, rates):
    rule = modified(averaged(SGD(rates[0], 1), decay=0.9).scaling_limit().rescaled(1.0), order=order)
    report = orders(rule, BOWL, jnp.ones(2), time=1.6, transient=0.8, learning_rates=rates, observe=SEEN)
    assert report.method == "exact moments" and report.verdict["averaged"]["mean"] == "holds"
    assert abs(report.slope["averaged"]["mean"] - order) < 0.15


@pytest.mark.slow
def test_what_is_at_rest():
    """An exponential average is of a stationary state, a mean over a run is of none, and leaves that of the parameters."""
    alone = stationary(SGD(0.1, 1), BOWL, jnp.zeros(2)).covariance
    both = stationary(averaged(SGD(0.1, 1)), BOWL, jnp.zeros(2)).covariance
    mean = stationary(averaged(SGD(0.1, 1), decay="polyak"), BOWL, jnp.zeros(2)).covariance
    np.testing.assert_allclose(both[:2, :2], alone, rtol=1e-9)
    np.testing.assert_allclose(mean, alone, rtol=1e-9)
    # cov(a) = sum over the memory: c/(c + h) of the variance of theta, coordinate by coordinate
    forgets = -np.log(0.99) / 0.1
    np.testing.assert_allclose(np.diag(both)[2:], np.diag(alone) * forgets / (forgets + np.diag(HESSIAN)), rtol=1e-9)


REFUSED = {
    "decayed": (lambda: decayed(averaged(SGD(0.1)), 0.1), "`equation` must not be an average: put `averaged` outside"),
    "volumized": (lambda: volumized(averaged(SGD(0.1), "polyak"), 1.0), "`equation` must not be an average"),
    "scheduled": (lambda: scheduled(averaged(Adam(0.1)), optax.constant_schedule(1.0)), "must not be an average"),
    "series": (lambda: averaged(modified(SGD(0.1))), "`equation` must not be a series: put `modified` outside"),
    "polyak": (lambda: modified(averaged(SGD(0.1), "polyak")), "`equation` must average with a `decay`"),
    "adiabatic": (lambda: modified(averaged(SGD(0.1)), memory="adiabatic"), "`memory` must be 'dynamic'"),
    "zero": (lambda: averaged(SGD(0.1), decay=0.0), "`decay` must be 'polyak' or a number between 0 and 1"),
    "one": (lambda: averaged(SGD(0.1), decay=1.0), "`decay` must be"),
    "name": (lambda: averaged(SGD(0.1), decay="ruppert"), "`decay` must be"),
    "no equation": (lambda: averaged(optax.sgd(0.1)), "`equation` must be an equations.AbstractEquation"),
    "no average": (
        lambda: solve(SGD(0.1), BOWL, jnp.ones(2), steps=1, observe=SEEN), "must keep an average of the weights",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    call, words = REFUSED[kind]
    with pytest.raises((TypeError, ValueError), match=words):
        call()

"""SVAG: at one substep the algorithm, at l of them the exact moments of its scheme, which tend to the equation's as 1/l."""

import functools

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from marks import some
from numpy.testing import assert_allclose
from oracles import deviations
from registry import EQUATIONS

import dynamics._paths.svag as svag
from dynamics import SVAG, solve, train
from dynamics.internal import Method, Problem, path_of
from equations import (
    SGD,
    Langevin,
    Momentum,
    Objective,
    OptimisticGradient,
    averaged,
    clipped,
    decayed,
    from_optax,
    scheduled,
)
from validation import compare

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 2)) * [1.0, 0.5], RNG.normal(size=8)
START = jnp.array([1.0, -1.0])
OBSERVE = {"w": lambda w: w}


def loss(w, example):
    return 0.5 * (example[0] @ w - example[1]) ** 2


OBJECTIVE = Objective(loss, (X, Y))
FADING = optax.linear_schedule(1.0, 0.1, 20)
AFFINE = {
    "sgd": SGD(0.1, 2),
    "momentum": Momentum(0.05, 2),
    "nesterov": Momentum(0.05, 2, nesterov=True),
    "optimistic": OptimisticGradient(0.05, 2),
    "optax": from_optax(optax.sgd, 0.05, 2, momentum=0.9),
    "langevin": Langevin(0.1, 2, temperature=0.1),
    "subsets": SGD(0.1, 4, "without_replacement"),
    "scheduled": scheduled(Momentum(0.1, 2), FADING),
    "batch_sizes": scheduled(SGD(0.1, 4), FADING, batch_size=lambda k: 2 + 2 * (k > 5)),
    "decayed": decayed(Momentum(0.1, 2), 0.1),
    "private": clipped(SGD(0.1, 2), 1.0, 0.1),
    "averaged": averaged(SGD(0.1, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", some(AFFINE, {"sgd", "momentum", "batch_sizes"}))
def test_one_substep_is_the_algorithm(name, key):
    """On the batches that `train` draws with the same key, to rounding."""
    how = dict(steps=12, key=key, paths=3, observe=OBSERVE, save_every=4)
    flow, run = (
        solve(AFFINE[name], OBJECTIVE, START, solver=SVAG(1), **how),
        train(AFFINE[name], OBJECTIVE, START, **how),
    )
    assert_allclose(flow.observables["w"], run.observables["w"], rtol=1e-12, atol=1e-14)
    assert dict(flow.details)["gradients"].startswith("1 times")


# Of the affine ones those that are not above.
REGISTERED = {
    name: entry for name, entry in EQUATIONS.items() if name not in ("sgd", "momentum", "nesterov", "langevin")
}

# The moments of (theta, m, 1), of which a gradient K z is linear, in one substep and in time.
K = np.stack([np.block([[x[:, None] * x, np.zeros((2, 2)), -y * x[:, None]]]) for x, y in zip(X, Y, strict=True)])


@functools.cache
def maps(rate, momentum, l):  # noqa: E741
    """S0, S1 of z' = S0 z + S1 g in a substep; of heavy balls the memory first. Without momentum m is not there."""
    h, unit = rate / l, np.eye(2)
    free, push = np.eye(5), np.zeros((5, 2))
    if momentum is None:
        push[:2] = -h * unit
    else:
        free[2:4, 2:4] = (1 - (1 - momentum) / l) * unit
        free[:2, 2:4] = -h * free[2:4, 2:4]
        push[:2], push[2:4] = -h / l * unit, unit / l
    return free, push


def spread(push):
    """E[(push c) (push c)^T] for the deviation c of one example, as a map of second moments."""
    each = [np.kron(push @ (k - K.mean(0)), push @ (k - K.mean(0))) for k in K]
    return np.mean(each, axis=0)


def moments(transfer):
    z = np.array([*np.asarray(START), 0.0, 0.0, 1.0])
    second = (transfer @ np.outer(z, z).ravel()).reshape(5, 5)
    return second[:2, 4], second[:2, :2] - np.outer(second[:2, 4], second[:2, 4])


def of_scheme(rate, momentum, steps, l, pair=None, batch=2):  # noqa: E741
    """Exact mean and covariance after `steps` training steps of SVAG with the weights `pair`."""
    pair = svag.weights(l) if pair is None else pair
    free, push = maps(rate, momentum, l)
    mean = free + sum(pair) * push @ K.mean(0)
    one = np.kron(mean, mean) + (pair[0] ** 2 + pair[1] ** 2) / batch * spread(push)
    return moments(np.linalg.matrix_power(one, l * steps))


def of_equation(rate, momentum, steps, batch=2):
    """Exact mean and covariance of the equation."""
    drift, push, unit = np.zeros((5, 5)), np.zeros((5, 2)), np.eye(2)
    if momentum is None:
        push[:2] = -unit
    else:
        drift[:2, 2:4], drift[2:4, 2:4], push[2:4] = -unit, -(1 - momentum) / rate * unit, unit / rate
    drift += push @ K.mean(0)
    rates = np.kron(drift, np.eye(5)) + np.kron(np.eye(5), drift) + rate / batch * spread(push)
    return moments(scipy.linalg.expm(rate * steps * rates))


def off(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.mark.parametrize("momentum", [None, 0.8])
def test_moments_tend_to_the_equations(momentum):
    """With slope 1 in 1/l; twice those at 2l less those at l with slope 2."""
    rate, steps = 0.2, 10
    exact = of_equation(rate, momentum, steps)
    errors, extrapolated = [], []
    for l in (8, 16, 32, 64):  # noqa: E741
        coarse, fine = of_scheme(rate, momentum, steps, l), of_scheme(rate, momentum, steps, 2 * l)
        errors.append([off(a, b) for a, b in zip(coarse, exact, strict=True)])
        extrapolated.append([off(2 * b - a, c) for a, b, c in zip(coarse, fine, exact, strict=True)])
    slopes, steeper = (np.log2(np.array(error)[:-1] / np.array(error)[1:]) for error in (errors, extrapolated))
    assert np.all(np.abs(slopes - 1) < 0.1) and np.all(np.abs(steeper[-1] - 2) < 0.2), (slopes, steeper)


def test_wrong_weights_have_other_limits():
    """(1 +- sqrt(2l + 1))/2, of squares l + 1: their covariance tends to that of the equation too, but is not the scheme's
    at any l, and at l = 1 they are not the algorithm."""
    wrong = lambda l: ((1 + (2 * l + 1) ** 0.5) / 2, (1 - (2 * l + 1) ** 0.5) / 2)  # noqa: E731, E741
    for l in (1, 2, 4):  # noqa: E741
        assert np.isclose(sum(w**2 for w in svag.weights(l)), l) and np.isclose(sum(wrong(l)), 1)
        mine, other = of_scheme(0.2, None, 10, l), of_scheme(0.2, None, 10, l, wrong(l))
        assert off(other[1], mine[1]) > 0.8 / l


def sampled(equation, l, key, paths):  # noqa: E741
    run = solve(
        equation, OBJECTIVE, START, steps=10, key=key, paths=paths, observe=OBSERVE, save_every=10, solver=SVAG(l)
    )
    return np.asarray(run.observables["w"][:, -1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "momentum, paths", [(None, 8000), *(pytest.param(m, 80_000, marks=pytest.mark.slow) for m in (None, 0.8))]
)
def test_sampled_moments_are_those_of_the_scheme(momentum, paths, key, monkeypatch):
    """Within four standard errors, in the slow tests of less than a hundredth; wrong weights are not."""
    equation = SGD(0.2, 2) if momentum is None else Momentum(0.2, 2, momentum=momentum)
    exact = of_scheme(0.2, momentum, 10, 3)
    found, bars = deviations(sampled(equation, 3, key, paths), *exact)
    assert found.max() < 4 and bars < 0.01 * (80_000 / paths) ** 0.5
    monkeypatch.setattr(svag, "weights", lambda l: ((1 + (2 * l + 1) ** 0.5) / 2, (1 - (2 * l + 1) ** 0.5) / 2))
    assert deviations(sampled(equation, 3, key, paths + 1), *exact)[0].max() > 8
    monkeypatch.undo()
    drawn = svag.Pairs._drawn  # the same pair of batches in all substeps
    monkeypatch.setattr(svag.Pairs, "_drawn", lambda self, step, number, which: drawn(self, step, 0 * number, which))
    assert deviations(sampled(equation, 3, key, paths + 2), *exact)[0].max() > 8


@pytest.mark.slow
def test_a_schedule_is_held_within_a_training_step(key):
    """On examples that are all alike nothing is random: Euler's steps of a fourth, by hand."""
    alike = Objective(loss, (np.ones((2, 2)), np.zeros(2)))
    equation = scheduled(SGD(0.1, 2), lambda k: 0.5**k)
    run = solve(equation, alike, START + 1, steps=5, key=key, observe=OBSERVE, solver=SVAG(2), substeps=2)
    w = np.asarray(START + 1)
    for k in range(5):
        for _ in range(4):
            w = w - 0.1 / 4 * 0.5**k * w.sum()
    assert_allclose(run.observables["w"][0, -1], w, rtol=1e-12)
    assert dict(run.details)["substeps"] == "4"


def test_a_step_takes_batches_alone(key):
    """Nothing that a step makes has as many rows as there are examples."""
    many = Objective(loss, (np.ones((997, 2)), np.ones(997)))
    problem = Problem.of(Momentum(0.1, 4), many, START, reads="equation").scheduled(1, 1, 1, OBSERVE)
    path = path_of(problem, Method.of(problem, SVAG(2)), 1)
    state = problem.equation.init(START)
    jaxpr = jax.make_jaxpr(lambda s: path.step(jnp.asarray(0), s, path._brownian(s, key)))(state).jaxpr

    def sizes(jaxpr):
        for eqn in jaxpr.eqns:
            yield from (size for var in eqn.outvars for size in var.aval.shape)
            for inner in jax.extend.core.jaxprs_in_params(eqn.params):
                yield from sizes(inner)

    assert 997 not in set(sizes(jaxpr)) and 4 in set(sizes(jaxpr))


@pytest.mark.slow
def test_it_goes_on_to_the_bit(key):
    how = dict(paths=3, observe=OBSERVE, solver=SVAG(2))
    whole = solve(AFFINE["momentum"], OBJECTIVE, START, steps=8, key=key, **how)
    half = solve(AFFINE["momentum"], OBJECTIVE, START, steps=4, key=key, **how)
    rest = solve(AFFINE["momentum"], OBJECTIVE, start=half, steps=4, **how)
    assert np.array_equal(whole.observables["w"][:, 4:], rest.observables["w"])


@pytest.mark.parametrize(
    "name", some(REGISTERED, [n for n, e in REGISTERED.items() if not e.equation.is_affine(e.equation.init(START))])
)
def test_registered_equations(name, key):
    """Where the velocity is affine, one substep is the algorithm; all others are refused by name."""
    equation, start = REGISTERED[name].equation, jnp.array([0.5, -0.5])
    how = dict(steps=3, key=key, observe=OBSERVE)
    if equation.is_affine(equation.init(start)):
        flow = solve(equation, OBJECTIVE, start, solver=SVAG(1), **how)
        run = train(equation, OBJECTIVE, start, **how)
        assert_allclose(flow.observables["w"], run.observables["w"], rtol=1e-12, atol=1e-14)
    else:
        with pytest.raises(ValueError, match=f"{type(equation).__name__}, whose velocity is not affine"):
            solve(equation, OBJECTIVE, start, solver=SVAG(2), **how)


@pytest.mark.slow
def test_compare_tells_the_error_in_the_number_of_substeps(key):
    """The solver error is what extrapolation from l to 2l says, and the model error what is left: those of the equation."""
    equation = SGD(0.2, 2)
    result = compare(
        equation, OBJECTIVE, START, steps=10, key=key, paths=40_000, observe=OBSERVE, save_every=10, solver=SVAG(2)
    )
    coarse, fine, discrete = (of_scheme(0.2, None, 10, l) for l in (2, 4, 1))  # noqa: E741
    for part, at in (("mean", lambda m: m[0]), ("variance", lambda m: np.diag(m[1]))):
        moment = result.moments["w"][part]
        solver_error = 2 * (at(coarse) - at(fine))
        for found, wanted in (
            (moment.solver_error, solver_error),
            (moment.model_error, at(coarse) - solver_error - at(discrete)),
            (moment.extrapolated, at(coarse) - solver_error),
        ):
            assert np.all(np.abs(found.value[-1] - wanted) < 4 * found.error[-1])
        assert dict(result.refined.details)["substeps"] == "4"

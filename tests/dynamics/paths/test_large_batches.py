"""Steps of many training steps on large batches: the exact moments of their scheme, which tend to the equation's."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from numpy.testing import assert_allclose
from oracles import deviations

from dynamics import LargeBatches, solve, train
from dynamics._paths.large_batches import Groups
from equations import (
    SGD,
    Adam,
    Langevin,
    Momentum,
    Objective,
    OptimisticGradient,
    Population,
    clipped,
    modified,
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
# Gradients K z of single examples, z = (w, 1), into the place of w.
K = np.stack([np.block([[np.outer(x, x), -y * x[:, None]], [np.zeros((1, 3))]]) for x, y in zip(X, Y, strict=True)])
MEAN, AWAY = K.mean(0), K - K.mean(0)


def moments(second):
    z = np.array([*np.asarray(START), 1.0])
    square = (second @ np.outer(z, z).ravel()).reshape(3, 3)
    return square[:2, 2], square[:2, :2] - np.outer(square[:2, 2], square[:2, 2])


@functools.cache
def of_scheme(rate, steps, n, batch=2):
    """Exact mean and covariance after `steps` training steps: of a step E[M x M] for M = I - h (b1 A + b2 B (1 - a h A)),
    A and B the means of `early` and `late` batches."""
    early, late, h, unit = n // 2, n - n // 2, n * rate, np.eye(3)
    a, b1, b2 = n / (2 * late), early / n, late / n

    def step(A, B):
        return unit - h * (b1 * A + b2 * B @ (unit - a * h * A))

    zero = np.zeros((3, 3))
    mean = step(MEAN, MEAN)
    first = [step(MEAN + d, MEAN) - mean for d in AWAY]
    second = [step(MEAN, MEAN + d) - mean for d in AWAY]
    both = [h**2 * b2 * a * e @ d for d, e in itertools.product(AWAY, AWAY)]
    kron = lambda parts: np.mean([np.kron(m, m) for m in parts], axis=0)  # noqa: E731
    one = np.kron(mean, mean) + kron(second) / (late * batch)
    if early:
        one += kron(first) / (early * batch) + kron(both) / (early * late * batch**2)
    assert np.allclose(step(zero, zero), unit)
    return moments(np.linalg.matrix_power(one, steps // n))


def of_equation(rate, steps, batch=2):
    noise = rate / batch * np.mean([np.kron(d, d) for d in AWAY], axis=0)
    rates = -np.kron(MEAN, np.eye(3)) - np.kron(np.eye(3), MEAN) + noise
    return moments(scipy.linalg.expm(rate * steps * rates))


def off(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.mark.parametrize("n", [4, 5])
def test_moments_tend_to_the_equations(n):
    """With slope 2 in the length of a step at a fixed number of training steps in it, those of even and of odd ones."""
    errors = []
    for halvings in range(4):
        rate, steps = 0.05 / 2**halvings, 40 * 2**halvings
        pairs = zip(of_scheme(rate, steps, n), of_equation(rate, steps), strict=True)
        errors.append([off(*pair) for pair in pairs])
    slopes = np.log2(np.array(errors)[:-1] / np.array(errors)[1:])
    assert np.all(np.abs(slopes[-1] - 2) < 0.15), slopes
    assert off(of_scheme(0.05, 40, 4)[1], of_equation(0.05, 40)[1]) < 0.05


def sampled(key, paths, n=4):
    how = dict(steps=20, key=key, paths=paths, observe=OBSERVE, save_every=20)
    run = solve(SGD(0.1, 2), OBJECTIVE, START, solver=LargeBatches(n), **how)
    assert dict(run.details)["gradients"].startswith("1 times")
    return np.asarray(run.observables["w"][:, -1])


@pytest.mark.slow
@pytest.mark.parametrize("paths", [8000, pytest.param(80_000, marks=pytest.mark.slow)])
def test_sampled_moments_are_those_of_the_scheme(paths, key, monkeypatch):
    """Within four standard errors, in the slow test of less than a hundredth. Those of a step on one batch are not, whose
    noise is n times as large, nor those of n^2 batches."""
    exact, gradient = of_scheme(0.1, 20, 4), Groups.gradient
    found, bars = deviations(sampled(key, paths), *exact)
    assert found.max() < 4 and bars < 0.01 * (80_000 / paths) ** 0.5
    for extra, wrong in enumerate((lambda count: 1, lambda count: 4 * count)):
        monkeypatch.setattr(Groups, "gradient", lambda *args, wrong=wrong: gradient(*args[:-1], wrong(args[-1])))
        assert deviations(sampled(key, paths + 1 + extra), *exact)[0].max() > 8


@pytest.mark.slow
def test_one_batch_is_the_algorithm_and_all_lengths_go_by_its_batches(key):
    """Where the noise does not depend on the state all of it is the same, and where nothing pulls, all of the path."""
    how = dict(steps=12, key=key, paths=3, observe=OBSERVE, save_every=12)
    for equation in (Momentum(0.05, 2),):
        run = train(equation, OBJECTIVE, START, **how)
        flow = solve(equation, OBJECTIVE, START, solver=LargeBatches(1), **how)
        assert_allclose(flow.observables["w"], run.observables["w"], rtol=1e-12)
    free = Objective(lambda w, example: jnp.dot(w, example[0]), (X, Y))
    run = train(SGD(0.1, 2, "without_replacement"), free, START, **how)
    for n, substeps in ((3, 1), (12, 2)):
        flow = solve(
            SGD(0.1, 2, "without_replacement"), free, START, solver=LargeBatches(n), substeps=substeps, **how
        )  # fmt: skip
        assert_allclose(flow.observables["w"], run.observables["w"], rtol=1e-12)
        assert_allclose(flow.times, run.times, rtol=1e-12)
        np.testing.assert_array_equal(flow.steps, run.steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    "equation, n",
    [
        (Momentum(0.002, 2, momentum=0.95), 2),
        (Langevin(0.01, 2, temperature=0.1), 4),
        (clipped(SGD(0.01, 2), 1.0, 0.1), 4),
    ],
)
def test_rules_with_memory_and_what_is_injected(equation, n, key):
    """Means and variances of the default solver's, within four standard errors."""
    how = dict(steps=40, paths=20_000, observe=OBSERVE, save_every=40)
    one = solve(equation, OBJECTIVE, START, key=key, solver=LargeBatches(n), **how).observables["w"][:, -1]
    two = solve(equation, OBJECTIVE, START, key=jax.random.fold_in(key, 1), **how).observables["w"][:, -1]
    for a, b in ((one, two), *([((x - x.mean(0)) ** 2 for x in (one, two))])):
        error = np.sqrt((np.var(a, 0) + np.var(b, 0)) / len(a))
        assert np.all(np.abs(np.mean(a, 0) - np.mean(b, 0)) < 4 * error)


@pytest.mark.slow
def test_compare_tells_the_solver_error_by_half_the_length(key):
    result = compare(
        SGD(0.1, 2),
        OBJECTIVE,
        START,
        steps=20,
        key=key,
        paths=20_000,
        observe=OBSERVE,
        save_every=20,
        solver=LargeBatches(10),
    )
    coarse, fine = (of_scheme(0.1, 20, n)[0] for n in (10, 5))
    discrete = (np.linalg.matrix_power(np.eye(3) - 0.1 * MEAN, 20) @ [*np.asarray(START), 1.0])[:2]
    assert dict(result.flow.details)["solver"] == "LargeBatches(n=10)"
    moment = result.moments["w"]["mean"]
    solver = (coarse - fine) * 4 / 3
    assert np.all(np.abs(moment.solver_error.value[-1] - solver) < 4 * moment.solver_error.error[-1])
    assert np.all(
        np.abs(moment.model_error.value[-1] - (coarse - solver - discrete)) < 4 * moment.model_error.error[-1]
    )


@pytest.mark.slow
def test_batches_of_what_has_no_end(key):
    infinite = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), Population(lambda key: jax.random.normal(key, (2,))))
    run = solve(
        SGD(0.01, 4),
        infinite,
        START,
        steps=40,
        key=key,
        paths=400,
        save_every=40,
        observe=OBSERVE,
        solver=LargeBatches(8),
    )
    w = np.asarray(run.observables["w"][:, -1])
    assert np.all(np.abs(w.mean(0) - np.exp(-0.4) * np.asarray(START)) < 4 * w.std(0) / 20)
    assert np.all(np.abs(w.var(0) / (0.005 / 4 * (1 - np.exp(-0.8))) - 1) < 4 * (2 / 400) ** 0.5)


REFUSED = {
    "second degree": (Adam(0.1, 2), {}, "Adam, whose velocity is not affine"),
    "epochs": (SGD(0.1, 2, "shuffled"), {}, "whose batches are shuffled epochs"),
    "series": (modified(SGD(0.1, 2)), {}, "whose drift is more than the velocity"),
    "jump": (scheduled(SGD(0.1, 2), optax.piecewise_constant_schedule(1.0, {3: 0.5})), {}, "jumps with training step 3"),
    "batch sizes": (scheduled(SGD(0.1, 2), batch_size=lambda k: 2 + (k > 3)), {}, "belongs to whole training steps"),
    "first step": (OptimisticGradient(0.1, 2), {}, "whose first step is the algorithm's"),
    "no length": (SGD(0.1, 2), {"solver": LargeBatches()}, "Argument `n` must be given for LargeBatches without"),
    "records": (SGD(0.1, 2), {"solver": LargeBatches(3)}, "Argument `n` must be a divisor of `save_every`, 4"),
    "parts": (SGD(0.1, 2), {"substeps": 3}, "Argument `substeps` must be a divisor of `n`"),
    "states": (SGD(0.1, 2), {"keep_states": True}, "Argument `keep_states` must be left out with LargeBatches"),
    "error and length": (SGD(0.1, 2), {"solver_error": 0.1, "observe": OBSERVE}, "Argument `n` must be None with"),
    "odd records": (
        SGD(0.1, 2),
        {"solver_error": 0.1, "observe": OBSERVE, "solver": LargeBatches(), "save_every": 1},
        "whose steps have halves, where `save_every` is 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name, key):
    equation, more, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        solve(equation, OBJECTIVE, START, **dict(steps=8, save_every=4, key=key, solver=LargeBatches(4)) | more)


def test_compare_needs_a_length_with_halves(key):
    with pytest.raises(ValueError, match="Argument `n` must be an even number from 4 on"):
        compare(SGD(0.1, 2), OBJECTIVE, START, steps=8, save_every=2, key=key, observe=OBSERVE, solver=LargeBatches(2))

"""A drift that is a mean over fixed keys of a random loss has an error of its own, which is none of the model's."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import train
from dynamics.internal import Problem
from equations import SGD, Objective, clipped
from validation import compare
from validation._compare.sampling import sampling_errors
from validation._compare.statistics import moments
from validation._compare.student import deviations
from validation._compare.table import table

CASES = [
    ("error of a sampled drift", "instance", "in every number of the table", "test_a_moment_has_it"),
    ("error of a sampled drift", "brother", "dropout on inputs, four keys", "test_it_is_in_the_error_bars"),
    ("error of a sampled drift", "brother", "clipped, and a start", "test_clipped_from_a_start"),
    ("error of a sampled drift", "brother", "its size, of a gradient", "test_its_size"),
    ("error of a sampled drift", "brother", "mutant: half of the drift more", "test_mutant_with_enough_draws"),
    ("error of a sampled drift", "brother", "none where the mean is given", "test_an_exact_drift_has_none"),
]
KEEP, ETA, STEPS = 0.5, 0.02, 20
X = np.array([[1.0, 0.5], [-1.0, 0.5], [0.5, -1.0], [-0.5, 0.3]])
Y = np.array([1.0, -1.0, 0.5, 0.2])
W, KEY = jnp.array([0.9, -0.4]), jax.random.key(0)
SEEN = {"w": lambda w: w}


def loss(w, example, key):
    x, y = example
    kept = jax.random.bernoulli(key, KEEP, x.shape).astype(x.dtype)
    return 0.5 * (y - jnp.dot(w, x * kept) / KEEP) ** 2


def ridge(w, example):
    x, y = example
    return 0.5 * (y - jnp.dot(w, x)) ** 2 + (1 - KEEP) / (2 * KEEP) * jnp.sum(w**2 * x**2)


def held(draws=None, equation=None, objective=None, **options):
    objective = objective or Objective(loss, (X, Y), random=True, draws=draws)
    options = dict(steps=STEPS, key=KEY, paths=200, save_every=STEPS, observe=SEEN) | options
    return compare(equation or SGD(ETA, 4), objective, W, **options)


def off(moment):
    """How far the model error is from zero, as many standard deviations of a normal number."""
    return deviations(moment.model_error.value[-1], moment.model_error.error[-1], moment.freedom[-1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Argument `draws` must be larger")
def test_it_is_in_the_error_bars():
    """The equation holds; by the paths' error alone it would be rejected."""
    result = held(4)
    mean = result.moments["w"]["mean"]
    assert np.all(off(mean) < 3) and np.all(mean.freedom[-1] < 9)
    alone = np.sqrt(mean.model_error.error[-1] ** 2 - mean.sampling[-1] ** 2)
    assert np.max(np.abs(mean.model_error.value[-1]) / alone) > 5
    assert "It is in the errors, by 8 runs with other keys." in table(result)
    assert np.all(mean.sampling[0] == 0) and np.all(mean.solver_error.error[-1] < mean.sampling[-1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Argument `draws` must be larger")
def test_clipped_from_a_start():
    objective = Objective(loss, (X, Y), random=True, draws=4)
    half = train(clipped(SGD(ETA, 4), norm=10.0), objective, W, steps=2, key=KEY, paths=60)
    result = compare(
        clipped(SGD(ETA, 4), norm=10.0), objective, start=half, steps=STEPS, save_every=STEPS, observe=SEEN
    )
    assert np.all(off(result.moments["w"]["mean"]) < 3.5) and np.all(result.moments["w"]["mean"].sampling[-1] > 1e-3)


@pytest.mark.slow
def test_its_size():
    """That of a gradient, which is known: within a factor of two (eight sets tell it to a quarter)."""
    objective = Objective(loss, (X, Y), random=True, draws=16)
    problem = Problem.of(SGD(ETA, 4), objective, W).scheduled(1, 20, 1, SEEN)

    def solved(problem):
        gradient = np.asarray(problem.signal.gradient(W))
        values = np.broadcast_to(np.stack([np.zeros(2), gradient]), (problem.paths, 2, 2))
        return SimpleNamespace(ok=np.ones(problem.paths, bool), observables={"w": values})

    found = sampling_errors(problem, solved)["w"]
    ratio = found["mean"][1] / np.asarray(objective.gradient_error(W))
    assert np.all((ratio > 0.5) & (ratio < 2)) and np.all(found["mean"][0] == 0) and np.all(found["variance"] == 0)
    exact = Objective(loss, (X, Y), random=True, mean=ridge)
    assert sampling_errors(Problem.of(SGD(ETA, 4), exact, W).scheduled(1, 20, 1, SEEN), solved) is None


def test_a_moment_has_it():
    """In the errors of the equation, the difference and the model error, with the freedom of eight sets."""
    rng = np.random.default_rng(0)
    sides = [rng.normal(size=(400, 3)) for _ in range(3)]
    off_by = {"mean": np.array([0.0, 0.1, 1.0]), "variance": np.array([0.0, 0.2, 2.0])}
    plain, found = (moments(*sides, 2, sampling=given) for given in (None, off_by))
    for kind, more in off_by.items():
        for part in ("equation", "difference", "model_error", "extrapolated"):
            before, after = getattr(plain[kind], part), getattr(found[kind], part)
            np.testing.assert_allclose(after.error, np.hypot(before.error, more))
            np.testing.assert_array_equal(after.value, before.value)
        np.testing.assert_array_equal(found[kind].solver_error.error, plain[kind].solver_error.error)
        assert abs(found[kind].freedom[2] - 7) < 0.2 and found[kind].freedom[0] == plain[kind].freedom[0]


class Faster(SGD):
    def drift(self, t, state, signal):
        return jax.tree.map(lambda leaf: 1.5 * leaf, super().drift(t, state, signal))


@pytest.mark.slow
def test_mutant_with_enough_draws():
    assert np.max(off(held(1024, Faster(ETA, 4), paths=100).moments["w"]["mean"])) > 4


@pytest.mark.slow
def test_an_exact_drift_has_none():
    result = held(objective=Objective(loss, (X, Y), random=True, mean=ridge))
    assert result.moments["w"]["mean"].sampling is None and np.all(off(result.moments["w"]["mean"]) < 4)

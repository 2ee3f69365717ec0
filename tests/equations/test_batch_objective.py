"""Losses of batches: their mean and noise by all subsets, and the batches of the algorithm."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve, train
from equations import SGD, Objective, Population, Stored, batch_objective, noise_operator

X = jnp.array([0.2, -1.0, 0.7, 1.5, -0.4])
WEIGHT = jnp.array(0.8)


def spread(w, batch):
    """(Var_batch(w x) - 1)^2, whose mean over batches is no mean over examples."""
    return (jnp.var(w * batch) - 1) ** 2


SUBSETS = np.array(list(itertools.combinations(range(5), 3)))
GRADIENTS = np.array([jax.grad(spread)(WEIGHT, X[jnp.array(subset)]) for subset in SUBSETS])
PARTS = batch_objective(spread, X, 3)


@pytest.mark.slow
def test_mean_and_noise_are_those_of_all_subsets():
    """The gradient at the whole data is the mutant; so is the covariance with replacement of single examples."""
    assert float(PARTS.gradient(WEIGHT)) == pytest.approx(GRADIENTS.mean(), rel=1e-12)
    assert abs(float(jax.grad(spread)(WEIGHT, X)) - GRADIENTS.mean()) > 0.05 * abs(GRADIENTS.mean())
    root = noise_operator(PARTS, WEIGHT, 1).as_matrix()
    assert float(jnp.sum(root**2)) == pytest.approx(GRADIENTS.var(), rel=1e-12)


def test_the_algorithm_takes_a_batch_at_a_time(key):
    run = train(SGD(0.1, batch_size=1), PARTS, WEIGHT, steps=1, key=key, paths=200, save_every=1)
    steps = (np.asarray(run.final) - 0.8) / -0.1
    assert np.all(np.min(np.abs(steps[:, None] - GRADIENTS), axis=1) < 1e-12) and len(np.unique(steps.round(9))) == 10


@pytest.mark.slow
def test_of_more_subsets_than_draws(key):
    """Fresh batches in the algorithm, none of which holds an example twice; the drift by `draws` of them."""
    many = batch_objective(spread, X, 3, draws=9)
    run = train(SGD(0.1, batch_size=1), many, WEIGHT, steps=1, key=key, paths=200)
    steps = (np.asarray(run.final) - 0.8) / -0.1
    assert np.all(np.min(np.abs(steps[:, None] - GRADIENTS), axis=1) < 1e-12) and len(np.unique(steps.round(9))) == 10
    wide = batch_objective(spread, X, 3, draws=4000, sampling="with_replacement", key=jax.random.key(1))
    pairs = X[jnp.array(list(itertools.product(range(5), repeat=3)))]
    gradients = np.array(jax.vmap(lambda batch: jax.grad(spread)(WEIGHT, batch))(pairs))
    error = gradients.std() / 4000**0.5
    assert abs(float(wide.gradient(WEIGHT)) - gradients.mean()) < 3 * error
    assert abs(GRADIENTS.mean() - gradients.mean()) > 5 * error


def test_from_storage(key):
    stored = batch_objective(spread, Stored(np.asarray(X)), 3)
    run = train(SGD(0.1, batch_size=1), stored, WEIGHT, steps=1, key=key, paths=20)
    steps = (np.asarray(run.final) - 0.8) / -0.1
    assert np.all(np.min(np.abs(steps[:, None] - GRADIENTS), axis=1) < 1e-12)


def test_the_full_batch_is_exact():
    whole = batch_objective(spread, X)
    run = train(SGD(0.1), whole, WEIGHT, steps=1)
    assert float(run.final[0]) == pytest.approx(0.8 - 0.1 * float(jax.grad(spread)(WEIGHT, X)), rel=1e-14)


@pytest.mark.slow
def test_barlow_twins_stands_in_its_equation(key):
    """Variance of a run of Barlow's loss, algorithm against equation; without the noise of batches there is none."""
    views = jax.random.normal(key, (8, 3))
    pair = views, views + 0.3 * jax.random.normal(jax.random.key(1), (8, 3))

    def barlow(W, batch):
        a, b = (part @ W.T for part in batch)
        return jnp.sum((a.T @ b / len(a) - jnp.eye(2)) ** 2) / 2

    objective = batch_objective(barlow, pair, 4)
    options = dict(steps=400, key=key, paths=400, observe={"loss": objective.value}, save_every=400)
    start = 0.3 * jnp.ones((2, 3)) + 0.1 * jnp.arange(6.0).reshape(2, 3)
    runs = [
        run(SGD(0.01, batch_size=1), objective, start, **options).observables["loss"][:, -1] for run in (train, solve)
    ]
    (a, b), (va, vb) = ([float(f(x)) for x in runs] for f in (jnp.mean, jnp.var))
    assert abs(a - b) < 4 * ((va + vb) / 400) ** 0.5 + 0.02 * a and abs(va / vb - 1) < 0.4 and va > 0


def test_refusals(key):
    for name, call in (("batch_size", lambda: batch_objective(spread, X, 6)),
                       ("batch_size", lambda: batch_objective(spread, X, 1)),
                       ("batch_size", lambda: batch_objective(spread, Stored(np.asarray(X)))),
                       ("data", lambda: batch_objective(spread, Population(jax.random.normal), 3)),
                       ("sampling", lambda: batch_objective(spread, X, 3, sampling="shuffled")),
                       ("loss", lambda: batch_objective(None, X, 3)),
                       ("draws", lambda: batch_objective(spread, X, 3, draws=1)),
                       ("loss", lambda: train(SGD(0.1, batch_size=1), batch_objective(lambda w, b: w * b, X, 3), WEIGHT,
                                              steps=1, key=key)),
                       ("sampling", lambda: train(SGD(0.1, batch_size=1, sampling="shuffled"),
                                                  batch_objective(spread, X, 3, draws=9), WEIGHT, steps=1, key=key)),
                       ("batch_size", lambda: train(SGD(0.1), batch_objective(spread, X, 3, draws=9), WEIGHT, steps=1)),
                       ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=f"Argument `{name}`"):
            call()
    assert isinstance(PARTS, Objective)

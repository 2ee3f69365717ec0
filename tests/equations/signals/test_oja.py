"""Oja's rule: a learning signal that is no gradient, under SGD, against its exact solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from dynamics import minibatches, solve, train
from equations import SGD, Oja


def inputs(examples=30, dimension=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(examples, dimension)) * np.array([1.4, 1.0, 0.7, 0.4]) + np.array([0.3, 0.0, 0.0, -0.2])


X = inputs()
SIGNAL = Oja(X)
COVARIANCE = X.T @ X / len(X)
START = np.array([0.1, -0.3, 0.2, 0.4])


def exact(time):
    """w(t) = e^{Ct} w0 / sqrt(1 - |w0|^2 + |e^{Ct} w0|^2)."""
    moved = scipy.linalg.expm(COVARIANCE * time) @ START
    return moved / np.sqrt(1 - START @ START + moved @ moved)


@pytest.mark.slow
def test_exact_solution():
    flow = solve(SGD(learning_rate=0.05), SIGNAL, START, steps=100, observe={"w": lambda w: w}, save_every=10)
    found = np.asarray(flow.observables["w"][0])
    error = np.abs(found - np.array([exact(t) for t in np.asarray(flow.times)])).max()
    euler = train(SGD(learning_rate=0.05), SIGNAL, START, steps=100).final[0]
    print(f"\nOja: {error:.1e} from the exact solution; the discrete rule {np.abs(euler - exact(5.0)).max():.1e}")
    assert error < 1e-6


def test_exact_solution_satisfies_the_equation():
    """The oracle itself, and the signal's mean: dw/dt = C w - (w.C w) w."""
    slope = (exact(0.7 + 1e-5) - exact(0.7 - 1e-5)) / 2e-5
    w = exact(0.7)
    np.testing.assert_allclose(slope, COVARIANCE @ w - (w @ COVARIANCE @ w) * w, atol=1e-8)
    np.testing.assert_allclose(-SIGNAL.gradient(jnp.asarray(w)), slope, atol=1e-8)


@pytest.mark.slow
def test_converges_to_the_top_eigenvector():
    values, vectors = np.linalg.eigh(COVARIANCE)
    steps = round(30 / (0.05 * (values[-1] - values[-2])))
    final = np.asarray(solve(SGD(0.05), SIGNAL, START, steps=steps, save_every=steps).final[0])
    np.testing.assert_allclose(final * np.sign(final @ vectors[:, -1]), vectors[:, -1], atol=1e-6)


@pytest.mark.slow
def test_noisy_paths_stay_around_the_top_eigenvector(key):
    top = np.linalg.eigh(COVARIANCE)[1][:, -1]
    final = np.asarray(solve(SGD(0.02, 4), SIGNAL, START, steps=400, key=key, paths=200, save_every=400).final)
    cosine = np.abs(final @ top) / np.linalg.norm(final, axis=1)
    assert np.mean(cosine) > 0.9 and np.ptp(cosine) > 0


def test_it_is_not_a_gradient():
    """The derivative of a gradient is symmetric; that of this signal is not: C - (2 w w^T C + (w.C w) 1), negated."""
    w = jnp.asarray(START)
    jacobian = np.asarray(jax.jacfwd(SIGNAL.gradient)(w))
    expected = -(COVARIANCE - 2 * np.outer(START, COVARIANCE @ START) - (START @ COVARIANCE @ START) * np.eye(4))
    np.testing.assert_allclose(jacobian, expected, atol=1e-12)
    assert np.linalg.norm(jacobian - jacobian.T) > 0.1 * np.linalg.norm(jacobian)


@pytest.mark.slow
def test_twin_is_the_textbook_update(key):
    """w' = w + eta y (x - y w), y = w.x, averaged over the batch."""
    eta, steps = 0.05, 20
    for batch_size in (1, 4):
        sgd = SGD(eta, batch_size)
        run = train(sgd, SIGNAL, START, steps=steps, key=key)
        w = START
        for batch in np.asarray(minibatches(sgd, SIGNAL, steps=steps, key=key)):
            y = X[batch] @ w
            w = w + eta * np.mean(y[:, None] * (X[batch] - y[:, None] * w), axis=0)
        np.testing.assert_allclose(run.final[0], w, rtol=1e-12)

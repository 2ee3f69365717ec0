"""Momentum: stationary covariances of the algorithm and of the equation in closed form; the order of the Nesterov term."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from oracles import within

from dynamics import solve, train
from equations import Momentum, Objective

HESSIAN = np.array([[1.0, 0.3], [0.3, 0.5]])
BATCH = 2


def quadratic(w, center):
    return 0.5 * jnp.dot(w - center, jnp.asarray(HESSIAN) @ (w - center))


def problem():
    """A quadratic whose gradient noise is constant and does not commute with the curvature; its covariance too."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(12, 2)) * np.array([1.0, 0.4])
    centers -= centers.mean(0)
    return Objective(quadratic, centers), HESSIAN @ np.cov(centers.T, bias=True) @ HESSIAN / BATCH


def lyapunov(matrix, source):
    """X with matrix X + X matrix^T = source."""
    return scipy.linalg.solve_continuous_lyapunov(matrix, source)


def discrete_covariance(eta, beta, noise, nesterov=False):
    """Of the parameters, from the linear map of (w, m): m' = beta m + g, w' = w - eta m' (Nesterov beta m' + g)."""
    one, h = np.eye(2), HESSIAN
    look = 1 + beta if nesterov else 1.0
    step = np.block([[one - eta * look * h, -eta * (beta**2 if nesterov else beta) * one], [h, beta * one]])
    kick = np.vstack([-eta * look * one, one])
    return scipy.linalg.solve_discrete_lyapunov(step, kick @ noise @ kick.T)[:2, :2]


def equation_covariance(eta, beta, noise, nesterov=False):
    """Of the parameters, from the Lyapunov equation of the linear stochastic differential equation."""
    one, h = np.eye(2), HESSIAN
    params = np.hstack([h, beta * one]) if nesterov else np.hstack([np.zeros((2, 2)), one])
    matrix = np.vstack([params, np.hstack([-h, (1 - beta) * one]) / eta])
    kick = np.vstack([-one * nesterov, one / eta])
    return lyapunov(matrix, eta * kick @ noise @ kick.T)[:2, :2]


def test_closed_forms_agree_with_the_theory():
    """The discrete covariance solves the published equation, and both have the same leading order in sqrt(eta)."""
    _, noise = problem()
    eta, mu, h = 0.05, 0.8, HESSIAN
    x = discrete_covariance(eta, mu, noise)
    # (1-mu)(L H X + X H L) - (1+mu^2)/(1-mu^2) L H X H L + mu/(1-mu^2) (L H L H X + X H L H L) = L C L, with L = eta.
    left = (
        (1 - mu) * eta * (h @ x + x @ h)
        - (1 + mu**2) / (1 - mu**2) * eta**2 * h @ x @ h
        + mu / (1 - mu**2) * eta**2 * (h @ h @ x + x @ h @ h)
    )
    np.testing.assert_allclose(left, eta**2 * noise, atol=1e-14)
    for nesterov in (False, True):
        errors = []
        for halving in range(6):
            eta = 0.04 / 4**halving
            beta = 1 - np.sqrt(eta)
            own = equation_covariance(eta, beta, noise, nesterov)
            errors.append(np.linalg.norm(own - discrete_covariance(eta, beta, noise, nesterov)) / np.linalg.norm(own))
        slopes = -np.diff(np.log2(errors))
        print(f"\nnesterov={nesterov}: covariances differ by {np.array(errors)}, slopes in sqrt(eta) {slopes}")
        assert errors[-1] < 0.02 and np.all(slopes > 0.8)


ETA, BETA, STEPS, PATHS = 0.05, 0.8, 120, 5000


# One of each suffices: the laws hold a step of both twins, and a kick of both equations, exactly.
@pytest.mark.slow
@pytest.mark.parametrize("nesterov", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_stationary_covariance_of_the_discrete_run(nesterov, key):
    objective, noise = problem()
    rule = Momentum(ETA, BATCH, momentum=BETA, nesterov=nesterov)
    run = train(rule, objective, jnp.zeros(2), steps=STEPS, key=key, paths=PATHS, save_every=STEPS)
    exact = discrete_covariance(ETA, BETA, noise, nesterov)
    distance = 4 * within(run.final, np.zeros(2), exact)
    lost = 4 * within(run.final, np.zeros(2), exact * BATCH)
    print(
        f"\nnesterov={nesterov}, algorithm: {distance:.1f} s.e. from its closed form, {lost:.0f} without the factor B"
    )
    assert distance < 4 < lost


@pytest.mark.slow
@pytest.mark.parametrize("nesterov", [False, True])
def test_stationary_covariance_of_the_equation(nesterov, key):
    objective, noise = problem()
    rule = Momentum(ETA, BATCH, momentum=BETA, nesterov=nesterov)
    # Two substeps: the solver's own error is then far below a standard error.
    flow = solve(rule, objective, jnp.zeros(2), steps=STEPS, key=key, paths=PATHS, save_every=STEPS, substeps=2)
    exact = equation_covariance(ETA, BETA, noise, nesterov)
    distance = 4 * within(flow.final, np.zeros(2), exact)
    lost = 4 * within(flow.final, np.zeros(2), exact * BATCH)
    print(f"\nnesterov={nesterov}, equation: {distance:.1f} s.e. from its Lyapunov solution, {lost:.0f} without B")
    assert distance < 4 < lost


def quartic(w, weight):
    return 0.5 * jnp.dot(w, jnp.asarray(HESSIAN) @ w) + 0.25 * weight * jnp.sum(w**4)


def errors(nesterov, twin_nesterov, roots):
    """Equation minus algorithm without noise, at a fixed sqrt(eta) * step of 4 with 1 - beta = sqrt(eta)."""
    objective, found = Objective(quartic, np.full(2, 0.3)), []
    base = Momentum(1.0, None, momentum=0.0)
    for root in roots:
        steps = round(4 / root)

        def rule(nesterov, root=root):
            rescaled = base.scaling_limit().rescaled(root**2)  # the equation's own scaling
            assert abs(float(rescaled.momentum) - (1 - root)) < 1e-12
            return Momentum(rescaled.learning_rate, None, momentum=rescaled.momentum, nesterov=nesterov)

        start = jnp.array([1.5, -1.0])
        flow = solve(rule(nesterov), objective, start, steps=steps, save_every=steps, substeps=2)
        run = train(rule(twin_nesterov), objective, start, steps=steps, save_every=steps)
        found.append(np.linalg.norm(flow.final[0] - run.final[0]))
    return np.array(found)


@pytest.mark.slow  # the laws of the order and of the twin see it in shorter runs
def test_order_one_in_the_root_of_the_learning_rate():
    roots = (0.05, 0.025, 0.0125)
    found = {pair: errors(*pair, roots) for pair in ((False, False), (True, True), (False, True), (True, False))}
    for (equation, twin), values in found.items():
        slopes = np.log2(values[:-1] / values[1:])
        print(f"\nequation nesterov={equation}, algorithm nesterov={twin}: errors {values}, slopes {slopes}")
        assert np.all(np.abs(slopes - 1) < 0.15)
    # The Nesterov term is the look-ahead: each algorithm is modeled better by its own equation, at the same order.
    assert np.all(found[True, True] < 0.5 * found[False, True])
    assert np.all(found[False, False] < 0.6 * found[True, False])

"""Stationary covariances with matrix learning rates, exactly: the algorithm's second moments solved, against closed forms.

Update m' = mu m + g_B, w' = w - L m', with a matrix L (2012.03636; 2102.05375, theorem 2, quoted and checked here).
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array
from oracles import squared_error

from equations import AbstractEquation, Objective
from equations._modified.increment import Increment
from equations._optimizers.momentum import MomentumState
from validation._orders.moment_equations import discrete, linear

BATCH, LABEL = 4, 0.7


class MatrixMomentum(AbstractEquation):
    """Heavy ball along matrix @ trace: d w = -matrix m dt, d m = (g - (1 - mu) m)/eta dt."""

    matrix: Array = eqx.field(kw_only=True)
    momentum: Array = eqx.field(kw_only=True)

    def init(self, params):
        return MomentumState(params, jnp.zeros_like(params))

    def params(self, state):
        return state.params

    def velocity(self, t, state, gradient):
        force = (gradient - (1 - self.momentum) * state.trace) / self.learning_rate
        return MomentumState(-self.matrix @ state.trace, force)

    def twin(self):
        step = optax.stateless(lambda trace, params: -self.learning_rate * self.matrix @ trace)
        return optax.chain(optax.trace(self.momentum), step)


def gaussian_regression(curvature, label=LABEL):
    """Least squares whose examples have the moments of x ~ N(0, curvature) up to the fourth, labels +-label around zero.

    Per dimension the points -sqrt(3), 0, 0, 0, 0, sqrt(3): noise of a gradient is of fourth degree in x.
    """
    nodes = 3**0.5 * np.array([-1.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    x = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2) @ np.linalg.cholesky(curvature).T
    x, y = np.concatenate([x, x]), np.repeat([label, -label], len(x))
    return Objective(squared_error, (x, y))


def stationary(matrix, momentum, objective):
    """Covariance of w in the stationary state of the algorithm, and the largest modulus of its map of second moments."""
    # At learning rate 1 the matrix is the whole rate.
    equation = MatrixMomentum(1.0, BATCH, matrix=jnp.asarray(matrix), momentum=jnp.asarray(momentum))
    increment = Increment.of(equation)
    system = discrete(increment, objective, increment.init(jnp.zeros(2)))
    step = np.eye(len(system.generator)) + system.generator
    map_ = np.kron(step, step) + sum(np.kron(column, column) for column in system.columns)
    # Of (state, 1) the state alone: the rest of the second moment is what drives it.
    size = len(step) - 1
    inner = (np.arange(size)[:, None] * (size + 1) + np.arange(size)).ravel()
    corner = (size + 1) ** 2 - 1
    second = np.linalg.solve(np.eye(size**2) - map_[np.ix_(inner, inner)], map_[inner, corner]).reshape(size, size)
    return second[:2, :2], np.abs(np.linalg.eigvals(map_[np.ix_(inner, inner)])).max()


A = np.array([[1.5, 0.4], [0.4, 0.6]])
L = np.array([[0.12, 0.03], [0.03, 0.2]])  # symmetric, and it does not commute with A


def bowl(w, center):
    return 0.5 * w @ A @ w - jnp.dot(center, w)


@pytest.mark.slow
@pytest.mark.parametrize("mu", [0.0, 0.8])
def test_a_matrix_learning_rate_with_momentum(mu):
    """(1-mu)(LHS+SHL) - (1+mu^2)/(1-mu^2) LHSHL + mu/(1-mu^2) (LHLHS+SHLHL) = LCL on a quadratic with constant noise."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(10, 2))
    centers -= centers.mean(0)
    objective = Objective(bowl, centers)
    noise = centers.T @ centers / len(centers) / BATCH
    s, _ = stationary(L, mu, objective)

    def sides(weight):
        left = (1 - mu) * (L @ A @ s + s @ A @ L) - (1 + mu**2) / (1 - mu**2) * L @ A @ s @ A @ L
        return left + weight * mu / (1 - mu**2) * (L @ A @ L @ A @ s + s @ A @ L @ A @ L), L @ noise @ L

    left, right = sides(1.0)
    print(f"\nmu={mu}: residual {np.abs(left - right).max():.1e} of {np.abs(right).max():.1e}")
    np.testing.assert_allclose(left, right, atol=1e-13)
    if mu:  # mutant: the last term left out
        assert np.abs(sides(0.0)[0] - right).max() > 0.05 * np.abs(right).max()


@pytest.mark.slow
@pytest.mark.parametrize("mu", [0.0, 0.8])
def test_linear_regression_with_its_multiplicative_noise(mu):
    """S = (sigma^2/B)(1 + kappa/B) L G^-1, C = (1/B)(A S A + tr(A S) A + sigma^2 A), for a rate that commutes with A."""
    objective = gaussian_regression(A)
    rate = 0.1 * np.eye(2) + 0.05 * A
    s, _ = stationary(rate, mu, objective)
    g = 2 * (1 - mu) * np.eye(2) - ((1 - mu) / (1 + mu) + 1 / BATCH) * rate @ A
    quotient = np.trace(rate @ A @ np.linalg.inv(g))
    kappa = quotient / (1 - quotient / BATCH)
    exact = LABEL**2 / BATCH * (1 + kappa / BATCH) * rate @ np.linalg.inv(g)
    print(f"\nmu={mu}: {s.ravel()} exact {exact.ravel()}")
    np.testing.assert_allclose(s, exact, rtol=1e-11, atol=1e-14)
    additive = LABEL**2 / BATCH * rate @ np.linalg.inv(g)  # mutant: tr(A S) A left out
    assert np.all(np.abs(np.diag(additive) / np.diag(s) - 1) > 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("mu", [0.0, 0.8])
def test_damped_newton(mu):
    """L = l A^-1: S = l sigma^2/(g B - l D) A^-1, g = 2(1-mu) - ((1-mu)/(1+mu) + 1/B) l."""
    rate, dimension = 0.3, 2
    s, _ = stationary(rate * np.linalg.inv(A), mu, gaussian_regression(A))
    g = 2 * (1 - mu) - ((1 - mu) / (1 + mu) + 1 / BATCH) * rate
    exact = rate * LABEL**2 / (g * BATCH - rate * dimension) * np.linalg.inv(A)
    naive = rate * LABEL**2 / (2 * (1 - mu) * BATCH) * np.linalg.inv(A)
    print(f"\nmu={mu}: exact over leading order {exact[0, 0] / naive[0, 0]:.3f}")
    np.testing.assert_allclose(s, exact, rtol=1e-11)
    assert np.all(np.abs(naive / s - 1) > 0.1)


@pytest.mark.parametrize("mu", [0.0, 0.8])
def test_natural_gradient_without_label_noise(mu):
    """L = (l/B) C^-1 with C the gradient's own noise: S = (l/2)[1/((1+D)(1+mu)) + 1/((1-mu)B)] A^-1 keeps itself up.

    With C = (s (1+D)/B) A, S = s A^-1, L is constant; the second moments of the algorithm with it neither grow nor fall,
    whatever s (the noise is all multiplicative), only for the l that belongs to s.
    """
    l, dimension = 0.2, 2
    s = l / 2 * (1 / ((1 + dimension) * (1 + mu)) + 1 / ((1 - mu) * BATCH))
    objective = gaussian_regression(A, label=0.0)
    noise = s * (1 + dimension) / BATCH * A
    moduli = [stationary(factor * l / BATCH * np.linalg.inv(noise), mu, objective)[1] for factor in (1.0, 0.9, 1.1)]
    print(f"\nmu={mu}: growth of the second moments {moduli[0]:.12f}; at .9 and 1.1 of the rate {moduli[1:]}")
    np.testing.assert_allclose(moduli[0], 1, rtol=1e-11)
    assert moduli[1] < 1 - 1e-3 and moduli[2] > 1 + 1e-3


@pytest.mark.slow
def test_the_equation_has_the_leading_part():
    """The equation's stationary covariance tends to the algorithm's as the rate falls, with a relative error O(rate)."""
    objective = gaussian_regression(A)
    gaps = []
    for factor in (0.2, 0.1):
        equation = MatrixMomentum(1.0, BATCH, matrix=jnp.asarray(factor * L), momentum=jnp.asarray(0.0))
        system = linear(equation, objective, equation.init(jnp.zeros(2)))
        one = np.eye(len(system.generator))
        flow = np.kron(system.generator, one) + np.kron(one, system.generator)
        flow = flow + sum(np.kron(column, column) for column in system.columns)
        size = len(one) - 1
        inner = (np.arange(size)[:, None] * (size + 1) + np.arange(size)).ravel()
        second = np.linalg.solve(-flow[np.ix_(inner, inner)], flow[inner, -1]).reshape(size, size)[:2, :2]
        exact = stationary(factor * L, 0.0, objective)[0]
        gaps.append(np.abs(second / exact - 1).max())
    print(f"\nrelative gap of the equation {gaps}")
    assert gaps[1] < 0.6 * gaps[0] and gaps[1] < 0.1

"""Lyapunov exponents against closed forms: verdicts in probability, in mean and in mean square differ."""

import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import Exponents, lyapunov, mean_square_radius, mean_square_threshold
from equations import SAM, SGD, Adam, Momentum, Objective

CURVATURES = jnp.array([3.0, -1.0])
SADDLE = Objective(lambda w, e: e * w**2 / 2, CURVATURES)  # every example's gradient is zero at the origin
STEPS = 20_000


def mean_log(eta):
    return float(np.mean(np.log(np.abs(1 - eta * np.asarray(CURVATURES)))))


@pytest.mark.slow
@pytest.mark.parametrize("eta, verdict", [(0.3, "stable"), (0.6, "unstable"), (0.9, "unstable")])
def test_one_dimension(eta, verdict, key):
    """E ln|1 - eta h|, within 3 standard errors; mean and mean square have other signs."""
    found = lyapunov(SGD(eta, batch_size=1), SADDLE, jnp.array(0.0), steps=STEPS, key=key)
    assert abs(found.exponents[0] - mean_log(eta)) < 3 * found.standard_errors[0]
    assert found.in_mean == pytest.approx(np.log(abs(1 - eta)), rel=1e-10)
    assert found.in_mean_square == pytest.approx(
        np.log(np.mean((1 - eta * np.asarray(CURVATURES)) ** 2)) / 2, rel=1e-10
    )
    assert found.verdicts["in probability"] == verdict and found.verdicts["in mean"] == "stable"
    assert "per training step" in str(found)


def test_the_exponent_of_the_mean_is_rejected(key):
    """The mutant ln|E(1 - eta h)|, and the one without the modulus, which is not a number."""
    found = lyapunov(SGD(0.6, batch_size=1), SADDLE, jnp.array(0.0), steps=STEPS, key=key)
    assert abs(found.exponents[0] - found.in_mean) > 50 * found.standard_errors[0]
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(np.mean(np.log(1 - 0.6 * np.asarray(CURVATURES))))


@pytest.mark.slow
def test_four_phases_of_a_type_two_saddle(key):
    """l = (u w x - y)^2 near zero: exponents E ln|1 +- 2 eta x y| along u = w and u = -w (Ziyin et al. 2023)."""
    phases = {}
    for eta, x in ((0.1, [1.0, 1.2]), (0.1, [-1.0, -1.2]), (0.55, [1.0, -0.9]), (1.9, [1.0, -1.0])):
        data = jnp.array(x), jnp.ones(2)
        objective = Objective(lambda w, e: (w[0] * w[1] * e[0] - e[1]) ** 2, data)
        found = lyapunov(SGD(eta, batch_size=1), objective, jnp.zeros(2), steps=4000, key=key, exponents=2)
        exact = sorted((np.mean(np.log(np.abs(1 + s * 2 * eta * np.array(x)))) for s in (1, -1)), reverse=True)
        assert np.all(np.abs(found.exponents - exact) < 3 * found.standard_errors + 1e-9)
        phases[(eta, *x)] = tuple(np.sign(np.round(found.exponents, 12)))
    assert set(phases.values()) == {(1.0, -1.0), (-1.0, -1.0), (1.0, 1.0)}


@pytest.mark.slow
def test_of_the_equation(key):
    """dx = -h x dt + s sqrt(eta) x dW has -h - eta s^2/2 in a unit of time."""
    eta, mean, square = 0.2, 1.0, 4.0
    model = SGD(eta, batch_size=1)
    found = lyapunov(model, SADDLE, jnp.array(0.0), steps=4000, key=key, model="equation", substeps=64)
    exact = -eta * mean - eta**2 * square / 2
    assert abs(found.exponents[0] - exact) < 3 * found.standard_errors[0] + 0.01 * abs(exact)
    assert found.in_mean is None


@pytest.mark.slow
def test_several_exponents_of_momentum_sum_to_the_determinant(key):
    """ln beta for each coordinate, exactly, in every step."""
    objective = Objective(lambda w, e: w @ e @ w / 2, jnp.array([[[1.0, 0.2], [0.2, 0.5]], [[0.3, 0.1], [0.1, 2.0]]]))
    equation = Momentum(0.1, batch_size=1, momentum=0.7)
    found = lyapunov(equation, objective, jnp.zeros(2), steps=640, key=key, exponents=4)
    assert found.exponents.sum() == pytest.approx(2 * np.log(0.7), rel=1e-10)
    assert np.all(np.diff(found.exponents) < 0)


def test_full_batch_of_adam_has_no_error_bar_and_no_moments(key):
    objective = Objective(lambda w, e: e * w**2 / 2, jnp.array([1.0]))
    found = lyapunov(Adam(0.01), objective, jnp.array(0.5), steps=400)
    assert found.in_mean is None and isinstance(found, Exponents) and found.ok


def linear_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 2))
    y = x @ np.array([1.0, -2.0]) + rng.normal(size=12)
    solution = np.linalg.lstsq(x, y, rcond=None)[0]
    return (
        Objective(lambda w, e: (e[0] @ w - e[1]) ** 2 / 2, (jnp.asarray(x), jnp.asarray(y))),
        jnp.asarray(solution),
        x,
    )


@pytest.mark.parametrize("batch_size", [1, 3])
def test_mean_square_threshold_of_linear_regression(batch_size):
    """By the second-moment map written out for all batches of the data."""
    import itertools

    objective, solution, x = linear_regression()
    found = mean_square_threshold(SGD(0.1, batch_size=batch_size), objective, solution)
    hessians = np.einsum("ia,ib->iab", x, x)
    batches = itertools.combinations_with_replacement(range(12), batch_size)

    def radius(eta):
        total, weight = 0.0, 0.0
        for batch in batches if batch_size == 1 else itertools.product(range(12), repeat=batch_size):
            step = np.eye(2) - eta * hessians[list(batch)].mean(axis=0)
            total, weight = total + np.kron(step, step), weight + 1
        return np.max(np.abs(np.linalg.eigvals(total / weight)))

    if batch_size == 1:
        batches = [(i,) for i in range(12)]
    assert radius(0.99 * found) < 1 < radius(1.01 * found)


@pytest.mark.slow
def test_mean_square_in_one_dimension_and_of_the_full_batch():
    objective = Objective(lambda w, e: e * w**2 / 2, jnp.array([1.0, 3.0]))
    origin = jnp.array(0.0)
    assert mean_square_threshold(SGD(0.1, batch_size=1), objective, origin) == pytest.approx(2 * 2 / (4 + 1), rel=1e-8)
    assert mean_square_threshold(SGD(0.1), objective, origin) == pytest.approx(1.0, rel=1e-8)
    without = SGD(0.1, batch_size=2, sampling="without_replacement")
    assert mean_square_threshold(without, objective, origin) == pytest.approx(1.0, rel=1e-8)
    assert mean_square_radius(SGD(0.5, batch_size=1), objective, origin) == pytest.approx((0.25 + 0.25) / 2)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda o, w: mean_square_radius(Adam(0.1, batch_size=1), o, w), "Argument `equation` must be affine"),
        (lambda o, w: mean_square_radius(SAM(0.1, rho=0.1), o, w), "Argument `equation` must be affine"),
        (
            lambda o, w: mean_square_radius(SGD(0.1), o, w + 1),
            "Argument `params` must be a point of zero mean gradient",
        ),
        (lambda o, w: lyapunov(SGD(0.1, batch_size=1), o, w, steps=1000), "Argument `key` must"),
        (lambda o, w: lyapunov(SGD(0.1), o, w, steps=100), "Argument `steps` must"),
        (lambda o, w: lyapunov(SGD(0.1), o, w, steps=400, exponents=3), "Argument `exponents` must"),
        (lambda o, w: lyapunov(SGD(0.1), o, w, steps=400, model="twin"), "Argument `model` must"),
        (lambda o, w: lyapunov(SGD(0.1), o, w, steps=400, noise="none"), "Argument `noise` must"),
    ],
)
def test_wrong_use(call, words):
    objective, solution, _ = linear_regression()
    with pytest.raises((TypeError, ValueError), match=words):
        call(objective, solution)


def test_above_fifty_numbers_the_map_is_refused():
    objective = Objective(lambda w, e: jnp.sum(e * w**2) / 2, jnp.ones((1, 51)))
    with pytest.raises(ValueError, match="a state of at most 50 numbers, memory included, but it has 51"):
        mean_square_radius(SGD(0.1), objective, jnp.zeros(51))

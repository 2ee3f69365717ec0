"""The heat bath: stationary densities of the equations, exact covariances of the discrete runs, orders, mutants."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from changed import changed
from oracles import LinearRegression, within

from dynamics import train
from equations import Isotropic, Langevin, Objective, UnderdampedLangevin
from equations._modified.increment import Increment
from validation import orders
from validation._orders.moment_equations import discrete, linear

HESSIAN = np.array([1.0, 2.5])
T, ETA, FRICTION = 0.4, 0.1, 0.8
OBJECTIVE = Objective(lambda w, e: 0.5 * jnp.sum(e * (w - 1.0) ** 2), HESSIAN[None])
START = jnp.zeros(2)


class HalfTheHeat(Langevin):
    """sqrt(T) dW."""

    @property
    def gradient_noise(self):
        return Isotropic.traced(jnp.sqrt(self.temperature / self.learning_rate), on=self.noise_model)


class HeatPerStep(Langevin):
    """sqrt(2 T) in the gradient of every step, whatever the learning rate."""

    @property
    def gradient_noise(self):
        return Isotropic.traced(jnp.sqrt(2 * self.temperature), on=self.noise_model)


class HeatWithoutFriction(UnderdampedLangevin):
    """sqrt(2 T) dW, not scaled by the friction."""

    @property
    def gradient_noise(self):
        return Isotropic.traced(jnp.sqrt(2 * self.temperature / jnp.sqrt(self.learning_rate)), on=self.noise_model)


class HalfTheFriction(UnderdampedLangevin):
    """Friction gamma/2 against heat for gamma."""

    @property
    def momentum(self):
        return 1 - self.friction * jnp.sqrt(self.learning_rate) / 2


def stationary(equation):
    """Mean and covariance of the state under the equation, by its drift and diffusion."""
    system = linear(equation, OBJECTIVE, equation.init(START))
    drift, noise = system.generator[:-1, :-1], system.columns[:, :-1, -1]
    assert not np.any(system.columns[:, :-1, :-1])
    covariance = scipy.linalg.solve_continuous_lyapunov(drift, -noise.T @ noise)
    return -np.linalg.solve(drift, system.generator[:-1, -1]), covariance


def stationary_discrete(equation):
    """Covariance of the parameters of the algorithm itself, from the steps of its twin."""
    increment = Increment.of(equation)
    system = discrete(increment, OBJECTIVE, increment.init(START))
    size = len(system.generator) - 1
    step, noise = np.eye(size) + ETA * system.generator[:-1, :-1], system.columns[:, :-1, -1]
    return scipy.linalg.solve_discrete_lyapunov(step, ETA * noise.T @ noise)[:2, :2]


def boltzmann_error(equation):
    """From exp(-L/T), a normal density: mean 1, covariance T/h."""
    mean, covariance = stationary(equation)
    return max(np.abs(mean[:2] - 1).max(), np.abs(covariance[:2, :2] - np.diag(T / HESSIAN)).max())


def equipartition_error(equation):
    """Of <p^2> = T in every direction, uncorrelated with the position; p = -sqrt(eta) trace."""
    covariance = stationary(equation)[1]
    momenta, across = ETA * covariance[2:, 2:], covariance[:2, 2:]
    return max(np.abs(momenta - T * np.eye(2)).max(), np.abs(across).max())


def test_langevin_is_stationary_at_boltzmann():
    assert boltzmann_error(Langevin(ETA, temperature=T)) < 1e-12
    # And for any loss: b p = T p' for p = exp(-L/T), D = T.
    operator = Langevin(ETA, temperature=T).diffusion(0.0, START, OBJECTIVE)
    assert operator.in_structure().keys() == {"own"}
    root = np.stack([operator.mv({"own": unit}) for unit in jnp.eye(2)])
    np.testing.assert_allclose(root @ root.T, 2 * T * np.eye(2), rtol=1e-14)


def test_underdamped_langevin_is_stationary_at_boltzmann():
    equation = UnderdampedLangevin(ETA, friction=FRICTION, temperature=T)
    assert boltzmann_error(equation) < 1e-12 and equipartition_error(equation) < 1e-12


def test_covariance_of_the_discrete_langevin_run():
    """(T/h) / (1 - eta h/2)."""
    truth = np.diag(T / HESSIAN / (1 - ETA * HESSIAN / 2))
    np.testing.assert_allclose(stationary_discrete(Langevin(ETA, temperature=T)), truth, rtol=1e-12, atol=1e-14)


def test_covariance_of_the_discrete_underdamped_run():
    """(T/h) / (1 - eta h/(2 (1 + beta))), beta = 1 - gamma sqrt(eta)."""
    beta = 1 - FRICTION * ETA**0.5
    truth = np.diag(T / HESSIAN / (1 - ETA * HESSIAN / (2 * (1 + beta))))
    equation = UnderdampedLangevin(ETA, friction=FRICTION, temperature=T)
    np.testing.assert_allclose(stationary_discrete(equation), truth, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize(
    "equation", [Langevin(ETA, temperature=T), UnderdampedLangevin(ETA, friction=FRICTION, temperature=T)]
)
def test_train_runs_at_that_temperature(equation):
    run = train(equation, OBJECTIVE, START, steps=300, key=jax.random.key(0), paths=4000, save_every=300)
    assert within(run.final, np.ones(2), stationary_discrete(equation)) < 1
    cold = stationary_discrete(equation) / 2
    print(
        f"\n{type(equation).__name__}: at half the temperature {4 * within(run.final, np.ones(2), cold):.0f} s.e. off"
    )
    assert within(run.final, np.ones(2), cold) > 2


@pytest.mark.parametrize(
    ("mutant", "error"),
    [
        (HalfTheHeat(ETA, temperature=T), boltzmann_error),
        (HeatPerStep(ETA, temperature=T), boltzmann_error),
        (HeatWithoutFriction(ETA, friction=FRICTION, temperature=T), boltzmann_error),
        (HeatWithoutFriction(ETA, friction=FRICTION, temperature=T), equipartition_error),
        (HalfTheFriction(ETA, friction=FRICTION, temperature=T), equipartition_error),
    ],
)
def test_mutants_are_at_another_temperature(mutant, error):
    found = error(mutant)
    print(f"\n{type(mutant).__name__} rejected by {error.__name__}: {found:.3g}, allowed 1e-12")
    assert found > 1e-2


LANGEVIN = (Langevin, [0.04, 0.02, 0.01, 0.005])
UNDERDAMPED = (UnderdampedLangevin, [0.01, 0.0025, 0.000625, 0.00015625])
SWEEPS = [(*sweep, batch_size) for sweep in (UNDERDAMPED, LANGEVIN) for batch_size in (4, None)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rates", "batch_size"), SWEEPS)
def test_orders(kind, rates, batch_size):
    """First order in the natural step for mean, second moment and variance, by exact moments, with batches too."""
    problem, first = LinearRegression(examples=8), kind(rates[0], batch_size, temperature=T)
    report = orders(first, problem.objective, problem.start, time=2.0, learning_rates=rates,
                    observe={"w": lambda w: w})  # fmt: skip
    assert report.method == "exact moments"
    measures = ("mean", "second moment", "variance/eta")  # a variance that does not vanish, over 1
    found = [float(report.slope["w"][measure]) for measure in measures]
    print(f"\n{type(first).__name__}, batch size {batch_size}: slopes of {measures}: {np.round(found, 2)}")
    assert set(report.verdict["w"].values()) == {"holds"}
    assert all(abs(slope - 1) < 0.15 for slope in found)


def test_too_much_friction():
    with pytest.raises(ValueError, match="Argument `friction` must be at most"):
        UnderdampedLangevin(0.25, friction=2.5)
    with pytest.raises(ValueError, match="Argument `friction` must be at most"):
        UnderdampedLangevin(0.2, friction=2.0).scaling_limit().rescaled(2.0)
    with pytest.raises(ValueError, match="Argument `friction` must be at most"):
        faster = eqx.tree_at(lambda e: e.learning_rate, UnderdampedLangevin(0.2, friction=2.0), jnp.asarray(0.4))
        train(faster, OBJECTIVE, START, steps=1, key=jax.random.key(0))
    with pytest.raises(ValueError, match="Argument `temperature` must be"):
        Langevin(0.1, temperature=-1.0)


class Vanishing(Langevin):
    """Variances that vanish with the learning rate, as without heat."""

    scaling_limit = changed(variance_scale=lambda s: s.equation.learning_rate)


@pytest.mark.parametrize("kind, stays", [(Langevin, True), (UnderdampedLangevin, True), (Vanishing, False)])
def test_the_scale_of_variances_is_that_of_the_exact_ones(kind, stays):
    """In a bowl Var is T/h but for the learning rate, T/(h (1 - eta h/2)), so that it stays as eta -> 0."""
    exact = [T / (1 - eta / 2) for eta in (0.1, 0.01)]
    scales = [float(kind(eta, temperature=T).scaling_limit().variance_scale()) for eta in (0.1, 0.01)]
    ratio = exact[0] / exact[1] * scales[1] / scales[0]
    assert (abs(ratio - 1) < 0.06) == stays, ratio

"""Extragradient and optimistic gradient on the game xy, whose algorithms and equations are known in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import laws
import lineax as lx
import numpy as np
import optax
import pytest

from dynamics import solve, train
from equations import SGD, AbstractSignal, ExtraGradient, Objective, OptimisticGradient, OptimisticState, modified
from equations.internal import split
from validation import orders
from validation._orders.moment_equations import linear, propagate


class Game(AbstractSignal):
    """x descends and y ascends x y + a x + b y, of which the examples are (a, b)."""

    data: jax.Array

    def surrogate(self, active, frozen, example):
        def value(x, y):
            return x * y + example[0] * x + example[1] * y

        return value(active["x"], frozen["y"]) - value(frozen["x"], active["y"])


START = {"x": jnp.asarray(1.0), "y": jnp.asarray(0.5)}
STILL = Game(jnp.zeros((1, 2)))
STEPS = 40


def numbers(run):
    """x + i y at all steps of the first path; the signal (y, -x) is then -i z."""
    return np.asarray(run.observables["x"][0]) + 1j * np.asarray(run.observables["y"][0])


OBSERVE = {name: lambda params, name=name: params[name] for name in "xy"}


def played(run, equation, steps=STEPS):
    return numbers(run(equation, STILL, START, steps=steps, observe=OBSERVE))


# ---------------------------------------------------------------------------------------------------------------------
# Extragradient


@pytest.mark.slow
def test_extragradient_contracts_at_its_exact_rate():
    """z' = (1 - eta^2 + i eta) z, and |z'|^2 = (1 - eta^2 + eta^4) |z|^2."""
    eta, z = 0.1, played(train, ExtraGradient(0.1))
    np.testing.assert_allclose(np.abs(z[1:] / z[:-1]) ** 2, 1 - eta**2 + eta**4, rtol=1e-12)
    np.testing.assert_allclose(z[1:] / z[:-1], 1 - eta**2 + 1j * eta, rtol=1e-12)
    ahead = played(train, ExtraGradient(0.1, extrapolation=0.3))
    np.testing.assert_allclose(ahead[1:] / ahead[:-1], 1 - eta * 0.3 + 1j * eta, rtol=1e-12)
    plain = played(train, SGD(0.1))  # which spirals out
    np.testing.assert_allclose(np.abs(plain[1:] / plain[:-1]) ** 2, 1 + eta**2, rtol=1e-12)


@pytest.mark.slow
def test_the_equation_of_extragradient_contracts():
    """At the rate gamma; with gamma = eta twice that of the algorithm, whose series has it at the second order."""
    eta, time = 0.1, 0.1 * STEPS
    ahead = played(solve, ExtraGradient(0.1, extrapolation=0.3))
    np.testing.assert_allclose(ahead[-1], ahead[0] * np.exp((1j - 0.3) * time), rtol=1e-6)
    ours = ExtraGradient(0.1)
    sides = ((train, ours), (solve, ours), (solve, modified(ours)))
    rates = [np.log(abs(z[-1] / z[0])) / time for z in (played(*side) for side in sides)]
    np.testing.assert_allclose(rates, [np.log(1 - eta**2 + eta**4) / 2 / eta, -eta, -(eta + eta**3) / 2], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("extrapolation", [None, 0.4])
def test_extragradient_has_order_two_modified(extrapolation):
    """Of whole steps, with everything that a step depends on moved along, at gamma = eta and gamma ~ sqrt(eta)."""
    equation, off = ExtraGradient(0.4, extrapolation=extrapolation), []
    for k in range(3):
        scaled = equation.scaling_limit().rescaled(2.0**-k)
        flow, run = (played(side, e, 8 * 2**k) for side, e in ((solve, modified(scaled)), (train, scaled)))
        off.append(abs(flow[-1] - run[-1]))
    assert np.all(np.abs(np.log2(np.divide(off[:-1], off[1:])) - 2) < 0.3)


def test_one_batch_at_both_places():
    """-E[F_B(z - gamma F_B(z))], which noise that is alike in all of space leaves as it is, and noise of the slope not."""
    noisy = Game(jnp.asarray(np.random.default_rng(0).normal(size=(5, 2))))
    equation = ExtraGradient(0.1, 2, extrapolation=0.3)
    found, still = (
        laws.flat(e.drift(jnp.zeros(()), START, noisy))
        for e in (equation, dataclasses.replace(equation, batch_size=None))
    )
    np.testing.assert_allclose(found, still, rtol=1e-12)
    line, w = Objective(lambda w, e: 0.5 * e * w**2, np.array([1.0, 3.0])), jnp.asarray(1.0)  # F_B = h_B w
    drift = float(equation.drift(jnp.zeros(()), w, line))
    np.testing.assert_allclose(drift, -(2 - 0.3 * (4 + 1 / 2)), rtol=1e-12)  # E h_B^2 = 4 + 1/B


# ---------------------------------------------------------------------------------------------------------------------
# Optimistic gradient


def test_optimistic_gradient_has_its_exact_roots():
    """z' = z + i eta (2 z - z_before), a sum of two powers; its first step has the signal before equal to its own."""
    eta, z = 0.1, played(train, OptimisticGradient(0.1))
    np.testing.assert_allclose(z[1] / z[0], 1 + 1j * eta, rtol=1e-12)
    roots = np.roots([1, -(1 + 2j * eta), 1j * eta])
    weights = np.linalg.solve([[1, 1], roots], z[:2])
    np.testing.assert_allclose(z, weights @ roots[:, None] ** np.arange(STEPS + 1), rtol=1e-12)
    assert abs(z[-1]) < abs(z[0]) and np.all(np.abs(roots) < 1)


@pytest.mark.slow
def test_steps_on_the_same_draws_are_those_of_optax():
    """The start of the equation and its Euler steps, on the same Gaussian gradients."""
    equation = OptimisticGradient(0.05, 2, alpha=0.8, beta=0.5)
    optimizer, splitting = optax.optimistic_gradient_descent(0.05, alpha=0.8, beta=0.5), split(equation)
    state, params, memory = equation.init(laws.PARAMS), laws.PARAMS, optimizer.init(laws.PARAMS)
    for k, normals in enumerate(np.random.default_rng(1).normal(size=(4, laws.EXAMPLES))):
        gradient = equation.gradient(params, laws.OBJECTIVE, jnp.asarray(normals))
        updates, memory = optimizer.update(gradient, memory, params)
        if k == 0:
            state = splitting.start(state, laws.OBJECTIVE, jnp.asarray(normals))
        else:
            moved = splitting.euler(k * 0.05, state, laws.OBJECTIVE, jnp.asarray(normals), equation.learning_rate)
            state = jax.tree.map(jnp.add, state, moved)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(laws.flat(state.params), laws.flat(params), rtol=1e-12)


LINE = Objective(lambda w, e: 0.5 * (e[0] * w - e[1]) ** 2, (np.array([1.2, -0.7, 0.4, 0.9]), np.arange(4.0) / 2))


class Forgetful(OptimisticGradient):
    """A memory without noise, which does not take back what the step has too much."""

    def diffusion(self, t, state, signal):
        root = super().diffusion(t, state, signal)
        if root is None:
            return None

        def mv(normals):
            rates = root.mv(normals)
            return dataclasses.replace(rates, previous_gradient=jax.tree.map(jnp.zeros_like, rates.previous_gradient))

        return lx.FunctionLinearOperator(mv, root.in_structure())


def slopes(kind):
    """Of the errors of mean and variance/step, exactly: the algorithm is the Euler step of the equation."""
    start, errors = jnp.asarray(1.5), []
    for k in range(4):
        eta = 0.05 / 2**k
        ours, theirs = (
            linear(e, LINE, OptimisticState(start, LINE.gradient(start)))
            for e in (OptimisticGradient(eta, 2), kind(eta, 2))
        )
        z = np.array([1.5, float(LINE.gradient(start)), 1.0])
        both = propagate(ours, theirs, (np.outer(z, z),) * 2, eta, round(2 / eta))
        mean, variance = np.array([(m[0, 2], (m[0, 0] - m[0, 2] ** 2) / eta) for m in both]).T
        errors.append([abs(mean[1] - mean[0]), abs(variance[1] - variance[0])])
    return np.log2(np.divide(errors[0], errors[-1])) / 3


@pytest.mark.slow
def test_order_one_in_mean_and_variance():
    """From a state that has a signal before it; a mutant with the noise of the step alone has no order in the variance."""
    assert np.all(np.abs(slopes(OptimisticGradient) - 1) < 0.15)
    mean, variance = slopes(Forgetful)
    assert abs(mean - 1) < 0.15 and abs(variance) < 0.15


@pytest.mark.slow
def test_order_two_without_the_memory():
    equation = modified(OptimisticGradient(0.2), memory="adiabatic")
    report = orders(equation, STILL, START, time=3.2, learning_rates=[0.2, 0.1, 0.05, 0.025], observe={"z": laws.flat})
    assert abs(report.slope["z"]["mean"] - 2) < 0.15

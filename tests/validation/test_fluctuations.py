"""How far the corrected diffusion holds where neither the loss is quadratic nor the rule affine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from equations import SGD, Adam, Objective, modified, noise_operator
from validation import orders

pytestmark = pytest.mark.slow


def neuron(seed, examples, dimension, noise):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(examples, dimension))
    y = np.tanh(x @ rng.normal(size=dimension)) + noise * rng.normal(size=examples)

    def loss(w, example):
        return 0.5 * (jnp.tanh(jnp.dot(w, example[0])) - example[1]) ** 2

    return Objective(loss, (x, y)), jnp.asarray(rng.normal(size=dimension))


def weights(w):
    return w


def test_sgd_on_a_neuron_by_sampling():
    """On Gaussian gradients; real batches have a third cumulant, which is of the same order as what is corrected."""
    errors = {}
    for fluctuations, paths in ((True, 262144), (False, 16384)):
        report = orders(
            modified(SGD(0.1, 1), order=2, fluctuations=fluctuations), *neuron(5, 3, 1, 0.4), time=2.0,
            learning_rates=[0.2, 0.1, 0.05, 0.025], observe={"w": weights}, paths=paths, key=jax.random.key(0),
        )  # fmt: skip
        print(f"\n{report}")
        errors[fluctuations] = report.errors["w"]["variance/eta"]
        if fluctuations:
            slope, half = report.slope["w"]["variance/eta"], report.slope_error["w"]["variance/eta"]
            assert half < 0.2 and abs(slope - 2) <= half
            assert report.verdict["w"]["variance/eta"] == "holds"
    right, mutant = errors[True], errors[False]
    assert np.all(mutant.value[2:] - 4 * mutant.error[2:] > 3 * right.value[2:])


def small_noise(equation, objective, start, time, transient):
    """Covariances of the parameters over eta, of the algorithm and of the equation, to leading order in the noise.

    Around the noise-free paths y of both sides they obey P' = A P A^T + eta^2 G G^T with A = 1 + eta Db and G the response
    of a step to the noise, and dP/dt = J P + P J^T + D D^T with J the derivative of the drift and D the diffusion's
    root. After the transient the equation starts from the covariance of the algorithm.
    """
    increment, eta, zero = equation.increment, equation.learning_rate, jnp.zeros(())
    origin, unravel = ravel_pytree(increment.init(start))
    steps, skip = round(time / float(eta)), round(transient / float(eta))
    units = jnp.eye(objective.size)

    def step(y, noise):
        """The increment of the algorithm, with a combination of the noise's columns added to the gradient."""
        params = unravel(y).params
        columns = noise_operator(objective, params, equation.batch_size)
        gradient = objective.gradient(params) + columns.mv(noise)
        return ravel_pytree(increment.velocity(zero, unravel(y), gradient))[0]

    def drift(y):
        return ravel_pytree(equation.drift(zero, unravel(y), objective))[0]

    def root(y):
        operator = equation.diffusion(zero, unravel(y), objective)
        return jax.vmap(lambda unit: ravel_pytree(operator.mv((unit, 0 * units)))[0])(units).T

    def algorithm(_, carry):
        y, p = carry
        a, g = (jax.jacfwd(step, argnums)(y, 0 * units[0]) for argnums in (0, 1))
        a = jnp.eye(y.size) + eta * a
        return y + eta * step(y, 0 * units[0]), a @ p @ a.T + eta**2 * g @ g.T

    def rates(carry):
        y, p = carry
        j, d = jax.jacfwd(drift)(y), root(y)
        return drift(y), j @ p + p @ j.T + d @ d.T

    def flow(_, carry):
        """Runge and Kutta's method of fourth order."""
        total, slope = jax.tree.map(jnp.zeros_like, carry), jax.tree.map(jnp.zeros_like, carry)
        for place, weight in ((0.0, 1.0), (0.5, 2.0), (0.5, 2.0), (1.0, 1.0)):
            slope = rates(jax.tree.map(lambda x, k, place=place: x + place * eta * k, carry, slope))
            total = jax.tree.map(lambda t, k, weight=weight: t + weight / 6 * k, total, slope)
        return jax.tree.map(lambda x, t: x + eta * t, carry, total)

    middle = jax.lax.fori_loop(0, skip, algorithm, (origin, jnp.zeros((origin.size, origin.size))))
    ends = (jax.lax.fori_loop(0, steps, side, middle)[1] for side in (algorithm, flow))
    return [p[: start.size, : start.size] / eta for p in ends]


@pytest.mark.parametrize("fluctuations", [True, False])
def test_adam_in_small_noise(fluctuations):
    """1 - b ~ eta after the transient. At larger noise the squares of the gradient in the second moment have a third
    cumulant, which no Gaussian noise has, and Var/eta keeps an error of first order (measured below)."""
    problem, errors = neuron(3, 3, 2, 0.8), []
    for eta in (0.0125, 0.00625):
        adam = Adam(eta, 10**6, b1=1 - 2.5 * eta, b2=1 - 2.0 * eta)
        equation = modified(adam, order=2, fluctuations=fluctuations)
        discrete, continuous = map(np.asarray, jax.jit(lambda e=equation: small_noise(e, *problem, 1.0, 1.0))())
        errors.append(np.linalg.norm(continuous / discrete - 1))
    slope = np.log2(errors[0] / errors[1])
    print(f"\nAdam, Var/eta in small noise, fluctuations={fluctuations}: relative errors {errors}, slope {slope:.2f}")
    assert abs(slope - (2 if fluctuations else 1)) < 0.15


def test_adam_in_large_noise_by_sampling():
    """Order 2 corrects the mean, noise of the second moment included; Var/eta stays of first order either way."""
    problem, errors = neuron(3, 3, 2, 0.8), {}
    for order in (1, 2):
        report = orders(
            modified(Adam(0.1, 2, b1=0.75, b2=0.8), order=order), *problem, time=1.0, transient=1.0,
            learning_rates=[0.1, 0.05, 0.025], observe={"w": weights}, paths=32768, key=jax.random.key(0),
        )  # fmt: skip
        print(f"\n{report}")
        assert report.claim["w"] == {"mean": order, "second moment": order, "variance/eta": 1}
        assert "fails" not in report.verdict["w"].values()
        errors[order] = report.errors["w"]["mean"]
    first, second = errors[1], errors[2]
    assert second.value[-1] + 4 * second.error[-1] < first.value[-1] / 2

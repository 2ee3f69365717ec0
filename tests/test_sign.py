"""Rules that take the sign of a noisy gradient, in one dimension, where algorithm and equation are known without sampling.

SignSGD is a random walk on the lattice theta_0 + eta Z, and the means under its equation obey the backward equation
u_t = b u' + (D/2) u'', which Chebyshev collocation solves to ten digits.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from mutants.sign_sgd import RootTwoLost, SignOfTheMean
from mutants_noise import NormalDistribution

from dynamics import solve, train
from equations import Isotropic, Lion, Minibatch, Objective, SignSGD, StudentT, modified
from equations._sign import sign_covariance
from validation import orders

START, TIME, SIGMA = 1.0, 1.6, 1.0
RATES = (0.4, 0.2, 0.1, 0.05)
OBJECTIVE = Objective(lambda w, e: 0.5 * e * jnp.sum(w**2), jnp.ones(1))
DISTRIBUTION = {Isotropic: scipy.stats.norm(), StudentT: scipy.stats.t(3.0)}
NOISE = {"normal": Isotropic(SIGMA), "student": StudentT(3.0, SIGMA)}


def walk(eta, steps, distribution):
    """Mean and variance of SignSGD after `steps` steps, exactly: probabilities on the lattice."""
    sites = START + eta * np.arange(-steps - 1, steps + 2)
    down = distribution.cdf(sites / SIGMA)  # a positive gradient, whose mean is the site itself
    p = (np.arange(len(sites)) == steps + 1).astype(float)
    for _ in range(steps):
        p = np.roll(p * down, -1) + np.roll(p * (1 - down), 1)
    mean = p @ sites
    return mean, p @ (sites - mean) ** 2


def chebyshev(count, half_width):
    """Collocation points on [-half_width, half_width] and the differentiation matrix (Trefethen 2000, chapter 6)."""
    x = np.cos(np.pi * np.arange(count + 1) / count)
    c = np.where((np.arange(count + 1) % count) == 0, 2.0, 1.0) * (-1.0) ** np.arange(count + 1)
    matrix = np.outer(c, 1 / c) / (x[:, None] - x[None, :] + np.eye(count + 1))
    matrix -= np.diag(matrix.sum(axis=1))
    return half_width * x, matrix / half_width


def backward(equation, time, count=96, half_width=5.0):
    """Mean and variance under the equation's own drift and the covariance 1 - drift^2 of a sign."""
    x, d = chebyshev(count, half_width)
    drift = np.asarray(jax.vmap(lambda w: equation.drift(0.0, w, OBJECTIVE))(jnp.asarray(x[:, None])))[:, 0]
    eta = float(equation.learning_rate)
    generator = np.diag(drift) @ d + 0.5 * eta * np.diag(1 - drift**2) @ d @ d
    u = scipy.linalg.expm(time * generator) @ np.stack([x, x**2], axis=1)
    # Barycentric interpolation at the start.
    weights = (-1.0) ** np.arange(count + 1) * np.where((np.arange(count + 1) % count) == 0, 0.5, 1.0) / (START - x)
    mean, square = weights @ u / weights.sum()
    return mean, square - mean**2


def slopes(kind, noise, distribution):
    """Of the errors of mean and variance/eta over the learning rates, and these errors at the last one."""
    errors = []
    for eta in RATES:
        truth, found = walk(eta, round(TIME / eta), distribution), backward(kind(eta, noise_model=noise), TIME)
        errors.append(np.abs(np.subtract(truth, found)) / (1.0, eta))
    errors = np.array(errors)
    return [np.polyfit(np.log(RATES), np.log(e), 1)[0] for e in errors.T], errors[-1]


@pytest.mark.parametrize("name", NOISE)
def test_sign_sgd_is_of_first_order(name):
    """For the mean and for Var/eta, against the algorithm under the same noise."""
    (mean, spread), _ = slopes(SignSGD, NOISE[name], DISTRIBUTION[type(NOISE[name])])
    print(f"\nSignSGD, {name}: slopes {mean:.2f} of the mean, {spread:.2f} of variance/eta")
    assert abs(mean - 1) < 0.15 and abs(spread - 1) < 0.15


MUTANTS = {
    "RootTwoLost": (RootTwoLost, NOISE["normal"], DISTRIBUTION[Isotropic]),
    "SignOfTheMean": (SignOfTheMean, NOISE["normal"], DISTRIBUTION[Isotropic]),
    "NormalForStudent": (SignSGD, NormalDistribution(3.0, SIGMA), DISTRIBUTION[StudentT]),
    "NormalAlgorithm": (SignSGD, NOISE["student"], DISTRIBUTION[Isotropic]),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_have_no_order(name):
    found, last = slopes(*MUTANTS[name])
    print(f"\n{name}: slopes {found[0]:.2f} of the mean, {found[1]:.2f} of variance/eta; errors {last}")
    assert np.all(np.abs(np.subtract(found, 1)) > 0.5)


def test_collocation_has_converged():
    equation = SignSGD(0.05, noise_model=Isotropic(SIGMA))
    np.testing.assert_allclose(backward(equation, TIME, 128, 6.0), backward(equation, TIME), rtol=1e-8)


@pytest.mark.parametrize("name", NOISE)
def test_runs_are_what_is_known(name):
    """`train` is the walk on the lattice, `solve` the equation, within their errors."""
    eta, steps, paths = 0.2, 8, 8000
    equation = SignSGD(eta, noise_model=NOISE[name])
    shared = dict(steps=steps, key=jax.random.key(0), paths=paths, save_every=steps)
    samples = {
        "train": train(equation, OBJECTIVE, jnp.full(1, START), noise="gaussian", **shared),
        "solve": solve(equation, OBJECTIVE, jnp.full(1, START), substeps=4, **shared),
    }
    truths = {"train": walk(eta, steps, DISTRIBUTION[type(NOISE[name])]), "solve": backward(equation, TIME)}
    for side, run in samples.items():
        values = np.asarray(run.final)[:, 0]
        mean, spread = truths[side]
        z = abs(values.mean() - mean) / (values.std() / paths**0.5)
        squares = (values - mean) ** 2
        z2 = abs(squares.mean() - spread) / (squares.std() / paths**0.5)
        print(f"\n{side}, {name}: mean off by {z:.1f}, variance by {z2:.1f} s.e.")
        assert z < 4 and z2 < 4
    lattice = (np.asarray(samples["train"].final) - START) / eta
    np.testing.assert_allclose(lattice, np.round(lattice), atol=1e-9)


def test_covariance_of_signs():
    """Orthant probabilities (Sheppard 1899: (2/pi) asin rho about zero), and 1 - erf^2 on the diagonal."""
    h = jnp.asarray([0.0, 0.0, 0.7, -1.2])
    rho = np.eye(4)
    rho[0, 1] = rho[1, 0] = -0.6
    rho[2, 3] = rho[3, 2] = 0.8
    found = np.asarray(sign_covariance(h, jnp.asarray(rho)))
    np.testing.assert_allclose(found[0, 1], 2 / np.pi * np.arcsin(-0.6), rtol=1e-13)
    np.testing.assert_allclose(np.diag(found), 1 - jax.scipy.special.erf(h / 2**0.5) ** 2, rtol=1e-12)
    both = scipy.stats.multivariate_normal([0, 0], rho[2:, 2:], abseps=1e-12).cdf([0.7, -1.2])
    apart = scipy.stats.norm.cdf(0.7) * scipy.stats.norm.cdf(-1.2)
    np.testing.assert_allclose(found[2, 3], 4 * (both - apart), rtol=1e-7)


def test_there_is_no_series(unchecked):
    with pytest.raises(ValueError, match="Argument `equation` must be smooth in the gradient"):
        modified(SignSGD(0.1), order=2)


@pytest.mark.parametrize("kind", [SignSGD])
def test_sums_without_a_closed_form_are_refused(unchecked, kind):
    data = (jnp.ones((4, 1)), jnp.arange(4.0))
    objective = Objective(lambda w, e: 0.5 * (jnp.dot(e[0], w) - e[1]) ** 2, data)
    for noise, batch in ((StudentT(3.0, 1.0), 2), (Isotropic(1.0, on=StudentT(3.0, 1.0)), None)):
        with pytest.raises(ValueError, match="Argument `noise_model` must be Gaussian, or StudentT on the full batch"):
            solve(kind(0.1, batch, noise_model=noise), objective, jnp.ones(1), steps=1, key=jax.random.key(0))
    assert Minibatch().normal and not Isotropic(1.0, on=StudentT(3.0, 1.0)).normal


@pytest.mark.slow
def test_lion_is_of_first_order():
    """By sampling on the same normal numbers.

    At b1 = .9 the average stands in the sign nine times as large as the gradient, and these learning rates are not yet
    asymptotic: slope .62 of the mean.
    """
    lion = Lion(0.1, noise_model=Isotropic(SIGMA), b1=0.5, b2=0.9)
    report = orders(lion, OBJECTIVE, jnp.full(1, START), time=TIME, learning_rates=list(RATES), key=jax.random.key(0),
                    paths=200_000, observe={"w": lambda w: w})  # fmt: skip
    print(report)
    for measure in ("mean", "variance/eta"):
        assert abs(report.slope["w"][measure] - 1) < max(0.15, 2 * report.slope_error["w"][measure])

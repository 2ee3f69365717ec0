"""Rules that take the sign of a noisy gradient, in one dimension, where algorithm and equation are known without sampling.

SignSGD is a random walk on the lattice theta_0 + eta Z, and the means under its equation obey the backward equation
u_t = b u' + (D/2) u'', which Chebyshev collocation solves to ten digits.
"""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg
import scipy.stats
from jax.flatten_util import ravel_pytree
from mutants.lion import ScaleOfTheGradientLost
from mutants.sign_sgd import RootTwoLost, SignOfTheMean
from mutants_noise import NormalDistribution

from dynamics import solve, train
from dynamics._arguments.checks import dynamic_numbers
from equations import Isotropic, Lion, Minibatch, Objective, SignSGD, StudentT, modified
from equations._optimizers.lion import LionState
from equations._optimizers.sign import sign_covariance
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


@eqx.filter_jit
def drifts(equation, points):
    return jax.vmap(lambda w: equation.drift(0.0, w, OBJECTIVE))(points)


def backward(equation, time, count=96, half_width=5.0):
    """Mean and variance under the equation's own drift and the covariance 1 - drift^2 of a sign."""
    x, d = chebyshev(count, half_width)
    drift = np.asarray(drifts(dynamic_numbers(equation), jnp.asarray(x[:, None])))[:, 0]
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


@pytest.mark.slow
def test_no_scale_is_no_noise():
    """The mean sign is the sign, at zero too, and the limit of small scales; a run is that without noise."""
    signs, loss = jnp.array([1.0, -1e-3, 0.0, 1e-9]), Objective(lambda w, e: 0.5 * e * jnp.sum(w**2), jnp.ones(1))
    for noise in NOISE.values():
        for scale, atol in ((0.0, 0.0), (1e-200, 0.0), (1e-13, 1e-3)):
            equation = SignSGD(0.05, noise_model=dataclasses.replace(noise, scale=scale))
            found = equation.gradient_noise.expected_sign(equation.batches(loss), signs, signs)
            np.testing.assert_allclose(found, [1.0, -1.0, 0.0, 1.0], rtol=0, atol=atol)
    away = jnp.array([1.0, -2.0])  # from the discontinuity
    for kind in (SignSGD, Lion):
        run = solve(kind(0.05, noise_model=StudentT(3.0, 0.0)), loss, away, steps=3, key=jax.random.key(0))
        still = solve(kind(0.05), loss, away, steps=3)
        np.testing.assert_allclose(run.final, still.final, rtol=0, atol=1e-12)


def test_collocation_has_converged():
    equation = SignSGD(0.05, noise_model=Isotropic(SIGMA))
    np.testing.assert_allclose(backward(equation, TIME, 128, 6.0), backward(equation, TIME), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normal", "student"])
def test_runs_are_what_is_known(name):
    """`train` is the walk on the lattice, `solve` the equation, within their errors."""
    eta, steps, paths = 0.2, 8, 2000
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


def test_there_is_no_series():
    with pytest.raises(ValueError, match="Argument `equation` must be smooth in the gradient"):
        modified(SignSGD(0.1), order=2)


@pytest.mark.parametrize("kind", [SignSGD])
def test_sums_without_a_closed_form_are_refused(kind):
    data = (jnp.ones((4, 1)), jnp.arange(4.0))
    objective = Objective(lambda w, e: 0.5 * (jnp.dot(e[0], w) - e[1]) ** 2, data)
    for noise, batch in ((StudentT(3.0, 1.0), 2), (Isotropic(1.0, on=StudentT(3.0, 1.0)), None)):
        with pytest.raises(ValueError, match="Argument `noise_model` must be Gaussian, or StudentT on the full batch"):
            solve(kind(0.1, batch, noise_model=noise), objective, jnp.ones(1), steps=1, key=jax.random.key(0))
    assert Minibatch().normal and not Isotropic(1.0, on=StudentT(3.0, 1.0)).normal


# ---------------------------------------------------------------------------------------------------------------------
# Lion: two dimensions, and the same two ways


def barycentric(count, points, at):
    """The matrix that interpolates from Chebyshev points to `at`, shape `(*at.shape, count + 1)`."""
    weights = (-1.0) ** np.arange(count + 1) * np.where((np.arange(count + 1) % count) == 0, 0.5, 1.0)
    away = np.asarray(at)[..., None] - points
    hit = np.abs(away) < 1e-13
    terms = np.where(hit.any(-1, keepdims=True), hit, weights / np.where(hit, 1.0, away))
    return terms / terms.sum(-1, keepdims=True)


class Grid:
    """Functions of (theta, mu) at Chebyshev points around where Lion goes, flattened."""

    def __init__(self, counts=(20, 28), centers=(0.3, 0.1), widths=(2.2, 0.5)):
        self.counts, self.axes, self.along = counts, [], []
        for place, (count, center, width) in enumerate(zip(counts, centers, widths, strict=True)):
            x, d = chebyshev(count, width)
            self.axes.append(center + x)
            self.along.append(np.kron(d, np.eye(counts[1] + 1)) if place == 0 else np.kron(np.eye(counts[0] + 1), d))
        self.theta, self.mu = np.meshgrid(*self.axes, indexing="ij")

    def at_the_start(self, u):
        row = [barycentric(n, x, s) for n, x, s in zip(self.counts, self.axes, (START, 0.0), strict=True)]
        mean, square = np.kron(*row) @ u
        return np.array([mean, square - mean**2])

    @property
    def moments(self):
        return np.stack([self.theta.ravel(), self.theta.ravel() ** 2], axis=1)


def lion_discrete(lion, grid, steps):
    """Mean and variance of the algorithm: each step's noise by quadrature, on both sides of where the sign changes."""
    eta, b1, b2, decay = (float(x) for x in (lion.learning_rate, lion.b1, lion.b2, lion.weight_decay))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    switch = np.clip(-(b1 * grid.mu + (1 - b1) * grid.theta) / ((1 - b1) * SIGMA), -9, 9)
    matrix = 0.0
    for sign, low, high in ((1, switch, 9 + 0 * switch), (-1, -9 + 0 * switch, switch)):
        z = ((low + high)[..., None] + (high - low)[..., None] * nodes) / 2
        chance = (high - low)[..., None] / 2 * weights * np.exp(-(z**2) / 2) / (2 * np.pi) ** 0.5
        mu = b2 * grid.mu[..., None] + (1 - b2) * (grid.theta[..., None] + SIGMA * z)
        of_mu = np.einsum("ijq,ijqk->ijk", chance, barycentric(grid.counts[1], grid.axes[1], mu))
        of_theta = barycentric(grid.counts[0], grid.axes[0], (1 - eta * decay) * grid.axes[0] - eta * sign)
        matrix = matrix + np.einsum("ijk,il->ijlk", of_mu, of_theta)
    matrix, u = matrix.reshape(grid.theta.size, -1), grid.moments
    for _ in range(steps):
        u = matrix @ u
    return grid.at_the_start(u)


def lion_backward(lion, grid, time):
    """The same of the equation, by its own drift and diffusion."""

    @jax.jit
    @jax.vmap
    def local(theta, mu):
        state = LionState(theta[None], mu[None])
        operator = lion.diffusion(0.0, state, OBJECTIVE)
        zeros, unravel = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), operator.in_structure()))
        columns = jax.vmap(lambda unit: ravel_pytree(operator.mv(unravel(unit)))[0])(jnp.eye(zeros.size))
        return ravel_pytree(lion.drift(0.0, state, OBJECTIVE))[0], columns.T @ columns

    drift, noise = (np.asarray(x) for x in local(jnp.asarray(grid.theta.ravel()), jnp.asarray(grid.mu.ravel())))
    generator = sum(drift[:, [i]] * grid.along[i] for i in (0, 1))
    generator = generator + 0.5 * sum(
        noise[:, i, j][:, None] * (grid.along[i] @ grid.along[j]) for i in (0, 1) for j in (0, 1)
    )
    return grid.at_the_start(scipy.sparse.linalg.expm_multiply(time * generator, grid.moments))


@functools.cache
def truths(halvings):
    """Of the algorithm at RATES[2] / 2^halvings."""
    lion = Lion(RATES[2], noise_model=NOISE["normal"]).scaling_limit().rescaled(0.5**halvings)
    return lion_discrete(lion, Grid(), round(TIME / float(lion.learning_rate)))


def lion_slopes(kind, count):
    """Of the errors of mean and variance/eta from one learning rate to its half."""
    errors = []
    for halvings in range(count):
        lion = kind(RATES[2], noise_model=NOISE["normal"]).scaling_limit().rescaled(0.5**halvings)
        found = lion_backward(lion, Grid(), TIME) - truths(halvings)
        errors.append(np.abs(found) / (1.0, float(lion.learning_rate)))
    return np.log2(np.array(errors)[:-1] / np.array(errors)[1:])


@pytest.mark.slow
def test_lion_is_of_first_order():
    """At its default hyperparameters, mean and Var/eta, without sampling."""
    found = lion_slopes(Lion, 3)
    print(f"\nLion: slopes of the mean {found[:, 0]}, of variance/eta {found[:, 1]}")
    assert np.all(np.abs(found - 1) < 0.1)


class UncorrelatedNoises(Lion):
    """The noise of the sign and that of the average from different draws."""

    def diffusion(self, t, state, signal):
        operator = super().diffusion(t, state, signal)

        def mv(normals):
            sign, own = normals
            first, second = operator.mv(own), operator.mv((sign, own[1]))
            return LionState(second.params, first.mu)

        structure = operator.in_structure()
        return lx.FunctionLinearOperator(mv, (structure[0], structure))


@pytest.mark.parametrize("mutant", [pytest.param(ScaleOfTheGradientLost, marks=pytest.mark.slow), UncorrelatedNoises])
def test_mutants_of_lion_have_no_order(mutant):
    found = lion_slopes(mutant, 2)[0]
    print(f"\n{mutant.__name__}: slopes {found[0]:.2f} of the mean, {found[1]:.2f} of variance/eta")
    assert np.any(np.abs(found - 1) > 0.5)


@pytest.mark.slow
def test_the_grid_of_lion_has_converged():
    lion, grids = Lion(0.1, noise_model=NOISE["normal"]), (Grid(), Grid((32, 44), widths=(2.4, 0.55)))
    for side, length in ((lion_discrete, 16), (lion_backward, TIME)):
        np.testing.assert_allclose(side(lion, grids[0], length), side(lion, grids[1], length), atol=1e-5)


@pytest.mark.slow
def test_lion_by_sampling():
    """On the same normal numbers. (1 - b2 = .1 at b1 = .9 is not asymptotic: the average stands in the sign nine times.)"""
    lion = Lion(0.1, noise_model=Isotropic(SIGMA), b1=0.5, b2=0.9)
    report = orders(lion, OBJECTIVE, jnp.full(1, START), time=TIME, learning_rates=list(RATES), key=jax.random.key(0),
                    paths=200_000, observe={"w": lambda w: w})  # fmt: skip
    print(report)
    for measure in ("mean", "variance/eta"):
        assert abs(report.slope["w"][measure] - 1) < max(0.15, 2 * report.slope_error["w"][measure])

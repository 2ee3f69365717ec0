"""The entropy of recorded steps: by the route that the trajectory and its noise ask for, and with a word where none is."""

import re
from collections.abc import Callable

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest

from dynamics import entropy_production, solve, train
from dynamics._entropy.routes import chosen, noise_varies, warn_of_few_paths
from equations import SGD, AbstractDynamics, Isotropic, Objective, StudentT, scheduled

CASES = [
    ("entropy by the wrong route", "instance", "dy = -y dt + sqrt(.5 + .5 y^2) dW, default", "test_zero_current[Student]"),
    ("entropy by the wrong route", "brother", "dx = -x dt + sqrt(2 + x^2/2) dW", "test_zero_current[Reversible]"),
    ("entropy by the wrong route", "brother", "SGD on linear regression", "test_the_default_follows_the_noise"),
    ("entropy by the wrong route", "brother", "Euler steps, default", "test_euler_steps"),
    ("entropy by the wrong route", "brother", "route='step' given", "test_a_wrong_pairing_says_by_how_much"),
    ("noise judged at one time", "instance", "noise sqrt(.5 + .5 y^2 tanh(10 t))", "test_noise_along_the_run[time]"),
    ("noise judged at one time", "instance", "a linear warm-up of SGD's rate", "test_noise_along_the_run[schedule]"),
    ("noise judged at one time", "brother", "noise that varies in the middle of a run", "test_noise_along_the_run[middle]"),
    ("noise judged at one time", "brother", "one path, two saves", "test_noise_along_the_run[short]"),
    ("noise judged at one time", "brother", "constant in the state, growing in time", "test_noise_along_the_run[growing]"),
    ("noise judged at one time", "brother", "the default route", "test_the_default_along_the_run"),
    ("noise judged at one time", "brother", "Euler steps, several to a save", "test_euler_steps_of_several_substeps"),
    ("steps without a Gaussian density", "instance", "train(noise='minibatch')", "test_steps_without_a_density[minibatch]"),
    ("steps without a Gaussian density", "brother", "Isotropic on real minibatches", "test_steps_without_a_density[both]"),
    ("steps without a Gaussian density", "brother", "StudentT, full batch", "test_steps_without_a_density[StudentT]"),
    ("steps without a Gaussian density", "brother", "StudentT, noise='gaussian'", "test_steps_without_a_density[drawn]"),
    ("steps without a Gaussian density", "brother", "Isotropic, full batch: silent", "test_gaussian_steps_are_silent"),
    ("an ensemble too small for its Gaussian", "instance", "10 and 20 paths", "test_few_paths_say_so"),
    ("an ensemble too small for its Gaussian", "brother", "1, 2, 4 dimensions", "test_the_error_of_a_fitted_gaussian"),
    ("an ensemble too small for its Gaussian", "brother", "130 paths: silent", "test_enough_paths"),
]  # fmt: skip
KEY = jax.random.key(0)


class Reversible(AbstractDynamics):
    """dx = -x dt + sqrt(a + b x^2) dW, in one dimension and so without a current; p ~ (a + b x^2)^-(1 + b)/b."""

    a: jax.Array
    b: jax.Array

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.sqrt(self.a + self.b * state**2))

    def potential(self, x):
        return -(1 + self.b) / self.b * np.log(self.a + self.b * x**2)


PROCESSES = {"Student": (0.5, 0.5), "Reversible": (2.0, 0.5)}


def process(name):
    return Reversible(*map(jnp.asarray, PROCESSES[name]))


def paths(equation, dt, solver=None):
    return solve(
        equation, None, 3 * jnp.ones(1), steps=100, dt=dt, key=KEY, paths=1000, keep_states=True, solver=solver
    )


def off(equation, run, **options):
    """Medium entropy less the difference of ln p, per unit of time: its mean and its standard error."""
    x = np.asarray(run.states)[:, :, 0]
    medium = np.asarray(entropy_production(equation, None, run, **options).medium).sum(axis=1)
    values = (medium - equation.potential(x[:, -1]) + equation.potential(x[:, 0])) / float(run.times[-1])
    return values.mean(), values.std(ddof=1) / len(values) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_zero_current(name):
    """All entropy of the medium is a difference of ln p, path by path up to O(dt). Mutant: by steps."""
    equation = process(name)
    run = paths(equation, 0.01)
    mean, error = off(equation, run)
    with pytest.warns(UserWarning, match="third cumulants"):
        wrong, wrong_error = off(equation, run, route="step")
    print(f"\n{name}: {mean:.4f} ± {error:.4f}, by steps {wrong:.4f} ± {wrong_error:.4f}")
    assert abs(mean) < 0.02 and abs(wrong) > 4 * wrong_error and abs(wrong) > 5 * abs(mean)


def test_euler_steps():
    """Such a chain is not reversible, at any dt; the equation is. By steps it is the chain's, without a warning."""
    equation, rates = process("Student"), []
    for dt in (0.02, 0.01):
        run = paths(equation, dt, dfx.Euler())
        assert abs(off(equation, run)[0]) < 0.03
        rates.append(off(equation, run, route="step"))
    print(f"\nby steps {rates}")
    assert all(rate > 8 * error for rate, error in rates) and rates[1][0] > 0.6 * rates[0][0]


def test_a_wrong_pairing_says_by_how_much():
    equation = process("Student")
    run = paths(equation, 0.01)
    with pytest.warns(UserWarning) as said:
        by_steps = entropy_production(equation, None, run, route="step").medium
    by_path = entropy_production(equation, None, run, route="path").medium
    (message,) = [str(w.message) for w in said]
    for medium in (by_steps, by_path):
        assert f"{float(jnp.mean(medium)) / 0.01:.4g}" in message
    assert said[0].filename == __file__


def quadratic(w, x):
    return 0.5 * w @ (jnp.array([[1.0, 0.4], [0.4, 2.0]]) @ w) - w @ x


def regression(w, x):
    return 0.5 * (w @ x - x[0]) ** 2


DATA = jax.random.normal(KEY, (12, 2)) @ jnp.array([[1.0, 0.5], [0.0, 0.6]])


def test_the_default_follows_the_noise():
    """By steps where the noise is constant, by path where it varies; what is given stays."""
    states = jax.random.normal(KEY, (3, 5, 2))
    for loss, route in ((quadratic, "step"), (regression, "path")):
        times = 0.02 * jnp.arange(5.0), jnp.arange(5)
        varies = noise_varies(SGD(0.02, 2), Objective(loss, DATA), states, times)
        details = {"solver": "Strang(flow=Ralston3())", "substeps": "1"}
        assert chosen(None, "equation", details, varies) == (route, False)
        assert chosen("path", "equation", details, varies) == ("path", False)
        assert chosen("step", "equation", details, varies) == ("step", route == "path")


class InTime(AbstractDynamics):
    """dy = -y dt + sqrt(.5 + .5 (y^2 varying(t) + growing(t))) dW."""

    varying: Callable
    growing: Callable

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        squares = 0.5 + 0.5 * (state**2 * self.varying(t) + self.growing(t))
        return lx.DiagonalLinearOperator(jnp.sqrt(squares) * jnp.ones_like(state))


def nothing(t):
    return 0.0 * t


def later(t):
    return jnp.tanh(10 * t)


def middle(t):
    return jnp.where((t > 0.07) & (t < 0.13), 1.0, 0.0)


WARMED = scheduled(SGD(0.05, 2), optax.linear_schedule(0.0, 1.0, 20))
ALONG = {
    "time": (InTime(later, nothing), None, (4, 21), True),
    "middle": (InTime(middle, nothing), None, (4, 21), True),
    "schedule": (WARMED, Objective(regression, DATA), (4, 21), True),
    "short": (InTime(lambda t: 1.0 + 0.0 * t, nothing), None, (1, 2), True),
    "growing": (InTime(nothing, later), None, (4, 21), False),
}


@pytest.mark.parametrize("name", ALONG)
def test_noise_along_the_run(name):
    """Constant noise at the first save, and noise that varies with the state at later ones. Mutant: the first alone."""
    equation, objective, shape, expected = ALONG[name]
    states = jax.random.normal(KEY, (*shape, 2))
    times = 0.01 * jnp.arange(float(shape[1])), jnp.arange(shape[1])
    assert noise_varies(equation, objective, states, times) == expected
    if name in ("time", "schedule"):
        first = jax.tree.map(lambda leaf: jnp.zeros_like(leaf), times)
        assert not noise_varies(equation, objective, states, first)


@pytest.mark.slow
def test_the_default_along_the_run():
    """By path, though the noise is constant at the start."""
    equation = InTime(later, nothing)
    run = solve(equation, None, jnp.ones(2), steps=20, dt=0.01, key=KEY, paths=8, keep_states=True)
    default, by_path = (entropy_production(equation, None, run, route=route).medium for route in (None, "path"))
    np.testing.assert_array_equal(default, by_path)


def test_euler_steps_of_several_substeps():
    """Of Euler's steps one is Gaussian, and two that make one of a trajectory are not. Mutant: any number of substeps."""
    for substeps, wrong in (("1", False), ("2", True), ("8", True)):
        assert chosen("step", "equation", {"solver": "Euler()", "substeps": substeps}, True) == ("step", wrong)


NOT_GAUSSIAN = {
    "minibatch": (SGD(0.1, 2), "minibatch", "real minibatches have no density"),
    "both": (SGD(0.1, 2, noise_model=Isotropic(0.3)), "minibatch", "real minibatches have no density"),
    "StudentT": (SGD(0.1, noise_model=StudentT(4.0, 0.3)), "minibatch", "noise of StudentT are not Gaussian"),
    "drawn": (SGD(0.1, noise_model=StudentT(4.0, 0.3)), "gaussian", "noise of StudentT are not Gaussian"),
}


def entropies(sgd, noise):
    objective = Objective(quadratic, DATA)
    run = train(sgd, objective, jnp.ones(2), steps=3, key=KEY, paths=2, noise=noise, keep_states=True)
    return entropy_production(sgd, objective, run).medium


@pytest.mark.parametrize("name", NOT_GAUSSIAN)
def test_steps_without_a_density(name):
    sgd, noise, words = NOT_GAUSSIAN[name]
    with pytest.warns(UserWarning, match=words) as said:
        assert np.all(np.isfinite(entropies(sgd, noise)))
    assert len(said) == 1 and said[0].filename == __file__


def test_gaussian_steps_are_silent():
    for noise in ("minibatch", "gaussian"):  # without minibatches both are one
        assert np.all(np.isfinite(entropies(SGD(0.1, noise_model=Isotropic(0.3)), noise)))


@pytest.fixture(scope="module")
def ensemble():
    equation, objective = SGD(0.1, noise_model=Isotropic(0.3)), Objective(quadratic, DATA)
    run = train(equation, objective, jnp.ones(2), steps=4, key=KEY, paths=130, noise="gaussian", keep_states=True)

    def entropy(good):
        some = eqx.tree_at(lambda t: t.ok, run, run.ok.at[good:].set(False))
        return entropy_production(equation, objective, some, density="ensemble", burn_in=1)

    return entropy


@pytest.mark.slow
def test_few_paths_say_so(ensemble):
    for good, words in ((10, "by 0.25 on average; with 125 paths it is by 0.02"), (20, "by 0.12 on average")):
        with pytest.warns(UserWarning, match=f"{good} paths in 2 dimensions do not fix a Gaussian.*{words}"):
            ensemble(good)


@pytest.mark.slow
def test_enough_paths(ensemble):
    assert np.all(np.isfinite(ensemble(130).total))


def test_the_error_of_a_fitted_gaussian():
    """What the warning says: ln p of the paths themselves, and the divergence, by 2000 ensembles."""
    rng = np.random.default_rng(0)
    for size, count in ((1, 20), (2, 50), (4, 100)):
        x = rng.normal(size=(2000, count, size))
        mean = x.mean(axis=1)
        centered = x - mean[:, None]
        covariance = np.einsum("rni,rnj->rij", centered, centered) / (count - 1)
        inverse, logdet = np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]
        first = centered[:, 0]
        wrong = (np.sum(x[:, 0] ** 2, axis=1) - np.einsum("ri,rij,rj->r", first, inverse, first) - logdet) / 2
        traces = np.trace(inverse, axis1=1, axis2=2) + np.einsum("ri,rij,rj->r", mean, inverse, mean)
        divergence = np.mean(traces - size + logdet) / 2
        with pytest.warns(UserWarning) as said:
            warn_of_few_paths(count, size)
        told = [float(x) for x in re.findall(r" by (0\.\d+)", str(said[0].message))][:2]
        np.testing.assert_allclose(told, [np.sqrt(np.mean(wrong**2)), divergence], rtol=0.25)

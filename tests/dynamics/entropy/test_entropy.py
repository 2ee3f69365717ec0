"""Entropy production: closed forms for linear processes, fluctuation theorems, and estimators that see paths alone."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from oracles import LinearRegression
from scipy.stats import multivariate_normal as normal

from dynamics import entropy_production, solve, stationary, train
from dynamics._entropy.local import Local
from dynamics._entropy.production import midpoint, stochastic_step
from equations import SGD, AbstractDynamics, AbstractEquation, Adam, Momentum, Objective, scheduled
from equations._optimizers.momentum import MomentumState
from validation import fluctuation_theorem, neural_estimate, short_time_bound

KEY = jax.random.key(0)
H = np.array([[2.0, 0.3], [0.3, 1.0]])
ROOT = np.array([[1.0, 0.0], [1.2, 0.5]])


H3, ROOT3 = np.zeros((3, 3)), np.zeros((3, 2))  # a third direction by itself, without noise
H3[:2, :2], H3[2, 2], ROOT3[:2] = H, 0.7, ROOT


class Linear(AbstractDynamics):
    """dY = -H Y dt + R dW."""

    learning_rate: jax.Array
    root: jax.Array = eqx.field(default_factory=lambda: jnp.asarray(ROOT), converter=jnp.asarray)
    matrix: jax.Array = eqx.field(default_factory=lambda: jnp.asarray(H), converter=jnp.asarray)

    def drift(self, t, state, signal):
        return -self.matrix @ state

    def diffusion(self, t, state, signal):
        return lx.MatrixLinearOperator(self.root)


OU = Linear(jnp.asarray(0.01))
BURN, WINDOW = 400, 25


@pytest.fixture(scope="module")
def chain():
    """Euler-Maruyama steps of the process, which is a discrete algorithm: 1000 paths over 400 stationary steps."""
    steps = BURN + 16 * WINDOW
    return solve(OU, None, jnp.zeros(2), steps=steps, key=KEY, paths=1000, keep_states=True, solver=dfx.Euler())


def test_rate_of_a_linear_process():
    """Against tr(B^T D^{-1} B C) - tr B; zero for a commuting pair."""
    s = stationary(OU, None, jnp.ones(2))
    d, c = ROOT @ ROOT.T / 2, np.asarray(s.covariance)
    assert np.abs(H @ c + c @ H.T - 2 * d).max() < 1e-12 and np.abs(s.mean).max() < 1e-12
    truth = np.trace(H.T @ np.linalg.inv(d) @ H @ c) - np.trace(H)
    assert truth > 1 and abs(float(s.entropy_production_rate) - truth) < 1e-10
    np.testing.assert_allclose(s.current, -H + d @ np.linalg.inv(c), atol=1e-12)
    # The current circulates: no divergence, and along the contours of the density.
    assert abs(np.trace(s.current)) < 1e-12
    assert np.abs(np.asarray(s.current) @ c + (np.asarray(s.current) @ c).T).max() < 1e-12
    values, vectors = np.linalg.eigh(H)
    commuting = Linear(OU.learning_rate, jnp.asarray(vectors * np.array([0.7, 1.3])))
    for discrete in (False, True):
        assert abs(float(stationary(commuting, None, jnp.ones(2), discrete=discrete).entropy_production_rate)) < 1e-10


@pytest.mark.slow
def test_rate_by_paths(chain):
    """The chain against its own closed form, and the process against the continuous one, within 3 standard errors."""
    exact = stationary(OU, None, jnp.ones(2), discrete=True)
    e = entropy_production(OU, None, chain, reference=exact, burn_in=BURN)
    np.testing.assert_allclose(e.total, e.medium + e.system, atol=1e-12)
    np.testing.assert_allclose(e.housekeeping + e.excess, e.medium, atol=1e-12)
    np.testing.assert_allclose(e.system, -e.excess, atol=1e-12)  # the path is stationary
    flow = solve(OU, None, jnp.zeros(2), steps=BURN + 100, key=KEY, paths=1000, keep_states=True)
    fine = entropy_production(OU, None, flow, route="path", burn_in=BURN)
    for name, medium, truth in (
        ("chain", e.medium, exact.entropy_production_rate),
        ("process", fine.medium, stationary(OU, None, jnp.ones(2)).entropy_production_rate),
    ):
        rates = np.asarray(medium.mean(axis=1)) / float(OU.learning_rate)
        error = rates.std(ddof=1) / len(rates) ** 0.5
        print(f"\n{name}: {rates.mean():.4f} +- {error:.4f}, exact {float(truth):.4f}")
        assert abs(rates.mean() - truth) < 3 * error and error < 0.05 * truth


@pytest.mark.slow
def test_midpoint_with_regularization(chain):
    """2 (S + r^2/dt)^{-1} b dy, for constant noise; r is per step, as in the other route."""
    short = eqx.tree_at(
        lambda t: (t.states, t.steps, t.times), chain, (chain.states[:, :4], chain.steps[:4], chain.times[:4])
    )
    r, dt, y = 0.05, 0.01, np.asarray(short.states)
    medium = entropy_production(OU, None, short, route="path", regularization=r).medium
    force = np.linalg.solve(ROOT @ ROOT.T + r**2 / dt * np.eye(2), -H @ (y[:, 1:] + y[:, :-1])[..., None] / 2)[..., 0]
    np.testing.assert_allclose(medium, 2 * np.sum(force * np.diff(y, axis=1), axis=-1), atol=1e-12)


class Driven(Linear):
    """A force that grows with time."""

    def drift(self, t, state, signal):
        return super().drift(t, state, signal) + 50 * t


@pytest.mark.slow
def test_the_clock_and_paths_that_failed(chain):
    """A burn-in leaves steps out and does not set the clock back; what diverged has no entropy. The force is that at the
    beginning of a step, against SciPy's densities."""
    driven = Driven(OU.learning_rate)
    run = eqx.tree_at(
        lambda t: (t.states, t.steps, t.times, t.equation, t.ok), chain,
        (chain.states[:4, :8], chain.steps[:8], chain.times[:8], driven, chain.ok[:4]),
    )  # fmt: skip
    whole = entropy_production(driven, None, run).medium
    np.testing.assert_allclose(entropy_production(driven, None, run, burn_in=3).medium, whole[:, 3:], rtol=1e-12)

    def density(before, after, k):
        return normal(before + 0.01 * (-H @ before + 50 * 0.01 * k), 0.01 * ROOT @ ROOT.T).logpdf(after)

    np.testing.assert_allclose(whole, by_densities(density, np.asarray(run.states)), rtol=1e-9)
    failed = eqx.tree_at(lambda t: t.ok, run, run.ok.at[1].set(False))
    entropies = entropy_production(driven, None, failed).medium
    assert np.all(np.isnan(entropies[1])) and np.all(entropies[0] == whole[0])
    # As Adam's equation where it starts: no regularization mends an empty second moment.
    empty = eqx.tree_at(lambda t: t.states, run, run.states.at[:, :2].set(np.nan))
    with pytest.raises(ValueError, match="Argument `burn_in` must be at least 2 for these paths"):
        entropy_production(driven, None, empty)


@pytest.mark.slow
def test_the_ensemble_is_that_of_the_paths_that_are_well(chain):
    """A path that diverged has no part in their mean and covariance."""

    def run(paths):
        arrays = (
            chain.states[paths, BURN : BURN + 4],
            chain.steps[:4],
            chain.times[:4],
            chain.ok[paths],
            chain.final[paths],
        )
        return eqx.tree_at(lambda t: (t.states, t.steps, t.times, t.ok, t.final), chain, arrays)

    whole = run(np.arange(21))
    far = eqx.tree_at(lambda t: (t.states, t.ok), whole, (whole.states.at[20].mul(1e3), whole.ok.at[20].set(False)))
    with pytest.warns(UserWarning, match="20 paths in 2 dimensions do not fix a Gaussian"):
        with_failed, without = (entropy_production(OU, None, r, density="ensemble") for r in (far, run(np.arange(20))))
    np.testing.assert_allclose(with_failed.system[:20], without.system, rtol=1e-9)
    assert np.all(np.isnan(with_failed.system[20]))
    measured = without.system[0, 0]
    states = np.asarray(chain.states)[:20, BURN : BURN + 2]
    densities = [normal(x.mean(0), np.cov(x.T)).logpdf(x[0]) for x in (states[:, 0], states[:, 1])]
    np.testing.assert_allclose(measured, densities[0] - densities[1], rtol=1e-9)


@pytest.mark.slow
def test_relaxation():
    """Paths on their way, with the ensemble's own density: three integral theorems. Mutant: the medium's entropy alone."""
    run = solve(OU, None, jnp.zeros(2), steps=36, key=KEY, paths=4000, keep_states=True, solver=dfx.Euler())
    exact = stationary(OU, None, jnp.ones(2), discrete=True)
    e = entropy_production(OU, None, run, reference=exact, density="ensemble", burn_in=24)
    parts = {"total": e.total, "housekeeping": e.housekeeping, "the rest": e.total - e.housekeeping, "mutant": e.medium}
    theorems = {name: fluctuation_theorem(values.sum(axis=1)) for name, values in parts.items()}
    print("\n" + "\n".join(f"{name}: {theorem}" for name, theorem in theorems.items()))
    mutant = theorems.pop("mutant")
    for theorem in theorems.values():
        assert abs(theorem.integral - 1) < 3 * theorem.integral_error and theorem.effective_samples > 500
    assert theorems["the rest"].mean > 8 * theorems["the rest"].mean_error  # it is relaxing
    assert abs(mutant.integral - 1) > 8 * mutant.integral_error


@pytest.mark.slow
def test_fluctuation_theorems(chain):
    """Of the total entropy of windows; mutants: the medium alone, the density of the other process."""
    exact = stationary(OU, None, jnp.ones(2), discrete=True)
    e = entropy_production(OU, None, chain, reference=exact, burn_in=BURN)

    def windows(values):
        return np.asarray(values).reshape(len(values), -1, WINDOW).sum(axis=2).ravel()

    right, mutant = (fluctuation_theorem(windows(x)) for x in (e.total, e.medium))
    print(f"\ntotal  {right}\nmedium {mutant}")
    assert abs(right.integral - 1) < 3 * right.integral_error and right.effective_samples > 1000
    assert abs(right.slope - 1) < 0.05 and right.slope_error < 0.025 and right.mean > 0
    distance = abs(mutant.slope - 1) / mutant.slope_error  # its integral rests on a handful of paths
    print(f"mutant without the system's entropy: slope {distance:.0f} standard errors off 1")
    assert distance > 8


def stationary_states(run):
    return np.asarray(run.states)[:, BURN:], float(OU.learning_rate)


@pytest.mark.slow
def test_estimator_by_the_uncertainty_relation(chain):
    """Within 10 % of the exact rate; in equilibrium nothing is produced, and the bias is taken out."""
    truth = float(stationary(OU, None, jnp.ones(2), discrete=True).entropy_production_rate)
    value, error = short_time_bound(*stationary_states(chain))
    print(f"\nshort-time bound: {value:.4f} +- {error:.4f}, exact {truth:.4f}")
    assert abs(value / truth - 1) < 0.1
    groups = np.array([short_time_bound(stationary_states(chain)[0][i::10], 0.01).value for i in range(10)])
    print(f"by the spread of ten groups +- {groups.std(ddof=1) / 10**0.5:.4f}")
    assert 0.5 < error / (groups.std(ddof=1) / 10**0.5) < 2
    # Read without its order in time, the same path is reversible: half of each increment forward, half backward.
    states, dt = stationary_states(chain)
    mixed = np.concatenate([states[::2], states[1::2, ::-1]])
    value, error = short_time_bound(mixed, dt)
    assert abs(value) < 4 * error + 0.01 * truth
    # On few increments the bias shows, 2/dt times the 6 products over the increments: without its removal it is rejected.
    parts = np.array([short_time_bound(part[:32, :33], dt).value for part in [mixed[i::30] for i in range(30)]])
    error, bias = parts.std(ddof=1) / 30**0.5, 2 / dt * 6 / (32 * 32)
    print(
        f"few increments: {parts.mean():.3f} +- {error:.3f}; with the bias {abs(parts.mean() + bias) / error:.0f} s.e. off"
    )
    assert abs(parts.mean()) < 4 * error and abs(parts.mean() + bias) > 6 * error


@pytest.mark.slow
def test_neural_estimator_of_a_drift():
    """Increments N(m, 1) produce 2 m per unit of way, 2 m^2 on average; a small network, in a second, within 20 %."""
    rng, drift = np.random.default_rng(0), 0.5
    ways = np.cumsum(drift + rng.normal(size=(64, 129, 1)), axis=1)
    value, error = neural_estimate(ways, 1.0, key=KEY, width=8, iterations=150, batch_size=256)
    print(f"\nneural: {value:.4f} +- {error:.4f}, exact {2 * drift**2:.4f}")
    assert abs(value / (2 * drift**2) - 1) < 0.2
    assert abs(neural_estimate(ways, 0.5, key=KEY, width=8, iterations=150, batch_size=256).value / value - 2) < 1e-6


@pytest.mark.slow
def test_neural_estimator(chain):
    """Within 10 % of the exact rate."""
    truth = float(stationary(OU, None, jnp.ones(2), discrete=True).entropy_production_rate)
    value, error = neural_estimate(*stationary_states(chain), key=KEY, iterations=800, batch_size=2048)
    print(f"\nneural: {value:.4f} +- {error:.4f}, exact {truth:.4f}")
    assert abs(value / truth - 1) < 0.1


class Noised(AbstractDynamics):
    """A gradient step with N(0, sigma^2 I) added: H = diag(1, 3)."""

    learning_rate: jax.Array
    sigma: jax.Array

    def drift(self, t, state, signal):
        return -jnp.array([1.0, 3.0]) * state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(self.sigma / jnp.sqrt(self.learning_rate) * jnp.ones(2))


@pytest.mark.slow
def test_one_noisy_step_of_a_quadratic():
    """E Delta s = |(1 - M^2) theta|^2/(2 sigma^2) + tr(M^2 - 1)/2 = 4.70625."""
    equation, theta = Noised(jnp.asarray(0.1), jnp.asarray(0.1)), jnp.array([1.0, -0.5])
    run = solve(equation, None, theta, steps=1, key=KEY, paths=20000, keep_states=True, solver=dfx.Euler())
    s = np.asarray(entropy_production(equation, None, run).medium)[:, 0]
    m = 1 - 0.1 * np.array([1.0, 3.0])
    truth = np.sum(((1 - m**2) * theta) ** 2) / (2 * 0.01) + 0.5 * np.sum(m**2 - 1)
    error = s.std(ddof=1) / len(s) ** 0.5
    print(f"\n{s.mean():.5f} +- {error:.5f}, exact {truth:.5f}")
    assert abs(truth - 4.70625) < 1e-12 and abs(s.mean() - truth) < 3 * error


# State-dependent noise


class Reversible(AbstractDynamics):
    """dx = -x dt + sqrt(2 D) dW (Itô), D = 1 + x^2/4: in one dimension the medium entropy is a difference of potentials."""

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.sqrt(2 + state**2 / 2))

    @staticmethod
    def potential(x):
        """psi' = (b - D')/D = -(3/2) x/D."""
        return -3 * jnp.log(1 + x**2 / 4)


class Curved(AbstractDynamics):
    """Noise in two dimensions that depends on the state: S = R R^T with R = [[1, y_1], [y_0^2, 1]]."""

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.MatrixLinearOperator(jnp.array([[1.0, state[1]], [state[0] ** 2, 1.0]]))


@pytest.mark.slow
def test_the_divergence_of_the_noise():
    """sum_j d S_ij/d y_j of S = [[1 + y_1^2, y_0^2 + y_1], [y_0^2 + y_1, y_0^4 + 1]] is (1, 2 y_0)."""
    local, y = Local.at(Curved(), None, jnp.array([0.3, -0.7]))
    np.testing.assert_allclose(local.divergence(jnp.zeros(()), y), [1.0, 0.6], rtol=1e-12)


class DivergenceDropped(Local):
    def divergence(self, t, y):
        return jnp.zeros_like(y)


def left_point(local, t, before, after, dt, regularization):
    """Mutant: the Itô integral of the same force."""
    force = local.drift(t, before) - local.divergence(t, before) / 2
    return 2 * jnp.dot(force, jnp.linalg.solve(local.covariance(t, before), after - before))


@eqx.filter_jit
def along(local, between, before, after, dts):
    """The entropy by every state and by every second one, `(2, paths)`, of which there are half as many."""
    one = jax.vmap(jax.vmap(lambda y, z, dt: between(local, jnp.zeros(()), y, z, dt, 0.0)), in_axes=(0, 0, None))
    values, fine = one(before, after, dts), 2 * len(dts) // 3
    return values[:, :fine].sum(axis=1), values[:, fine:].sum(axis=1)


@pytest.mark.slow
def test_path_entropy_with_state_dependent_noise():
    """Path by path: an error of O(dt), which goes to zero with dt; that of the mutants, Itô for Stratonovich and the
    divergence of the diffusion dropped, does not. And the route by steps."""
    dt = 0.005
    flow = solve(Reversible(), None, 3 * jnp.ones(1), steps=200, dt=dt, key=KEY, paths=400, keep_states=True)
    x = np.asarray(flow.states)[:, :, 0]
    truth = Reversible.potential(x[:, -1]) - Reversible.potential(x[:, 0])
    entropies = entropy_production(
        Reversible(), None, flow, route="path", reference=lambda x: Reversible.potential(x[0])
    )
    right = np.asarray(entropies.medium).sum(axis=1)
    # The density is known and not Gaussian; in one dimension nothing is housekeeping.
    assert np.abs(np.asarray(entropies.housekeeping).sum(axis=1)).max() < 0.05

    before, after = (jnp.concatenate(pair, axis=1) for pair in (
        (flow.states[:, :-1], flow.states[:, :-2:2]), (flow.states[:, 1:], flow.states[:, 2::2])
    ))  # fmt: skip
    steps = before, after, jnp.repeat(jnp.array([dt, 2 * dt]), jnp.array([200, 100]))
    plain, dropped = (kind(Reversible(), None, ravel_pytree(jnp.ones(1))[1]) for kind in (Local, DivergenceDropped))
    offs = {
        "Stratonovich": along(plain, midpoint, *steps),
        "mutant: Itô": along(plain, left_point, *steps),
        "mutant: divergence dropped": along(dropped, midpoint, *steps),
        "route by steps": along(plain, stochastic_step, *steps),
    }
    np.testing.assert_allclose(offs["Stratonovich"][0], right, rtol=1e-10)
    limits = {}
    for name, values in offs.items():
        fine, coarse = (np.asarray(x) - truth for x in values)
        limit = 2 * fine - coarse  # extrapolated to dt = 0
        limits[name] = abs(limit.mean()) / (limit.std(ddof=1) / len(limit) ** 0.5)
        print(f"\n{name}: off by {coarse.mean():.4f} at {2 * dt}, {fine.mean():.4f} at {dt}, spread {fine.std():.4f}; "
              f"at 0 by {limit.mean():.5f} ({limits[name]:.1f} s.e.)", end="")  # fmt: skip
    fine, coarse = (np.asarray(x) - truth for x in offs["Stratonovich"])
    assert abs(fine.mean()) < 0.01 and fine.std() < 0.01
    assert 1.8 < coarse.mean() / fine.mean() < 2.2 and limits["Stratonovich"] < 4
    assert limits["mutant: Itô"] > 8 and limits["mutant: divergence dropped"] > 8


# Stationary distributions of training algorithms

PROBLEM = LinearRegression()


@pytest.mark.slow
@pytest.mark.parametrize("discrete", [False, True])
def test_linear_regression_with_its_multiplicative_noise(discrete):
    s = stationary(SGD(0.1, 4), PROBLEM.objective, PROBLEM.start, discrete=discrete, multiplicative=True)
    step = (PROBLEM.sgd_map if discrete else PROBLEM.sde_map)(0.1, 4)
    means, covariances = PROBLEM.trace(step, 600, 600)
    np.testing.assert_allclose(s.mean, means[-1], atol=1e-9)
    np.testing.assert_allclose(s.covariance, covariances[-1], atol=1e-9)
    assert np.isnan(s.entropy_production_rate)
    y = PROBLEM.start
    assert np.linalg.norm(s.mean) > 0.5
    np.testing.assert_allclose(s.log_density(y), normal(s.mean, s.covariance).logpdf(y), rtol=1e-12)
    np.testing.assert_allclose(s.velocity(y), np.asarray(s.current) @ (y - np.asarray(s.mean)), rtol=1e-12)


CURVATURE = np.array([[1.0, 0.4], [0.4, 2.0]])
RATES = np.array([[0.2, 0.05], [0.05, 0.1]])
NOISE = np.random.default_rng(0).normal(size=(20, 2)) @ np.array([[1.0, 0.5], [0.0, 0.6]])
NOISE -= NOISE.mean(0)


def tilted(theta, x):
    return 0.5 * theta @ (jnp.asarray(CURVATURE) @ theta) - theta @ x


QUADRATIC = Objective(tilted, NOISE)  # constant noise of covariance NOISE^T NOISE/20


class Preconditioned(AbstractEquation):
    """d theta = -Lambda (g dt + noise), with a matrix Lambda in units of the learning rate."""

    def velocity(self, t, state, gradient):
        return -jnp.asarray(RATES) @ gradient

    def twin(self):
        turn = optax.stateless(lambda updates, params: jnp.asarray(RATES) @ updates)
        return optax.chain(turn, optax.sgd(self.learning_rate))


@pytest.mark.slow
def test_matrix_learning_rate_and_momentum():
    """(1-m)(LHS + SHL) - (1+m^2)/(1-m^2) LHSHL + m/(1-m^2)(LHLHS + SHLHL) = LCL (Liu, Ziyin and Ueda 2021, ICML)."""
    noise = NOISE.T @ NOISE / len(NOISE) / 2
    for equation, rate, m in (
        (Preconditioned(1.0, 2), RATES, 0.0),
        (Momentum(0.1, 2, momentum=0.7), 0.1 * np.eye(2), 0.7),
    ):
        full = stationary(equation, QUADRATIC, jnp.ones(2), discrete=True)
        s, step_noise = np.asarray(full.covariance)[:2, :2], np.asarray(full.noise)[:2, :2]
        if m == 0:  # of a whole step
            np.testing.assert_allclose(step_noise, rate @ noise @ rate, rtol=1e-12)
        hs, lh = CURVATURE @ s, rate @ CURVATURE
        left = (1 - m) * (lh @ s + (lh @ s).T) - (1 + m**2) / (1 - m**2) * lh @ s @ lh.T
        left += m / (1 - m**2) * (lh @ lh @ s + (lh @ lh @ s).T)
        np.testing.assert_allclose(left, rate @ noise @ rate, atol=1e-14)
        assert hs.shape == (2, 2)
    # Continuous, matrix learning rate: L H S + S H L = eta L C L.
    full = stationary(Preconditioned(0.3, 2), QUADRATIC, jnp.ones(2))
    np.testing.assert_allclose(full.noise, 0.3 * RATES @ noise @ RATES, rtol=1e-12)
    s = np.asarray(full.covariance)
    lh = RATES @ CURVATURE
    np.testing.assert_allclose(lh @ s + (lh @ s).T, 0.3 * RATES @ noise @ RATES, atol=1e-14)


@pytest.mark.slow
def test_a_training_run():
    """SGD on Gaussian gradients, whose covariance does not commute with the curvature, against its closed form."""
    sgd = SGD(0.2, 2)
    exact = stationary(sgd, QUADRATIC, jnp.ones(2), discrete=True)
    run = train(sgd, QUADRATIC, jnp.ones(2), steps=300, key=KEY, paths=1000, noise="gaussian", keep_states=True)
    e = entropy_production(sgd, QUADRATIC, run, reference=exact, burn_in=100)
    rates = np.asarray(e.medium.mean(axis=1)) / 0.2
    error, truth = rates.std(ddof=1) / len(rates) ** 0.5, float(exact.entropy_production_rate)
    theorem = fluctuation_theorem(e.total[:, :4].sum(axis=1))
    print(f"\nrate {rates.mean():.4f} +- {error:.4f}, exact {truth:.4f}; {theorem}")
    assert truth > 8 * error and abs(rates.mean() - truth) < 3 * error
    assert abs(theorem.integral - 1) < 3 * theorem.integral_error and theorem.effective_samples > 100


SPIN = Objective(tilted, np.random.default_rng(1).normal(size=(20, 2)) @ np.array([[1.0, 2.0], [0.0, 0.3]]))


def spinning(noise):
    """Stationary parameters along runs of SGD, and the exact rate of the algorithm with Gaussian noise."""
    sgd = SGD(0.02, 2)
    truth = float(stationary(sgd, SPIN, jnp.ones(2), discrete=True).entropy_production_rate)
    run = train(sgd, SPIN, jnp.zeros(2), steps=600, key=KEY, paths=500, noise=noise, keep_states=True)
    return np.asarray(run.states)[:, 200:], truth


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["minibatch", pytest.param("gaussian", marks=pytest.mark.slow)])
def test_short_time_bound_on_training_runs(noise):
    """The algorithm's own runs, whose equation the estimator does not see: within 10 % of the closed form."""
    states, truth = spinning(noise)
    value, error = short_time_bound(states, 0.02)
    print(f"\n{noise}: {value:.3f} +- {error:.3f}, exact {truth:.3f}")
    assert abs(value / truth - 1) < 0.1


@pytest.mark.slow
def test_neural_estimator_on_training_runs():
    states, truth = spinning("gaussian")
    value, error = neural_estimate(states, 0.02, key=KEY, iterations=800, batch_size=2048)
    print(f"\nneural: {value:.3f} +- {error:.3f}, exact {truth:.3f}")
    assert abs(value / truth - 1) < 0.1


# Singular noise, and what an optimizer's memory holds


@pytest.mark.slow
def test_noise_in_some_directions_only():
    """What the noise never reaches has no part in the rate; a rate without limit grows as 1/r^2."""
    for discrete in (False, True):
        part = stationary(OU, None, jnp.ones(2), discrete=discrete)
        whole = stationary(Linear(OU.learning_rate, ROOT3, H3), None, jnp.ones(3), discrete=discrete)
        assert whole.rank == 2 and abs(whole.entropy_production_rate - part.entropy_production_rate) < 1e-10
        np.testing.assert_allclose(whole.covariance[:2, :2], part.covariance, atol=1e-13)
        np.testing.assert_allclose(whole.current[:2, :2], part.current, atol=1e-11)
        assert np.all(np.asarray(whole.covariance)[2] == 0)
        with pytest.raises(ValueError, match="Argument `regularization` of `stationary` must be positive"):
            whole.log_density(jnp.ones(3))
        full = stationary(
            Linear(OU.learning_rate, ROOT3, H3), None, jnp.ones(3), discrete=discrete, regularization=1e-7
        )
        assert full.rank == 3 and np.isfinite(full.log_density(jnp.ones(3)))
        # r is per training step: r^2/eta per unit of time, in the direction that has no other noise.
        alone, eta = 1e-14 / 0.01, 0.01
        truth = eta * alone / (1 - (1 - 0.7 * eta) ** 2) if discrete else alone / (2 * 0.7)
        assert abs(full.covariance[2, 2] / truth - 1) < 1e-6
        assert abs(full.noise[2, 2] / (alone * (eta if discrete else 1)) - 1) < 1e-6
        assert abs(full.entropy_production_rate / part.entropy_production_rate - 1) < 1e-6
    momentum = Momentum(0.1, 2, momentum=0.7)
    assert np.isinf(stationary(momentum, QUADRATIC, jnp.ones(2), discrete=True).entropy_production_rate)
    scaled = [
        float(stationary(momentum, QUADRATIC, jnp.ones(2), discrete=True, regularization=r).entropy_production_rate)
        * r**2
        for r in (1e-4, 5e-5)
    ]
    print(f"\nr^2 x rate: {scaled}")
    assert scaled[0] > 0 and abs(scaled[1] / scaled[0] - 1) < 1e-3


@pytest.mark.slow
def test_the_current(chain):
    """The antisymmetric correlation over a step, of the chain's paths; a current without its half is rejected."""
    exact = stationary(OU, None, jnp.ones(2), discrete=True)
    states = np.asarray(chain.states)[:, BURN:]
    before, after = states[:, :-1], states[:, 1:]
    turns = (after[..., 0] * before[..., 1] - after[..., 1] * before[..., 0]).mean(axis=1) / 2
    mean, error = turns.mean(), turns.std(ddof=1) / len(turns) ** 0.5
    truth = float((exact.current @ exact.covariance)[0, 1])
    print(
        f"\n{mean:.3e} +- {error:.1e}, exact {truth:.3e}; without the half {abs(mean - 2 * truth) / error:.0f} s.e. off"
    )
    assert abs(mean - truth) < 3 * error and abs(mean - 2 * truth) > 8 * error
    s, y = stationary(OU, None, jnp.ones(2)), jnp.array([0.3, -0.2])
    np.testing.assert_allclose(s.probability_current(y), jnp.exp(s.log_density(y)) * (s.current @ y), rtol=1e-12)
    assert abs(jnp.trace(jax.jacfwd(s.probability_current)(y))) < 1e-12


def falling(step):
    return 0.5 + 0.5 / (1.0 + step)


@pytest.mark.slow
def test_what_an_optimizer_counts_is_no_coordinate():
    """Path by path, against SciPy's densities of the Gaussian steps, bias correction and schedule as at the step."""
    covariance = NOISE.T @ NOISE / len(NOISE) / 2
    sgd = scheduled(SGD(0.2, 2), falling)
    run = train(sgd, QUADRATIC, jnp.ones(2), steps=4, key=KEY, paths=3, noise="gaussian", keep_states=True)
    y = np.asarray(run.states)

    def plain(before, after, k):
        eta = 0.2 * falling(k)
        return normal(before - eta * CURVATURE @ before, eta**2 * covariance).logpdf(after)

    np.testing.assert_allclose(entropy_production(sgd, QUADRATIC, run).medium, by_densities(plain, y), rtol=1e-9)

    b1, b2, eps, eta, r = 0.8, 0.9, 0.1, 0.05, 0.02
    adam = Adam(eta, 2, b1=b1, b2=b2, eps=eps)
    run = train(adam, QUADRATIC, jnp.ones(2), steps=3, key=KEY, paths=2, noise="gaussian", keep_states=True)
    y = np.concatenate(jax.tree.leaves((run.states.params, run.states.mu, run.states.nu)), axis=-1)

    @jax.jit
    def step(state, k, gradient):
        theta, mu, nu = jnp.split(state, 3)
        mu, nu = b1 * mu + (1 - b1) * gradient, b2 * nu + (1 - b2) * gradient**2
        root = jnp.sqrt(nu / (1 - b2 ** (k + 1))) + eps
        return jnp.concatenate([theta - eta * mu / (1 - b1 ** (k + 1)) / root, mu, nu])

    def density(before, after, k):
        mean, field = CURVATURE @ before[:2], lambda g: step(jnp.asarray(before), 1.0 * k, g)
        center = np.mean([[field(mean + sign * x / 2**0.5) for sign in (1, -1)] for x in NOISE], axis=(0, 1))
        first, second = jax.jacfwd(field)(mean) @ np.linalg.cholesky(covariance), jax.jacfwd(jax.jacfwd(field))(mean)
        spread = first @ first.T + np.einsum("aij,jk,bkl,li->ab", second, covariance, second, covariance) / 2
        return normal(center, spread + r**2 * np.eye(6)).logpdf(after)

    measured = entropy_production(adam, QUADRATIC, run, regularization=r).medium
    np.testing.assert_allclose(measured, by_densities(density, y), rtol=1e-7)
    print(f"\nAdam {measured.mean():.2f}; with the count as a coordinate {2 / r**2:.0f} more")


def by_densities(log_density, states):
    def one(path):
        steps = enumerate(zip(path[:-1], path[1:], strict=True))
        return [log_density(before, after, k) - log_density(after, before, k) for k, (before, after) in steps]

    return np.array([one(path) for path in states])


@pytest.mark.slow
def test_stationary_adam_and_schedules():
    """Adam at its frozen second moment, by the commuting formula for the momentum b1; schedules at their end."""
    eta, b1, c = 0.01, 0.9, 0.25
    objective = Objective(lambda w, x: w**2 - w * x, np.sqrt(2 * c) * np.array([1.0, -1.0]))  # curvature 2, noise c
    adam = Adam(eta, 2, b1=b1, b2=0.9999)
    rate = eta * (1 - b1) / c**0.5
    truth = rate * c / (2 * (1 - b1) * (2 - rate * 2 / (1 + b1)))
    for discrete in (True, False):
        s = stationary(adam, objective, 0.5, discrete=discrete)
        print(f"\nAdam: {s.covariance[0, 0]:.7f}, frozen {truth:.7f}, noise changes by {s.noise_change:.4f}")
        assert s.mean.shape == (3,) and abs(s.covariance[0, 0] / truth - 1) < (2e-4 if discrete else 2e-3)
        assert 0 < s.noise_change < 0.05
    late = stationary(scheduled(SGD(0.2, 2), falling), QUADRATIC, jnp.ones(2), discrete=True)
    same = stationary(SGD(0.1, 2), QUADRATIC, jnp.ones(2), discrete=True)
    np.testing.assert_allclose(late.covariance, same.covariance, rtol=1e-12)
    assert late.noise_change < 1e-12
    with pytest.warns(UserWarning, match="the noise changes by"):
        stationary(SGD(0.1, 4), PROBLEM.objective, PROBLEM.start)


@pytest.mark.slow
def test_momentum_under_time_reversal():
    """Velocities change sign: with noise of the temperature in every direction alike, momentum is in equilibrium."""
    momentum = Momentum(0.01, 2, momentum=0.9)
    without = stationary(momentum, QUADRATIC, jnp.ones(2))
    assert np.isinf(without.entropy_production_rate)
    rate = float(stationary(momentum, QUADRATIC, jnp.ones(2), parity=MomentumState(1, -1)).entropy_production_rate)
    sphere = np.sqrt(2) * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    isotropic = Objective(tilted, sphere)
    still = stationary(momentum, isotropic, jnp.ones(2), parity=MomentumState(1, -1)).entropy_production_rate
    print(f"\nrate {rate:.4f}, with isotropic noise {float(still):.1e}")
    assert rate > 0.01 and abs(still) < 1e-10


@pytest.mark.slow
def test_singular_noise_is_regularized():
    """Momentum's step has no noise of its own in the position: the medium entropy grows as 1/r^2, and r is stated."""
    momentum = Momentum(0.1, 2, momentum=0.7)
    run = train(momentum, QUADRATIC, jnp.ones(2), steps=20, key=KEY, paths=8, noise="gaussian", keep_states=True)
    with pytest.raises(ValueError, match="Argument `regularization` must be positive"):
        entropy_production(momentum, QUADRATIC, run)
    scaled = []
    for r in (0.004, 0.002, 0.001):
        medium = entropy_production(momentum, QUADRATIC, run, regularization=r).medium
        scaled.append(float(jnp.mean(medium)) * r**2)
    print(f"\nr^2 x medium entropy: {scaled}")
    assert abs(scaled[2] / scaled[1] - 1) < 0.02 < abs(scaled[1] / scaled[0] - 1) + 0.02


@pytest.mark.slow
def test_wrong_arguments():
    flow = solve(OU, None, jnp.zeros(2), steps=2, key=KEY)
    with pytest.raises(ValueError, match="Argument `trajectory` must be recorded with keep_states=True"):
        entropy_production(OU, None, flow)
    with pytest.raises(ValueError, match="the largest real part of the drift's Jacobian there is"):
        stationary(SGD(0.1, 2), Objective(lambda w, x: -x * w**2, jnp.ones(3)), jnp.ones(()))
    with pytest.raises(ValueError, match="the largest eigenvalue of a step there is"):
        stationary(SGD(3.0, 2), QUADRATIC, jnp.ones(2), discrete=True)
    with pytest.raises(ValueError, match="Argument `discrete` must be False"):
        stationary(Reversible(), None, jnp.ones(1), discrete=True)
    with pytest.raises(ValueError, match="Argument `entropies` must hold"):
        fluctuation_theorem(np.ones((3, 2)))
    with pytest.raises(TypeError, match="Argument `entropies` must hold one finite number .* but 'a' was given"):
        fluctuation_theorem("a")
    with pytest.raises(TypeError, match="Argument `states` must hold finite numbers, .* but 'x' was given"):
        short_time_bound("x", 0.1)
    with pytest.raises(ValueError, match="Argument `state` must be a state of 2 dimensions, .* but one of 3 was given"):
        stationary(OU, None, jnp.ones(2)).log_density(jnp.ones(3))
    with pytest.raises(ValueError, match="Argument `states` must be finite"):
        short_time_bound(np.ones((3, 2)), 0.1)
    with pytest.raises(ValueError, match="Argument `states` must hold at least 24 increments in a sixteenth"):
        short_time_bound(np.ones((32, 5, 2)), 0.1)
    with pytest.raises(ValueError, match="Argument `states` must hold paths that move"):
        neural_estimate(np.ones((32, 5, 2)), 0.1, key=KEY)
    for parity in (0.5, "odd", (1, 1)):
        with pytest.raises(ValueError, match="Argument `parity` must be a prefix of the state"):
            stationary(SGD(0.1, 2), QUADRATIC, jnp.ones(2), parity=parity)


@pytest.mark.slow
def test_wrong_arguments_of_a_run():
    kept = solve(SGD(0.1, 2), QUADRATIC, jnp.ones(2), steps=2, key=KEY, keep_states=True, paths=2)
    with pytest.raises(ValueError, match="Argument `equation` must be what the trajectory was made with"):
        entropy_production(SGD(0.2, 2), QUADRATIC, kept)
    for reference, error, words in (
        (lambda w: w, ValueError, r"it gives an array of shape \(2,\)"),
        (lambda w: (w[0], w[1]), TypeError, "it gives "),
        (lambda w: w @ jnp.ones(5), ValueError, "it raises TypeError"),
    ):
        with pytest.raises(error, match="Argument `reference` must be a function from a state to ln p.*" + words):
            entropy_production(SGD(0.1, 2), QUADRATIC, kept, reference=reference)
    trained = train(SGD(0.1, 2), QUADRATIC, jnp.ones(2), steps=2, key=KEY, keep_states=True, paths=2)
    with pytest.raises(ValueError, match="Argument `route` must be 'step' for a trajectory of `train`"):
        entropy_production(SGD(0.1, 2), QUADRATIC, trained, route="path")
    with pytest.raises(TypeError, match="Argument `objective` must be a signal"):
        entropy_production(SGD(0.1, 2), None, kept)
    with pytest.raises(ValueError, match="Argument `loss` does not fit"):
        entropy_production(SGD(0.1, 2), Objective(tilted, np.ones((3, 5))), kept)
    with pytest.raises(ValueError, match="Argument `density` must not be 'ensemble'"):
        entropy_production(SGD(0.1, 2), QUADRATIC, kept, density="ensemble")


@pytest.mark.slow
def test_theorems_of_few_paths():
    """Paths that say nothing of the detailed theorem, and numbers that overflow."""
    zero = fluctuation_theorem(np.zeros(5))
    assert zero.integral == 1 and np.isnan(zero.slope) and np.isinf(zero.slope_error)
    assert fluctuation_theorem(np.array([1.0, 2.0])).slope == np.inf
    assert fluctuation_theorem(np.array([-1000.0, 2.0])).integral == np.inf
    s = np.array([-1.0, 1.0, 1.0, 1.0])
    assert abs(fluctuation_theorem(1e3 * s).slope * 1e3 - np.log(3)) < 1e-9
    theorem = fluctuation_theorem(s)  # four throws of a coin that shows 3/4
    assert abs(theorem.slope_error - (4 * 0.75 * 0.25) ** -0.5) < 1e-9
    e = np.exp(1)
    assert abs(theorem.effective_samples - (e + 3 / e) ** 2 / (e**2 + 3 / e**2)) < 1e-9
    # A coordinate that never moves says nothing.
    still = np.concatenate([np.random.default_rng(0).normal(size=(32, 4, 1)), np.ones((32, 4, 1))], axis=-1)
    assert np.isfinite(neural_estimate(still, 0.1, key=KEY, width=4, iterations=2, batch_size=8).value)

"""Two and three values in place of normal numbers: their moments and those of runs, their bits, and who is refused."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from dynamics import SVAG, solve
from dynamics._paths.coins import Coins
from equations import SGD, AbstractDynamics, Adam, Objective, Splitting

RATE, NOISE, PATHS, STEPS = 0.05, 0.25, 2**16, 20
A = np.array([[1.0, 0.5], [0.5, 1.0]])
START = np.array([3.0, 2.0])
KEY = jax.random.key(1)


class Quadratic(AbstractDynamics):
    """dX = -A X dt + sqrt(eta) sigma A dW."""

    def drift(self, t, state, signal):
        return -A @ state

    def diffusion(self, t, state, signal):
        return lx.MatrixLinearOperator(jnp.asarray(RATE**0.5 * NOISE * A))


class OwnKick(Quadratic):
    def splitting(self):
        return Kicked(self)


class Kicked(Splitting):
    def kick(self, t, state, signal, noise, dt):
        return 2 * super().kick(t, state, signal, noise, dt / 4)


def run(solver=None, dynamics=None, paths=8, steps=STEPS, **options):
    dynamics = Quadratic() if dynamics is None else dynamics
    options = dict(dt=RATE, key=KEY, observe={"x": lambda x: x}) | options
    return solve(dynamics, None, jnp.asarray(START), steps=steps, paths=paths, solver=solver, **options)


def closed_form(flow, noise):
    """Mean and variances after some steps of x' = F x + N xi."""
    mean, covariance = START, np.zeros((2, 2))
    for _ in range(STEPS):
        mean, covariance = flow @ mean, flow @ covariance @ flow.T + noise @ noise.T
    return mean, covariance


def exact(solver):
    step, root = RATE * A, RATE * NOISE * A
    if solver is not None:
        return closed_form(np.eye(2) - step, root)
    whole, half = (np.eye(2) - h * step + h**2 * step @ step / 2 for h in (1.0, 0.5))
    mean, covariance = closed_form(whole, whole @ root)
    undone = half @ np.linalg.inv(whole)
    return half @ half @ np.linalg.inv(whole) @ mean, undone @ covariance @ undone.T


def off(solver, law, paths=PATHS):
    """The largest deviation of means and variances from the closed form in standard errors, none above a hundredth."""
    found = run(solver, paths=paths, save_every=STEPS, reduce=("mean", "variance"), increments=law)
    mean, covariance = exact(solver)
    variance = np.diag(covariance)
    errors = found.standard_error["x"][-1], variance * (2 / paths) ** 0.5
    assert np.all(errors[0] < 0.01 * np.abs(mean)) and np.all(errors[1] < 0.01 * variance)
    away = found.mean["x"][-1] - mean, found.variance["x"][-1] - variance
    return max(np.max(np.abs(a / e)) for a, e in zip(away, errors, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver, law", [(dfx.Euler(), None), (dfx.Euler(), "three-point"), (None, None), (None, "two-point")]
)
def test_means_and_variances(solver, law):
    assert off(solver, law) < 4


def test_noise_of_half_the_variance_is_rejected(monkeypatch):
    right = Coins.number
    monkeypatch.setattr(Coins, "number", lambda *given: 0.5**0.5 * right(*given))
    jax.clear_caches()
    assert off(dfx.Euler(), "two-point") > 40
    jax.clear_caches()


@pytest.mark.slow
def test_moments_of_the_numbers():
    """Up to the third of two values, up to the fifth of three; numbers of other places, kicks and steps are others."""
    for law, fourth in (("two-point", 1.0), ("three-point", 3.0)):
        coins = Coins(KEY, jax.ShapeDtypeStruct((64,), jnp.float64), 2, law)
        blocks = jax.jit(jax.vmap(lambda index, coins=coins: _numbers(coins, index)))(
            jnp.arange(2**13 // coins.rows, dtype=jnp.int32)
        )
        x = np.asarray(blocks).reshape(-1, 2 * 64)  # by steps
        assert len(np.unique(x)) == {"two-point": 2, "three-point": 3}[law]
        for power, value in ((1, 0), (2, 1), (3, 0), (4, fourth), (5, 0)):
            assert abs(np.mean(x**power) - value) <= 4 * np.std(x**power) / x.size**0.5 + 1e-12, (law, power)
        for one, other in ((x[1:], x[:-1]), (x[:, 1:], x[:, :-1]), (x[:, 64:], x[:, :64])):
            assert abs(np.mean(one * other)) < 4 / one.size**0.5


def _numbers(coins, index):
    read, _, _ = coins.read(index * coins.rows, coins.first_block())
    return jax.vmap(read)(index * coins.rows + jnp.arange(coins.rows, dtype=jnp.int32))


@pytest.mark.slow
@pytest.mark.parametrize("law", ["two-point", pytest.param("three-point", marks=pytest.mark.slow)])
def test_the_bits_of_a_path(law):
    """Those of a path are a function of key and path, whatever is recorded and however many paths there are."""
    options = dict(steps=70, increments=law)
    whole = run(dfx.Euler(), save_every=1, **options).observables["x"]
    for paths in (3, 33):
        few = run(dfx.Euler(), save_every=7, paths=paths, **options).observables["x"]
        np.testing.assert_array_equal(few[:3], whole[:3, ::7])
    start = run(dfx.Euler(), steps=30, increments=law)
    after = run(dfx.Euler(), steps=40, increments=law).observables["x"]
    rest = solve(Quadratic(), None, start=start, steps=10, dt=RATE, solver=dfx.Euler(), observe={"x": lambda x: x})
    np.testing.assert_array_equal(rest.observables["x"], after[:, 30:])
    assert dict(rest.details)["increments"].startswith(law)


@pytest.mark.slow
def test_what_a_result_says():
    assert "increments" not in dict(run().details)
    for solver, law, order in ((dfx.Euler(), "two-point", 1), (None, "three-point", 2)):
        found = run(solver, reduce=("mean", "variance"))
        assert dict(found.details)["increments"].startswith(f"{law}: means and variances are of weak order {order}")
    for options in (dict(reduce=("mean", "skewness")), dict(reduce=("mean",), increments="gaussian")):
        assert "increments" not in dict(run(dfx.Euler(), **options).details)


OBJECTIVE = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), jnp.arange(6.0).reshape(3, 2))
REFUSED = {
    "another word": (
        lambda: run(increments="uniform"),
        "must be one of 'gaussian', 'three-point', 'two-point', or None",
    ),
    "a kick of one's own": (lambda: run(dynamics=OwnKick(), increments="two-point"), "whose kicks are its own"),
    "a solver of Diffrax": (lambda: run(dfx.SRA1(), increments="two-point"), "whose noise is Diffrax's"),
    "minibatches": (lambda: trained(SGD(0.1, 1), solver=SVAG(2)), "which draws by itself"),
    "no noise": (lambda: trained(SGD(0.1)), "which has no noise"),
    "not affine": (lambda: trained(Adam(0.1, 1)), "more than two moments of the noise act on it"),
}


def trained(equation, **options):
    options = dict(key=KEY if equation.random else None, increments="two-point") | options
    return solve(equation, OBJECTIVE, jnp.zeros(2), steps=4, **options)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match="Argument `increments` must be") as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.slow
def test_equations_of_algorithms():
    """Whose noise is linear in its numbers: the covariance of a few steps is that by normals."""
    gaussian, other = (
        np.cov(np.asarray(trained(SGD(0.1, 1), increments=law, paths=4096, solver=dfx.Euler()).final).T)
        for law in ("gaussian", "two-point")
    )
    assert np.max(np.abs(other - gaussian)) < 4 * (2 * 2 / 4096) ** 0.5 * np.max(np.abs(gaussian))

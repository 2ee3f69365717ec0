"""The default steps of three weighted gradients: their constants, their error, and which equations take them."""

import dataclasses

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import LinearRegression

from dynamics import Fused, Strang, solve
from dynamics._paths import fused
from dynamics._paths.brownian import Brownian
from equations import SGD, Adam, Isotropic, Momentum, Objective, decayed, scheduled

EXAMPLES, DIMENSION, RECORDS = 24, 3, 24
PROBLEMS = [
    LinearRegression(seed, EXAMPLES, DIMENSION, noise=(0.5, 1.0, 0.1)[seed % 3], distance=(1.0, 3.0)[seed % 2])
    for seed in range(8)
]


@dataclasses.dataclass(frozen=True)
class Constants:
    """Those of the scheme, to be changed by mutants."""

    a21: float = fused.A21
    a31: float = fused.A31
    a32: float = fused.A32
    r1: float = fused.R1
    r3: float = fused.R3
    b1: float = fused.B1
    b2: float = fused.B2
    b3: float = fused.B3
    behind: float = fused.BEHIND

    def residuals(self):
        """Of the conditions in the docstring of `Fused`."""
        c3, d, u1, u2 = self.a31 + self.a32, self.a31 * self.r1, self.b1 * self.r1, self.b3 * self.r3
        moved = self.b2 * self.a21 * self.r1 + self.b3 * d
        return np.array([
            self.b1 + self.b2 + self.b3 - 1,
            self.b2 * self.a21 + self.b3 * c3 - 1 / 2,
            self.b3 * self.a32 * self.a21 - 1 / 6,
            u1**2 + u2**2 - 1,
            u2**2 * c3 - 1 / 2 - self.behind,
            u1 * moved - 1 / 2 + self.behind,
            u2 * d - 2**-0.5,
            self.b2 * (self.a21 * self.r1) ** 2 + self.b3 * d**2 - 1 / 2 + self.behind,
        ])  # fmt: skip


def parts(problem, eta, batch_size):
    """The drift of a step and the noise of each example, on (w, 1)."""
    x, y, one = problem.x, problem.y, np.eye(DIMENSION + 1)
    single = np.zeros((EXAMPLES, *one.shape))
    single[:, :-1, :-1] = x[:, :, None] * x[:, None, :]
    single[:, :-1, -1] = -x * y[:, None]
    mean = single.mean(0)
    return one, -eta * mean, -eta * (single - mean) / (batch_size * EXAMPLES) ** 0.5


def flow(drift, share):
    a = share * drift
    return np.eye(len(a)) + a + a @ a / 2 + a @ a @ a / 6


def pairs(matrices):
    """The sum of M kron M."""
    size = matrices.shape[-1]
    return np.einsum("nij,nkl->ikjl", *2 * [matrices.reshape(-1, size, size)]).reshape(size**2, size**2)


def second_moments(c, problem, eta, batch_size):
    """What a run does to them at its start, in a step and at a record."""
    one, drift, noise = parts(problem, eta, batch_size)
    aside = one + c.a21 * drift, c.a21 * c.r1 * noise
    k1, k2 = (drift, c.r1 * noise), tuple(drift @ part for part in aside)
    last = one + c.a31 * k1[0] + c.a32 * k2[0], c.a31 * k1[1] + c.a32 * k2[1]
    mean = one + c.b1 * k1[0] + c.b2 * k2[0] + c.b3 * drift @ last[0]
    first = c.b1 * k1[1] + c.b2 * k2[1] + c.b3 * drift @ last[1]
    second = c.b3 * c.r3 * noise @ last[0]
    both = c.b3 * c.r3 * np.einsum("aij,bjk->abik", noise, last[1])
    step = pairs(mean[None]) + pairs(first) + pairs(second) + pairs(both)
    return (pairs(flow(drift, share)[None]) for share in (-c.behind, 1)), step, pairs(flow(drift, c.behind)[None])


def error(c, problem, ratio, batch_size):
    """The largest covariance error over that of the model, over the records of a run into the stationary state."""
    eta = ratio / problem.sharpness
    steps = round(24 / RECORDS / ratio)
    truth = problem.trace(problem.sde_map(eta, batch_size), steps * RECORDS, steps)[1]
    model = problem.trace(problem.sgd_map(eta, batch_size), steps * RECORDS, steps)[1]
    (begin, _), step, read = second_moments(c, problem, eta, batch_size)
    z, interval, found = begin @ problem.second_moment, np.linalg.matrix_power(step, steps), []
    for _ in range(RECORDS):
        z = interval @ z
        found.append(problem.moments(read @ z)[1])
    size = lambda change: np.linalg.norm(change[1:].reshape(RECORDS, -1), axis=1)  # noqa: E731
    return np.max(size(np.array([found[0], *found]) - truth) / size(model - truth))


def worst(c, batch_size, ratio=0.25, problems=PROBLEMS):
    return max(error(c, problem, ratio, batch_size) for problem in problems)


def test_the_constants_solve_their_conditions():
    np.testing.assert_allclose(Constants().residuals(), 0, atol=1e-15)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_below_a_quarter_of_the_model_error(batch_size):
    found = [worst(Constants(), batch_size, ratio) for ratio in (0.25, 0.1, 0.05)]
    print(f"\nB={batch_size}: covariance error over that of the model {np.round(found, 3)} at .25, .1, .05")
    assert max(found) < 0.11


MUTANTS = {
    "no flow behind": dict(behind=0.0),
    "the second increment on the other side": dict(a21=-fused.A21),
    "one draw": dict(r1=0.0, r3=1 / fused.B3),
    "half the weight of the second increment": dict(b2=fused.B2 / 2, b1=fused.B1 + fused.B2 / 2),
    "the noise of one draw too large": dict(r3=1.1 * fused.R3),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_other_constants_miss_it(name):
    mutant = Constants(**MUTANTS[name])
    assert np.max(np.abs(mutant.residuals())) > 0.01
    assert max(worst(mutant, batch_size, problems=PROBLEMS[:3]) for batch_size in (1, 16)) > 1 / 4


@pytest.mark.slow
def test_solve_takes_these_steps(monkeypatch):
    """Three steps on given normals, with a record between, to rounding; and by Diffrax's own loop."""
    problem, eta, batch_size, c = PROBLEMS[0], 0.1, 2, Constants()
    normals = np.random.default_rng(0).normal(size=(16, 2, EXAMPLES))
    monkeypatch.setattr(Brownian, "block", lambda self, index: jnp.asarray(normals)[: self.rows])
    monkeypatch.setattr(Brownian, "rows", property(lambda self: 16))
    one, drift, noise = parts(problem, eta, batch_size)
    z, found = flow(drift, -c.behind) @ np.append(problem.start, 1.0), []
    for step in range(3):
        first, second = (np.tensordot(xi, noise, 1) for xi in normals[step])
        k1 = (drift + c.r1 * first) @ z
        k2 = drift @ (z + c.a21 * k1)
        k3 = (drift + c.r3 * second) @ (z + c.a31 * k1 + c.a32 * k2)
        z = z + c.b1 * k1 + c.b2 * k2 + c.b3 * k3
        found.append((flow(drift, c.behind) @ z)[:-1])
    for adjoint in (None, dfx.RecursiveCheckpointAdjoint()):
        run = solve(
            SGD(eta, batch_size), problem.objective, jnp.asarray(problem.start), steps=3, key=jax.random.key(0),
            observe={"w": lambda w: w}, adjoint=adjoint,
        )  # fmt: skip
        np.testing.assert_allclose(run.observables["w"][0, 1:], found, rtol=1e-12)


QUADRATIC = Objective(lambda w, x: 0.5 * jnp.sum((x * w - 1) ** 2), jnp.linspace(-1, 2, 6).reshape(6, 1))
OTHERS = {
    "memory": (Momentum(0.1, 2, nesterov=True), Strang(), "which has a memory"),
    "leapfrog": (Momentum(0.1, 2), Strang(), "split in a way of their own"),
    "not affine": (Adam(0.1, 2), Strang(), "split in a way of their own"),
    "decayed": (decayed(SGD(0.1, 2), 0.1), Strang(), "split in a way of their own"),
    "scheduled": (scheduled(SGD(0.1, 2), lambda step: 1 / (1 + step)), Strang(), "split in a way of their own"),
    "gradients": (SGD(0.1, 2), Fused(), None),
    "isotropic": (SGD(0.1, 2, noise_model=Isotropic(0.1)), Fused(), None),
    "subsets": (SGD(0.1, 2, "without_replacement"), Fused(), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_which_steps_an_equation_takes(name):
    equation, default, words = OTHERS[name]
    options = dict(steps=2, key=jax.random.key(0))
    assert dict(solve(equation, QUADRATIC, jnp.ones(1), **options).details)["solver"] == repr(default)
    if words is not None:
        with pytest.raises(ValueError, match=words):
            solve(equation, QUADRATIC, jnp.ones(1), solver=Fused(), **options)


@pytest.mark.slow
def test_substeps_refine_the_same_motion():
    """What the normals of a step add up to is the same for any number of substeps, and of variance one."""
    key, structure, shares = jax.random.key(0), jax.ShapeDtypeStruct((1000,), jnp.float64), (0.6, 0.8)
    whole = Brownian(key, structure, 1).block(jnp.zeros((), int))[:, 0]
    for count in (1, 2, 3):
        fine = np.asarray(Brownian(key, structure, 2 * count, shares=shares).block(jnp.zeros((), int)))
        weights = np.tile(shares, count) / count**0.5
        np.testing.assert_allclose(np.einsum("k,rkn->rn", weights, fine), whole, atol=1e-12)
        covariance = np.cov(fine.reshape(-1, 2 * count, 1000).transpose(1, 0, 2).reshape(2 * count, -1))
        assert np.max(np.abs(covariance - np.eye(2 * count))) < 4 * (2 / fine[:, 0].size) ** 0.5

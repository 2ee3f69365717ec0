"""Stationary states of many dimensions: Lyapunov equations without the matrix of their d^2 unknowns."""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from dynamics import stationary
from dynamics._entropy import columns as columns_file
from dynamics._entropy import linear_noise
from dynamics._entropy.columns import Columns, noise_columns
from dynamics._entropy.lyapunov import Lyapunov
from equations import SGD, AbstractDynamics, Adam, Objective

CASES = [
    ("a Lyapunov equation in d^2 unknowns", "instance", "80 dimensions", "test_many_dimensions"),
    ("a Lyapunov equation in d^2 unknowns", "brother", "no symmetry, steps", "test_against_all_unknowns"),
    ("a Lyapunov equation in d^2 unknowns", "brother", "noise of low rank", "test_singular_noise"),
    ("a Lyapunov equation in d^2 unknowns", "brother", "1000 dimensions", "test_a_thousand_dimensions"),
    ("multiplicative noise by iteration", "instance", "next to infinite covariances", "test_growth[0.999]"),
    ("multiplicative noise by iteration", "brother", "just beyond them", "test_growth[1.001]"),
    ("multiplicative noise by iteration", "brother", "far beyond them", "test_growth[1000.0]"),
    ("multiplicative noise by iteration", "brother", "weak", "test_growth[0.1]"),
    ("multiplicative noise by iteration", "brother", "scales apart", "test_growth_at_another_scale"),
    ("multiplicative noise by iteration", "brother", "columns too many to hold", "test_columns_of_low_rank"),
    ("multiplicative noise by iteration", "brother", "columns of full rank", "test_columns_of_full_rank_are_refused"),
    ("multiplicative noise by iteration", "brother", "Adam, columns of pairs", "test_a_root_too_large_is_refused"),
    ("change of noise along many axes", "instance", "80 dimensions", "test_many_dimensions"),
    ("change of noise along many axes", "brother", "one axis of many", "test_change_along_one_axis"),
    ("change of noise along many axes", "brother", "constant noise", "test_a_thousand_dimensions"),
]  # fmt: skip
EPS = np.finfo(float).eps


class Process(AbstractDynamics):
    """dY = -H Y dt + R dW, the root of the last coordinate growing as `bent` with the last."""

    matrix: jax.Array
    root: jax.Array
    bent: jax.Array
    learning_rate: jax.Array = eqx.field(default=0.01, converter=jnp.asarray)

    def drift(self, t, state, signal):
        return -self.matrix @ state

    def diffusion(self, t, state, signal):
        return lx.MatrixLinearOperator(self.root.at[-1].multiply(1 + self.bent * state[-1]))


def process(size, bent=0.0, seed=0):
    """H and S commute: C = S/(2 H)."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(size, size)))[0] if bent == 0 else np.eye(size)
    pull, width = random.uniform(0.5, 2, size), random.uniform(0.1, 1, size)
    parts = (axes * pull @ axes.T, axes * width, bent)
    return Process(*map(jnp.asarray, parts)), axes * width**2 / (2 * pull) @ axes.T


def test_many_dimensions():
    equation, exact = process(80)
    s = stationary(equation, None, jnp.ones(80))
    np.testing.assert_allclose(s.covariance, exact, atol=1e-12)
    assert abs(float(s.entropy_production_rate)) < 1e-9 and s.rank == 80 and s.noise_change == 0


def test_change_along_one_axis():
    """Only along the last of 70 axes: |(1 + b s)^2 - 1| of its own variance, over sqrt(d) of all."""
    equation, exact = process(70, bent=2.0)
    with pytest.warns(UserWarning, match="the noise changes by"):
        s = stationary(equation, None, jnp.ones(70))
    deviation = exact[-1, -1] ** 0.5
    # In units of the covariance, entry by entry: S_ii/C_ii = 2 H_ii.
    pulls = 2 * np.diagonal(np.asarray(equation.matrix))
    expected = ((1 + 2.0 * deviation) ** 2 - 1) * pulls[-1] / np.linalg.norm(pulls)
    np.testing.assert_allclose(s.noise_change, expected, rtol=1e-9)


def stable(size, random):
    """A with eigenvalues in pairs and a real one, all in the left half-plane."""
    a = random.normal(size=(size, size))
    return a - (np.linalg.eigvals(a).real.max() + 0.5) * np.eye(size)


def by_unknowns(a, s, eta, blocks=()):
    one = np.eye(len(a))
    operator = np.kron(one, a) + np.kron(a, one) + eta * np.kron(a, a) + sum(np.kron(b, b) for b in blocks)
    return operator, -np.linalg.solve(operator, s.ravel()).reshape(s.shape)


def test_against_all_unknowns():
    random = np.random.default_rng(1)
    for size in (1, 2, 5, 8):
        a, root = stable(size, random), random.normal(size=(size, size))
        for matrix in (a, -a @ a.T - np.eye(size)):
            fastest = np.abs(np.linalg.eigvals(matrix)).max()
            slow = -np.linalg.eigvals(matrix).real.max() / fastest**2
            for eta in (0.0, 0.5 * slow, 1e-9):
                lyapunov, (_, exact) = Lyapunov(matrix, eta), by_unknowns(matrix, root @ root.T, eta)
                np.testing.assert_allclose(lyapunov.solve(root @ root.T), exact, atol=1e-11 * np.abs(exact).max())
            np.testing.assert_allclose(
                np.sort(lyapunov.values.real), np.sort(np.linalg.eigvals(matrix).real), rtol=1e-9
            )


def test_singular_noise():
    """A chain that noise enters at one end: every coordinate is reached, and of two chains only those of one."""
    size = 6
    chain = -np.eye(size) + np.eye(size, k=-1)
    two, root = np.kron(np.eye(2), chain), np.eye(2 * size)[:, :1]
    none = Columns(np.zeros_like(two), np.zeros((1, 2 * size, 1)), np.zeros((1, 1, 2 * size)))
    for held in (None, none):
        one = linear_noise.continuous(chain, root[:size], None, np.ones(size), 0.0, EPS, Lyapunov(chain))
        both = linear_noise.continuous(two, root, held, np.ones(2 * size), 0.0, EPS, Lyapunov(two))
        assert one.rank == both.rank == size
        np.testing.assert_allclose(both.covariance[:size, :size], one.covariance, atol=1e-12)
        assert np.all(both.covariance[size:] == 0)
    across = np.zeros((1, 2 * size, 2 * size))
    across[0, size, 0] = 0.1  # noise that grows in the second chain with the first
    grown = Columns(np.zeros_like(two), across, np.eye(2 * size)[None])
    assert linear_noise.reached(two, root, grown, EPS).shape[1] == 2 * size
    empty = linear_noise.continuous(chain, np.zeros((size, 0)), None, np.ones(size), 0.0, EPS, Lyapunov(chain))
    assert empty.rank == 0 and np.all(empty.covariance == 0)


def grown(radius, eta, scales=1.0):
    """A, S and noise that grows, with a given spectral radius of the noise's map."""
    random = np.random.default_rng(2)
    a, root = stable(5, random), random.normal(size=(5, 5))
    blocks = random.normal(size=(3, 5, 5))
    operator = by_unknowns(a, root @ root.T, eta)[0]
    map_ = -np.linalg.solve(operator, sum(np.kron(b, b) for b in blocks))
    blocks *= np.sqrt(radius / np.abs(np.linalg.eigvals(map_)).max())
    units = scales ** np.arange(5.0)
    change = lambda b: units[:, None] * b / units  # noqa: E731
    return change(a), units[:, None] * (root @ root.T) * units, change(blocks), Lyapunov(change(a), eta)


def held(blocks):
    """With a part in common, as no root of noise would have it by chance."""
    common = blocks[0]
    return Columns(common, blocks - common, np.broadcast_to(np.eye(5), blocks.shape))


@pytest.mark.parametrize("radius", [0.1, 0.999, 1.001, 1000.0])
def test_growth(radius):
    """Against the linear system in all unknowns, and no covariance where the map's spectral radius is above 1."""
    for eta in (0.0, 0.01):
        a, s, blocks, lyapunov = grown(radius, eta)
        operator, exact = by_unknowns(a, s, eta, blocks)
        assert (np.linalg.eigvals(operator).real.max() < 0) == (radius < 1)
        if radius < 1:
            found = lyapunov.with_growth(s, held(blocks).growth)
            np.testing.assert_allclose(found, exact, atol=1e-10 * np.abs(exact).max())
        else:
            with pytest.raises(
                ValueError, match="must lead to a finite covariance, but the multiplicative noise has none"
            ):
                lyapunov.with_growth(s, held(blocks).growth)


def test_growth_at_another_scale():
    """Coordinates in units 10^8 apart: whether a covariance exists does not hang on them."""
    for radius in (0.9, 1.1):
        _, s, blocks, lyapunov = grown(radius, 0.0, scales=100.0)
        if radius < 1:
            found = lyapunov.with_growth(s, held(blocks).growth)
            assert np.all(np.diagonal(found) > 0)
        else:
            with pytest.raises(ValueError, match="must lead to a finite covariance"):
                lyapunov.with_growth(s, held(blocks).growth)


def regression(w, example):
    return 0.5 * (w @ example[:-1] - example[-1]) ** 2


def test_columns_of_low_rank(monkeypatch):
    """Noise of a regression's minibatches: two vectors for each column. Mutant: the part in common left out."""
    objective = Objective(regression, np.random.default_rng(3).normal(size=(40, 21)))
    equation, w = SGD(0.01, 4), jnp.ones(20)
    whole = noise_columns(equation, objective, w, np.ones(20))
    monkeypatch.setattr(columns_file, "HELD", 0)
    few = noise_columns(equation, objective, w, np.ones(20))
    assert few.left.shape == (40, 20, 2) and whole.left.shape == (40, 20, 20)
    random = np.random.default_rng(4).normal(size=(20, 20))
    c = random @ random.T
    np.testing.assert_allclose(few.growth(c), whole.growth(c), rtol=1e-9, atol=1e-9 * np.abs(c).max())
    assert np.abs(few._replace(common=0 * few.common).growth(c) / whole.growth(c) - 1).max() > 0.01


class Curved(Process):
    """A root whose every column turns as a whole."""

    def diffusion(self, t, state, signal):
        return lx.MatrixLinearOperator(jnp.sin(jnp.tensordot(self.bent, state, 1)))


def test_columns_of_full_rank_are_refused(monkeypatch):
    bent = jnp.asarray(np.random.default_rng(5).normal(size=(20, 20, 20)))
    equation = Curved(jnp.eye(20), jnp.eye(20), bent)
    monkeypatch.setattr(columns_file, "HELD", 0)
    with pytest.raises(ValueError, match="Argument `multiplicative` must be False for noise of 20 columns in 20 dim"):
        noise_columns(equation, None, jnp.zeros(20), np.zeros(20))


@pytest.mark.slow
@pytest.mark.parametrize("multiplicative", [False, True])
def test_a_thousand_dimensions(multiplicative):
    """A minute on two quiet cores; the covariance against its own equation."""
    random = np.random.default_rng(6)
    x = random.normal(size=(2000, 1000))
    data = np.concatenate([x, x[:, :1] + random.normal(size=(2000, 1))], axis=1)
    begin = time.process_time()
    s = stationary(SGD(1e-3, 64), Objective(regression, data), jnp.zeros(1000), multiplicative=multiplicative)
    print(f"\n{time.process_time() - begin:.0f} s of processor time")
    c, a = np.asarray(s.covariance), np.asarray(s.jacobian)
    left = a @ c + c @ a.T + np.asarray(s.noise)
    if multiplicative:  # of gradients x_i x_i . (w - mean): kept apart from what is tested
        seen = np.einsum("ni,ij,nj->n", x, c, x, optimize=True)
        left += 1e-3 / 64 * ((x.T * seen) @ x / 2000 - a @ c @ a.T)
    assert np.linalg.norm(left) < 1e-9 * np.linalg.norm(s.noise) and s.rank == 1000
    assert s.noise_change < 0.05


def test_a_root_too_large_is_refused():
    """Of Adam, with a column for every pair of 2000 examples: 32 GB."""
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), jnp.ones((2000, 333)))
    with pytest.raises(
        ValueError, match="Argument `objective` must have fewer examples: the noise of Adam has 4002000 "
    ):
        stationary(Adam(0.01, 8), objective, jnp.ones(333))

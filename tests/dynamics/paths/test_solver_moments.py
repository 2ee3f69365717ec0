"""The default solver resolves the equation, by exact moments of the code that runs, without sampling.

For linear regression a kick of the solver is linear in z = (w, 1) and linear in each of its normals, and the flow is
linear in z. `solve` itself, fed with zero and unit normals in place of random ones, therefore shows its matrices, and
from them follow the exact mean and covariance of the ensemble that it would draw, merged half flows included.
"""

import functools

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import LeftPoint, LinearRegression

import dynamics._integrate
from dynamics import Strang, solve
from dynamics._paths.brownian import Brownian
from equations import SGD

EXAMPLES, DIMENSION = 24, 3
SIZE = DIMENSION + 1

# They differ in label noise (the third almost interpolates) and in the distance of the start.
PROBLEMS = [
    LinearRegression(seed, EXAMPLES, DIMENSION, noise=(0.5, 1.0, 0.1)[seed % 3], distance=(1.0, 3.0)[seed % 2])
    for seed in range(8)
]


TABLE = {}  # of the module, since what is compiled once serves several tests


@pytest.fixture(autouse=True)
def table(monkeypatch):
    """In place of random normals `solve` takes `table["normals"]`, a function of path, step and kicks per step.

    It is read while `solve` is traced. Observables made afresh for each table keep what was compiled with one from
    being used with another.
    """
    table = TABLE

    def path_keys(key, paths, ahead):
        numbers = jnp.arange(paths, dtype=jnp.uint32)
        return jax.random.wrap_key_data(jnp.stack([jnp.zeros_like(numbers), numbers], axis=1))

    def block(self, index):
        path = jax.random.key_data(self.key)[1]
        steps = index * self.rows + jnp.arange(self.rows, dtype=jnp.int32)
        return jax.vmap(lambda step: table["normals"](path, step, self.per_step))(steps)

    monkeypatch.setattr(dynamics._integrate, "path_keys", path_keys)
    monkeypatch.setattr(Brownian, "block", block)
    return table


def power(matrix, exponent):
    """The real power of a matrix whose eigenvalues are positive."""
    values, vectors = np.linalg.eig(matrix)
    return np.real(vectors @ np.diag(values.astype(complex) ** exponent) @ np.linalg.inv(vectors))


class Extracted:
    """What `solve` does to z = (w, 1) under a solver: half flow H, kick K(xi), flow F from kick to kick."""

    def __init__(self, table, batch_size, substeps=1, solver=None, kicks=2):
        self.table, self.batch_size, self.substeps, self.solver, self.kicks = table, batch_size, substeps, solver, kicks
        self.merged = solver is None or type(solver) is Strang
        self.observe = {"w": lambda w: w}
        # Paths hold, in the first substep, no noise, xi1_k = 1, xi2_l = 1, or both; nothing after it.
        unit = np.vstack([np.zeros(EXAMPLES), np.eye(EXAMPLES)])
        pairs = np.stack([np.repeat(unit, 1 + EXAMPLES, 0), np.tile(unit, (1 + EXAMPLES, 1))], axis=1)
        self.units = jnp.asarray(pairs if kicks == 2 else unit[:, None])

    def normals(self, path, step, per_step):
        first = jnp.zeros((per_step, EXAMPLES)).at[: self.kicks].set(self.units[path])
        return jnp.where(step == 0, first, 0.0)

    def run(self, problem, eta, start, steps, paths):
        """The final parameters."""
        flow = solve(
            SGD(learning_rate=eta, batch_size=self.batch_size), problem.objective, jnp.asarray(start), steps=steps,
            key=jax.random.key(0), paths=paths, observe=self.observe, save_every=steps, substeps=self.substeps,
            solver=self.solver,
        )  # fmt: skip
        return np.asarray(flow.final)

    def matrices(self, problem, eta, steps, paths):
        """Of `steps` training steps without a record between them, on (w, 1): shape (paths, SIZE, SIZE)."""
        self.table["normals"] = self.normals
        offset = self.run(problem, eta, np.zeros(DIMENSION), steps, paths)
        columns = [self.run(problem, eta, unit, steps, paths) - offset for unit in np.eye(DIMENSION)]
        full = np.zeros((paths, SIZE, SIZE))
        full[:, :DIMENSION] = np.stack([*columns, offset], axis=-1)
        full[:, -1, -1] = 1.0
        return full

    def pieces(self, problem, eta):
        """H, F and the kicks (paths, SIZE, SIZE)."""
        s = self.substeps
        once = self.matrices(problem, eta, 1, len(self.units))
        twice = self.matrices(problem, eta, 2, 1)[0]
        # Without noise one step is H F^(s-1) H and two are H F^(2s-1) H; H and F, functions of one matrix, commute.
        flow = power(np.linalg.solve(once[0], twice), 1 / s)
        half = power(once[0] @ np.linalg.inv(np.linalg.matrix_power(flow, s - 1)), 0.5)
        after = half @ np.linalg.matrix_power(flow, s - 1)
        return half, flow, np.linalg.inv(after) @ once @ np.linalg.inv(half)

    def coefficients(self, matrices):
        """The coefficients of 1, xi1_k, xi2_l and xi1_k xi2_l in a multilinear matrix, from its values."""
        grid = matrices.reshape(*(1 + EXAMPLES,) * self.kicks, SIZE, SIZE)
        for axis in range(self.kicks):
            base = np.take(grid, [0], axis)
            grid = np.concatenate([base, np.delete(grid, 0, axis) - base], axis)
        return grid.reshape(-1, SIZE, SIZE)

    def trace(self, problem, eta, steps, records):
        """Means and covariances at the start and at `records` records, each after `steps` training steps more.

        E[K kron K] is a sum over squared coefficients, the normals being independent and standard.
        """
        if self.merged:
            half, flow, kicks = self.pieces(problem, eta)
        else:  # solver steps that stand one behind the other
            half = flow = np.eye(SIZE)
            kicks = self.matrices(problem, eta, 1, len(self.units))
        kick = np.einsum("nij,nkl->ikjl", *2 * [self.coefficients(kicks)]).reshape(SIZE**2, SIZE**2)
        half, flow = np.kron(half, half), np.kron(flow, flow)
        interval = np.linalg.matrix_power(kick @ flow, steps * self.substeps)
        # After its last kick; a record completes the step by half a flow, and the path goes on without it.
        z = np.linalg.matrix_power(kick @ flow, steps * self.substeps - 1) @ kick @ half @ problem.second_moment
        found = [problem.moments(problem.second_moment)]
        for _ in range(records):
            found.append(problem.moments(half @ z))
            z = interval @ z
        means, covariances = zip(*found, strict=True)
        return np.array(means), np.array(covariances)

    def errors(self, problem, eta, records=24):
        """Solver error over model error at each of `records` records, of the mean and of the covariance, in norm.

        The time, 24 over the sharpness, reaches into the stationary state.
        """
        steps = max(1, round(24 / records / (eta * problem.sharpness)))
        truth = problem.trace(problem.sde_map(eta, self.batch_size), steps * records, steps)
        model = problem.trace(problem.sgd_map(eta, self.batch_size), steps * records, steps)
        solver = self.trace(problem, eta, steps, records)

        def norm(change):
            return np.linalg.norm(change[1:].reshape(records, -1), axis=1)

        return [norm(s - t) / norm(m - t) for s, m, t in zip(solver, model, truth, strict=True)]

    def worst(self, steepness=(0.25, 0.1)):
        """The largest of those ratios over problems and records, a row (mean, covariance) for each eta * sharpness."""
        return np.array([
            np.max([[e.max() for e in self.errors(p, ratio / p.sharpness)] for p in PROBLEMS], axis=0)
            for ratio in steepness
        ])  # fmt: skip


@functools.cache
def extracted_at(batch_size, substeps):
    """The default solver's, compiled once."""
    return Extracted(TABLE, batch_size, substeps)


def report(name, worst):
    rows = ", ".join(f"{mean:.4f} / {covariance:.4f}" for mean, covariance in worst)
    print(f"\n{name}: solver error over model error, mean / covariance, worst over problems and records: {rows}")


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [4, pytest.param(16, marks=pytest.mark.slow)])  # the noise falls with B
def test_below_a_quarter_of_the_model_error(table, batch_size):
    worst = extracted_at(batch_size, 1).worst()
    report(f"substeps=1, B={batch_size}", worst)
    assert np.all(worst < 1 / 4)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [16, 64])
def test_below_a_tenth_of_the_model_error_with_two_substeps(table, batch_size):
    worst = extracted_at(batch_size, 2).worst()
    report(f"substeps=2, B={batch_size}", worst)
    assert np.all(worst < 1 / 10)


def refinement(table, levels, solver=None, kicks=2):
    """Factors by which errors of mean and covariance fall per doubling of the substeps, over the problems."""
    errors = []
    for substeps in levels:
        extracted = Extracted(table, 4, substeps, solver, kicks) if solver else extracted_at(4, substeps)
        found = [extracted.errors(p, 0.15 / p.sharpness) for p in PROBLEMS[:6]]
        # The model error cancels in the ratio; norms over all records have no accidental zero.
        errors.append(np.linalg.norm(found, axis=-1))
    return np.array(errors[:-1]) / np.array(errors[1:])


@pytest.mark.slow
def test_second_order(table):
    factors = refinement(table, (1, 2))
    print(f"\nerror falls by {factors.min((0, 1))} to {factors.max((0, 1))} (mean, covariance) per doubling")
    assert np.all(factors[..., 1] > 3.5) and np.all(factors[..., 1] < 5.0)
    assert np.all(factors[..., 0] > 3.5)  # the mean sees the flow alone, whose order is three


@pytest.mark.slow
def test_one_kick_is_of_first_order_only(table):
    """Mutant: one evaluation of the noise per kick. Only refinement shows it, where the noise is multiplicative."""
    factors = refinement(table, (1, 2), Strang(kicks=1), kicks=1)
    print(f"\nkicks=1: error falls by {factors[..., 1].min()} to {factors[..., 1].max()} (covariance) per doubling")
    assert np.all(factors[..., 1] < 3.0)


def test_mutants_miss_the_bound(table):
    left = Extracted(table, 4, solver=LeftPoint()).worst()
    report("noise at the left point, B=4", left)
    assert np.all(left[:, 1] > 1)  # beyond the model error itself
    cheap = Extracted(table, 16, solver=Strang(flow=dfx.Heun(), kicks=1), kicks=1).worst()
    report("Heun as the flow, one kick, B=16", cheap)
    assert np.all(cheap[:, 1] > 1 / 4)


@pytest.mark.slow
def test_the_matrices_are_those_of_a_random_run(table):
    """The extraction itself: H, F and K put together again give the paths of a run with random normals."""
    problem, eta, steps, paths, substeps = PROBLEMS[0], 0.1, 4, 3, 2
    half, flow, kicks = extracted_at(4, substeps).pieces(problem, eta)
    extracted = Extracted(table, 4, substeps)  # whose observable is another, for other normals
    parts = extracted.coefficients(kicks)
    xi = np.random.default_rng(0).normal(size=(paths, 64, 2 * substeps, EXAMPLES))
    table["normals"] = lambda path, step, per_step: jnp.asarray(xi)[path, step]
    found = extracted.run(problem, eta, problem.start, steps, paths)
    for path in range(paths):
        z = half @ np.append(problem.start, 1.0)
        for kick in range(steps * substeps):
            step, place = divmod(kick, substeps)
            first, second = (np.append(1.0, xi[path, step, 2 * place + j]) for j in (0, 1))
            z = np.einsum("k,kij,j", np.outer(first, second).ravel(), parts, z if kick == 0 else flow @ z)
        np.testing.assert_allclose(found[path], (half @ z)[:DIMENSION], rtol=1e-11, atol=1e-13)


def test_kicks_of_a_step_are_independent_and_standard(monkeypatch):
    """The Brownian bridge between runs of different substeps, the last link from random numbers to kicks."""
    monkeypatch.undo()
    brownian = Brownian(jax.random.key(0), jax.ShapeDtypeStruct((1,), jnp.float64), 4)
    linear = []
    for place in range(5):  # one unit normal: that of the whole step, or one of the four finer ones

        def draw(self, index, stream, extra, place=place):
            unit = jnp.zeros(5).at[place].set(1.0)
            return jnp.zeros((self.rows, *extra, 1)) + (unit[1:, None] if stream else unit[0])

        monkeypatch.setattr(Brownian, "_draw", draw)
        linear.append(np.asarray(brownian.block(jnp.zeros((), jnp.int32))[0, :, 0]))
    root = np.array(linear).T
    np.testing.assert_allclose(root @ root.T, np.eye(4), atol=1e-15)

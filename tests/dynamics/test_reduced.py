"""Ensembles of which moments and histograms are kept: those of the paths, block by block, without the paths that failed."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from marks import some

import dynamics._blocks as blocks
from dynamics import Histogram, solve, train
from dynamics._paths.layout import fitting
from equations import SGD, AbstractDynamics, Objective

OBJECTIVE = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.arange(6.0)[:, None] * np.ones((6, 2)))
OBSERVE = {"w": lambda w: w, "sum": lambda w: jnp.sum(w)}
EDGES = np.linspace(-2.0, 6.0, 41)
ALL = ("mean", "variance", "skewness", "kurtosis", Histogram(EDGES))


class Bath(AbstractDynamics):
    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.full_like(state, 0.7))


class Hill(AbstractDynamics):
    """dx = x^3 dt + dW: some paths are off in finite time."""

    def drift(self, t, state, signal):
        return state**3

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones_like(state))


COMMON = dict(steps=6, save_every=3, observe=OBSERVE)
RUNS = {
    "solve": lambda **more: solve(SGD(0.1, 2), OBJECTIVE, jnp.zeros(2), **COMMON, **more),
    "train": lambda **more: train(SGD(0.1, 2), OBJECTIVE, jnp.zeros(2), **COMMON, **more),
    "diffrax": lambda **more: solve(Bath(), None, jnp.ones(2), dt=0.1, solver=dfx.SRA1(), **COMMON, **more),
    "some fail": lambda **more: solve(Hill(), None, jnp.zeros(2), dt=0.3, **COMMON, **more),
}


def expected(run, values):
    """Counts and moments by NumPy, from what a trajectory has of all paths."""
    failed_at, steps = np.asarray(run.failed_at)[:, None], np.asarray(run.steps)
    well = (failed_at < 0) | (steps < failed_at)
    found = []
    for place in range(len(steps)):
        x = np.asarray(values)[well[:, place], place]
        off = x - x.mean(0)
        second = (off**2).mean(0)
        with np.errstate(invalid="ignore"):
            found.append((x.mean(0), x.var(0, ddof=1), (off**3).mean(0) / second**1.5, (off**4).mean(0) / second**2))
    return well.sum(0), [np.stack(parts) for parts in zip(*found, strict=True)]


def check(reduced, run):
    for name, values in run.observables.items():
        count, moments = expected(run, values)
        np.testing.assert_array_equal(reduced.count, count)
        tables = reduced.mean, reduced.variance, reduced.skewness, reduced.kurtosis
        for table, moment in zip(tables, moments, strict=True):
            np.testing.assert_allclose(table[name][1:], moment[1:], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(reduced.steps, run.steps)
    np.testing.assert_array_equal(reduced.count + reduced.failed, reduced.paths)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The solver is unstable", "ignore:The noise")
@pytest.mark.parametrize("name", some(RUNS, ["solve", "some fail"]))
def test_moments_are_those_of_the_paths(name, key):
    """In blocks of eight, of which the last one is padded."""
    run = RUNS[name](key=key, paths=21)
    reduced = RUNS[name](key=key, paths=21, reduce=ALL, block=8)
    assert reduced.block == 8 and bool(reduced.ok) == bool(np.all(run.ok)) == (name != "some fail")
    check(reduced, run)


@pytest.mark.filterwarnings("ignore:The solver is unstable", "ignore:The noise")
def test_mutant_that_counts_what_failed(monkeypatch, key):
    sums = blocks._sums
    monkeypatch.setattr(
        blocks, "_sums", lambda observables, failed_at, *more: sums(observables, 0 * failed_at - 1, *more)
    )
    with pytest.raises(AssertionError):
        check(RUNS["some fail"](key=key, paths=21, reduce=ALL, block=8), RUNS["some fail"](key=key, paths=21))


@pytest.mark.slow
def test_histograms_and_quantiles(key):
    reduced, run = (RUNS["solve"](key=key, paths=300, reduce=kept) for kept in (ALL, None))
    values = np.asarray(run.observables["sum"])
    for place in range(3):
        whole = np.histogram(values[:, place], [-np.inf, *EDGES, np.inf])[0]
        np.testing.assert_array_equal(reduced.histogram["sum"][place], whole)
    assert set(reduced.histogram) == {"sum"}
    for q in (0.1, 0.5, 0.9):
        off = reduced.quantile("sum", q) - np.quantile(values, q, axis=0)
        assert np.all(np.abs(off[1:]) < EDGES[1] - EDGES[0])
    data = reduced.to_xarray()
    assert data["sum_histogram"].dims == ("step", "bin") and data.attrs["paths"] == 300
    with pytest.raises(KeyError, match="no histogram of 'w'"):
        reduced.quantile("w", 0.5)


@pytest.mark.slow
def test_bits_do_not_depend_on_the_records(key):
    one, other = (
        solve(Bath(), None, jnp.ones(2), dt=0.1, steps=6, save_every=n, observe=OBSERVE, key=key, paths=9, reduce=ALL)
        for n in (6, 2)
    )
    for moment in ("mean", "variance", "kurtosis"):
        np.testing.assert_array_equal(getattr(one, moment)["w"][-1], getattr(other, moment)["w"][-1])


def test_paths_that_are_all_the_same():
    reduced = solve(SGD(0.1), OBJECTIVE, jnp.zeros(2), paths=5, reduce=("mean", "variance"), **COMMON)
    assert np.all(reduced.count == 5) and np.all(reduced.variance["w"] == 0) and reduced.skewness is None
    assert np.all(reduced.standard_error["sum"] == 0)


@pytest.mark.parametrize(
    "more, message",
    [
        ({"reduce": "mean"}, "Argument `reduce` must be a tuple of 'mean', 'variance'"),
        ({"reduce": ("mean", "median")}, "Argument `reduce` must be a tuple of 'mean', 'variance'"),
        ({"reduce": ("mean", "mean")}, "Argument `reduce` must be a tuple"),
        ({"reduce": ("mean",), "keep_states": True}, "Argument `keep_states` must be left out with `reduce`"),
        ({"reduce": ("mean",), "substeps": "auto"}, "Argument `substeps` must be left out with `reduce`"),
        ({"reduce": ("mean",), "observe": None}, "Argument `observe` must be given with `reduce`"),
    ],
)
def test_refusals(more, message, key):
    with pytest.raises((TypeError, ValueError), match=message):
        solve(SGD(0.1, 2), OBJECTIVE, jnp.zeros(2), **COMMON | {"key": key, "paths": 4} | more)


def test_edges_increase():
    with pytest.raises(ValueError, match="`edges` must be at least two finite numbers, increasing"):
        Histogram([0.0, 0.0])


def test_not_under_a_trace(key):
    with pytest.raises(TypeError, match="`reduce` must be None under jit"):
        jax.jit(lambda rate: solve(SGD(rate, 2), OBJECTIVE, jnp.zeros(2), key=key, paths=4,
                                                              reduce=("mean",), **COMMON))(0.1)  # fmt: skip


@pytest.mark.parametrize(
    "paths, most, block",
    [(5, 2**14, 8), (3000, 2**14, 4096), (16_384, 2**14, 2**14), (10_000, 2**14, 4096), (20_000, 2**14, 8192)]
    + [(10**6, 2**14, 2**14), (10**6, 512, 512), (1, 2**14, 1)],
)
def test_blocks_are_as_large_as_pays_and_nearly_full(paths, most, block):
    assert fitting(paths, most) == block

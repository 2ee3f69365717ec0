"""Control variates: the exact moments of their scheme, what is measured of their noise, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from numpy.testing import assert_allclose
from oracles import deviations

import dynamics._paths.brownian as brownian
import dynamics._paths.control_variate as control_variate
from dynamics import ControlVariate, solve
from dynamics._paths.control_variate import Anchored
from equations import SGD, Adam, Momentum, Objective, OptimisticGradient, Population, clipped, modified, scheduled
from validation import compare

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 2)) * [1.0, 0.5], RNG.normal(size=8)
START = np.array([1.0, -1.0])
OBSERVE = {"w": lambda w: w}
OBJECTIVE = Objective(lambda w, example: 0.5 * (example[0] @ w - example[1]) ** 2, (X, Y))
BATCH, EVERY = 3, 5

# Of (w, w_0, 1): the gradients K z of single examples at w, and of K_0 z at w_0.
HESSIANS = X[:, :, None] * X[:, None]
NOTHING = np.zeros((8, 2, 2))
K, K0 = (
    np.concatenate([*parts, -(Y[:, None] * X)[..., None]], -1) for parts in ((HESSIANS, NOTHING), (NOTHING, HESSIANS))
)
PLACE = np.eye(5)[:, :2]


def spread(k):
    """The mean of the squares of deviations, as a map of second moments of z."""
    return np.mean([np.kron(PLACE @ d, PLACE @ d) for d in k - k.mean(0)], axis=0)


def second_moments(rate, steps, substeps=1, batch=2, stale=False):
    """E z z^T before each training step and after the last, shape (steps + 1, 5, 5), where w_0 has not moved yet."""
    h, anchor = rate / substeps, np.eye(5)
    anchor[2:4] = anchor[:2]
    mean = np.eye(5) - h * PLACE @ (K0 if stale else K).mean(0)
    one = np.kron(mean, mean) + h**2 * substeps / batch * spread(K)
    one += 0 if stale else h**2 / BATCH * spread(K - K0)
    moments, z = [], np.array([*START, *START, 1.0])
    second = np.outer(z, z).ravel()
    for step in range(steps + 1):
        moments.append(second.reshape(5, 5))
        second = np.kron(anchor, anchor) @ second if step % EVERY == 0 else second
        second = np.linalg.matrix_power(one, substeps) @ second
    return np.stack(moments)


def of_w(second):
    return second[:2, 4], second[:2, :2] - np.outer(second[:2, 4], second[:2, 4])


@functools.cache
def of_equation(rate, steps, batch=2):
    drift = -PLACE @ K.mean(0)
    rates = np.kron(drift, np.eye(5)) + np.kron(np.eye(5), drift) + rate / batch * spread(K)
    z = np.array([*START, *START, 1.0])
    return of_w((scipy.linalg.expm(rate * steps * rates) @ np.outer(z, z).ravel()).reshape(5, 5))


def test_moments_tend_to_the_equations():
    """With slope 1 in the number of substeps, the noise of the correction with the rest."""
    errors = []
    for substeps in (16, 32, 64):
        pairs = zip(of_w(second_moments(0.1, 20, substeps)[-1]), of_equation(0.1, 20), strict=True)
        errors.append([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs])
    slopes = np.log2(np.array(errors)[:-1] / np.array(errors)[1:])
    assert np.all(np.abs(slopes - 1) < 0.1), slopes


def sampled(key, paths, substeps=1, steps=20):
    run = solve(
        SGD(0.1, 2),
        OBJECTIVE,
        jnp.asarray(START),
        steps=steps,
        key=key,
        paths=paths,
        observe=OBSERVE,
        save_every=steps,
        substeps=substeps,
        solver=ControlVariate(BATCH, EVERY),
    )
    return run, np.asarray(run.observables["w"][:, -1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "paths, substeps", [(8000, 1), *(pytest.param(120_000, n, marks=pytest.mark.slow) for n in (1, 3))]
)
def test_sampled_moments_are_those_of_the_scheme(paths, substeps, key, monkeypatch):
    """Within four standard errors, in the slow tests of less than a hundredth. Those of a stale control variate without
    correction are not."""
    exact = of_w(second_moments(0.1, 20, substeps)[-1])
    found, bars = deviations(sampled(key, paths, substeps)[1], *exact)
    assert found.max() < 4 and bars < 0.01 * (120_000 / paths) ** 0.5

    def stale(self, equation, signal, params, step, place):
        right = Anchored.gradient(self, equation, signal, params, step, place)
        away = signal.gradient(params), signal.gradient(self.anchor.params)
        return jax.tree.map(lambda g, a, b: g - a + b, right, *away)

    class Stale(Anchored):
        gradient = stale

    monkeypatch.setattr("dynamics._paths.control_variate.Anchored", Stale)
    assert deviations(sampled(key, paths + 1, substeps)[1], *exact)[0].max() > 8


@pytest.mark.slow
def test_the_noise_of_the_correction_is_measured(key):
    """Of 200 windows, whose mean is that of its second moments; by hand of 64 paths within four standard errors."""
    run, _ = sampled(key, 64, steps=1000)
    second = second_moments(0.1, 1000)[EVERY::EVERY]
    extra, noise = (
        np.mean([np.einsum("nki,wij,nkj->w", d, second, d) for d in [k - k.mean(0)]]) / 8 for k in (K - K0, K)
    )
    wanted = extra / noise / BATCH * 2
    ratio = np.asarray(run.checkpoint.progress.peak.quotient) / BATCH * 2
    assert abs(ratio.mean() - wanted) < 4 * ratio.std() / 8 and ratio.std() / 8 < 0.05 * wanted
    said = dict(run.details)
    assert said["extra_noise"].startswith(f"{ratio.mean():.3g} of the equation's")
    assert said["gradients"].startswith("3.8 times") and "off by" in said["covariance"]


@pytest.mark.slow
def test_the_covariance_of_a_batch_is_off_by_what_it_says(key, monkeypatch):
    """Of gradients 1 and -1 by that of the variance of M signs, Var s^2 = (1 - (M - 3)/(M - 1))/M = 2/(M (M - 1))."""
    monkeypatch.setattr(control_variate, "_PAIRS", 4000)
    signs = Objective(lambda w, x: jnp.sum(w * x), np.array([[1.0], [-1.0]]))
    run = solve(SGD(0.01, 1), signs, jnp.zeros(1), steps=2, key=key, solver=ControlVariate(4, 2))
    off = float(dict(run.details)["covariance"].split("off by ")[1].split()[0])
    assert abs(off - (2 / 12) ** 0.5) < 0.1 * off  # about four standard errors


@pytest.mark.parametrize("rows, every, substeps", [(7, 25, 1), (30, 60, 1), (30, 45, 3), (100, 12, 5), (4, 8, 1)])
def test_segments_reach_the_end(rows, every, substeps, monkeypatch):
    """Those of at most so many substeps, which end where a full gradient is due."""
    monkeypatch.setattr(brownian, "_LONGEST", 10)
    longest, count = brownian.segments(rows, every, substeps)
    assert longest * substeps <= 10
    for begin in range(0, 4 * every, every):
        offset = begin
        for _ in range(count):
            offset = max(offset, min(offset + longest, begin + every, (offset // rows + 1) * rows))
        assert offset == begin + every


@pytest.mark.slow
def test_compare_counts_it_as_solver_error(key):
    """Of the variance in the first steps, where it is that of Euler's steps and of the correction together."""
    result = compare(
        SGD(0.1, 2),
        OBJECTIVE,
        jnp.asarray(START),
        steps=20,
        key=key,
        paths=40_000,
        observe=OBSERVE,
        save_every=20,
        solver=ControlVariate(BATCH, EVERY),
    )
    coarse, fine = (of_w(second_moments(0.1, 20, n)[-1]) for n in (1, 2))
    for part, at in (("mean", lambda m: m[0]), ("variance", lambda m: np.diag(m[1]))):
        found, wanted = result.moments["w"][part].solver_error, 2 * (at(coarse) - at(fine))
        assert np.all(np.abs(found.value[-1] - wanted) < 4 * found.error[-1])


FADING = scheduled(SGD(0.1, 2, "without_replacement"), optax.linear_schedule(1.0, 0.1, 9))


@pytest.mark.slow
@pytest.mark.parametrize("equation", [Momentum(0.1, 2), pytest.param(FADING, marks=pytest.mark.slow)])
def test_records_change_nothing_and_it_goes_on_to_the_bit(equation, key):
    how = dict(key=key, paths=2, observe=OBSERVE, solver=ControlVariate(BATCH, EVERY))
    every, few = (solve(equation, OBJECTIVE, START, steps=20, save_every=n, **how) for n in (2, 10))
    assert_allclose(every.observables["w"][:, ::5], few.observables["w"], rtol=1e-12)
    half = solve(equation, OBJECTIVE, START, steps=10, save_every=10, **how)
    how.pop("key"), how.pop("paths")
    rest = solve(equation, OBJECTIVE, start=half, steps=10, save_every=10, **how)
    assert np.array_equal(rest.observables["w"][:, 1], few.observables["w"][:, 2])
    seven = solve(equation, OBJECTIVE, START, steps=7, key=key, observe=OBSERVE, solver=ControlVariate(BATCH, EVERY))
    with pytest.raises(ValueError, match="which goes on from training step 7, no multiple of `every`"):
        solve(equation, OBJECTIVE, start=seven, steps=7, **how)


INFINITE = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), Population(lambda key: jax.random.normal(key, (2,))))
REFUSED = {
    "second degree": (Adam(0.1, 2), OBJECTIVE, "Adam, whose velocity is not affine"),
    "full batch": (SGD(0.1), OBJECTIVE, "whose steps are on the full batch"),
    "series": (modified(SGD(0.1, 2)), OBJECTIVE, "whose drift is more than the velocity"),
    "no end": (SGD(0.1, 2), INFINITE, "of examples of Population.*, of which no full gradient is taken"),
    "injected": (clipped(SGD(0.1, 2), 1.0, 0.1), OBJECTIVE, "whose noise, .*, is not that of batches alone"),
    "first step": (OptimisticGradient(0.1, 2), OBJECTIVE, "whose first step is the algorithm's"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name, key):
    equation, objective, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        solve(equation, objective, jnp.asarray(START), steps=4, key=key, solver=ControlVariate(2, 2))


def test_arguments():
    with pytest.raises(ValueError, match="Argument `batch_size` must be an integer of at least 2"):
        ControlVariate(1, 4)
    with pytest.raises(ValueError, match="Argument `every` must be an integer of at least 2"):
        ControlVariate(4, 1)

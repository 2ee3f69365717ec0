"""Steps of many training steps: as long as the error in means allows that was asked for, and no longer."""

import dataclasses

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from registry import EQUATIONS

import dynamics._large_steps as large_steps
import dynamics._paths.terms as terms
from dynamics import SVAG, LargeBatches, solve
from equations import (
    SAM,
    SGD,
    AbstractDynamics,
    Adam,
    AMSGrad,
    Langevin,
    Objective,
    OptimisticGradient,
    RMSProp,
    SignSGD,
    scheduled,
)
from equations.internal import kicks_long, split

DATA = np.asarray([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
OBJECTIVE = Objective(lambda w, x: 0.5 * jnp.dot(x, w) ** 2, DATA)
JUMP = optax.piecewise_constant_schedule(1.0, {320: 0.2})
COMMON = dict(steps=640, save_every=160, observe={"loss": OBJECTIVE.value})


class Bath(AbstractDynamics):
    """dx = -x dt + dW/2."""

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.full_like(state, 0.5))


def flow(**more):
    return solve(SGD(0.005), OBJECTIVE, jnp.ones(2), **COMMON, **more)


def bath(**more):
    given = dict(steps=640, save_every=320, dt=0.005, observe={"square": lambda x: x[0] ** 2}) | more
    return solve(Bath(), None, jnp.ones(1), **given)


def mean_square(t):
    """Of the bath."""
    return np.exp(-2 * t) + 0.125 * (1 - np.exp(-2 * t))


def length(run):
    """Of the steps, in training steps."""
    return float(dict(run.details)["length_of_steps"].split()[0])


def error_of(run, name, exact):
    """The relative error of means over paths, and its standard error."""
    values = np.asarray(run.observables[name])
    off = np.abs(values.mean(0) - exact)
    return np.max(off) / np.max(exact), np.max(values.std(0)) / len(values) ** 0.5 / np.max(exact)


@pytest.mark.slow
def test_a_flow_takes_fewer_gradients():
    """Than training steps, to 1e-6 of the loss."""
    run = flow(solver_error=1e-6)
    hessian = DATA.T @ DATA / 3
    rates, vectors = np.linalg.eigh(hessian)
    start = vectors.T @ np.ones(2)
    exact = [np.sum(0.5 * rates * (np.exp(-rates * t) * start) ** 2) for t in np.asarray(run.times)]
    assert error_of(run, "loss", np.asarray(exact))[0] < 1e-6
    np.testing.assert_array_equal(run.steps, [0, 160, 320, 480, 640])
    np.testing.assert_allclose(run.times, 0.005 * np.asarray(run.steps), rtol=1e-15)
    assert length(run) == 40 and run.checkpoint is None
    assert "0.15 times the algorithm's: those of 18 examples in 40 training steps" in dict(run.details)["gradients"]


@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, dfx.Euler()])
def test_means_have_the_error_that_was_asked_for(solver, key, monkeypatch):
    """And the longer steps of a mutant that takes a thirtieth of the error for all of it have not."""
    run = bath(solver_error=0.02, key=key, paths=40_000, solver=solver)
    exact = mean_square(np.asarray(run.times))
    error, standard = error_of(run, "square", exact)
    assert standard < 0.01 and error < 0.02 + 4 * standard and length(run) > 2
    difference = large_steps._difference
    monkeypatch.setattr(large_steps, "_difference", lambda *runs: difference(*runs) / 30)
    mutant = bath(solver_error=0.02, key=key, paths=40_000, solver=solver)
    error, standard = error_of(mutant, "square", exact)
    assert length(mutant) > length(run) and error > 0.02 + 4 * standard


@pytest.mark.slow
def test_means_of_few_paths_and_of_what_is_kept(key):
    """The pilots see their own sampling error as an error, and reductions see the same steps."""
    run = bath(solver_error=0.05, key=key, paths=128)
    kept = bath(solver_error=0.05, key=key, paths=128, reduce=("mean",), increments="gaussian")
    np.testing.assert_allclose(kept.mean["square"], np.mean(run.observables["square"], 0), rtol=1e-12)
    np.testing.assert_array_equal(kept.steps, run.steps)
    assert length(kept) == length(run) > 1


@pytest.mark.slow
def test_an_error_that_no_step_has(key, monkeypatch):
    monkeypatch.setattr(large_steps, "_SHORTEST", 40)
    with pytest.raises(ValueError, match="Argument `solver_error` must be an error that steps of"):
        bath(solver_error=1e-9, key=key, paths=4)


@pytest.mark.parametrize(
    "equation, more, message",
    [
        (
            SignSGD(0.01, 2),
            {},
            "for SignSGD, whose velocity is not affine in the gradient, so that a draw is that of a",
        ),
        (AMSGrad(0.01, 2), {}, "for AMSGrad, whose velocity is not affine"),
        (RMSProp(0.01, 2), {}, "for RMSProp, whose velocity is not affine"),
        (scheduled(Adam(0.01, 2), JUMP), {}, "for Scheduled, whose velocity is not affine"),
        (OptimisticGradient(0.01, 2), {"solver": LargeBatches()}, "whose first step is the algorithm's"),
        (SAM(0.01, 2, normalized=False), {}, "for SAM, whose velocity is not affine"),
        (
            scheduled(SGD(0.01, 2), batch_size=lambda k: 2 + (k > 9)),
            {},
            "of which something that is counted belongs to",
        ),
        (
            scheduled(SGD(0.01, 2), JUMP),
            {"save_every": 128},
            "whose learning rate jumps with training step 320, which is",
        ),
        (SGD(0.01, 2), {"observe": None}, "without `observe`"),
        (SGD(0.01, 2), {"solver_error": -1.0}, "must be a positive finite number"),
        (SGD(0.01, 2), {"substeps": 2}, "Argument `substeps` must be left out with `solver_error`"),
        (SGD(0.01, 2), {"solver": SVAG(2)}, "Argument `solver` must be Strang.*SVAG"),
        (Langevin(0.01, temperature=0.1), {"solver": dfx.SRA1()}, "Argument `solver` must be Strang.*SRA1"),
        (SGD(0.01, 2), {"keep_states": True}, "Argument `keep_states` must be left out with `solver_error`"),
    ],
)
def test_refusals(equation, more, message, key):
    with pytest.raises(ValueError, match=message):
        solve(equation, OBJECTIVE, jnp.ones(2), key=key, **COMMON | {"solver_error": 0.1} | more)


def test_no_trace(key):
    with pytest.raises(TypeError, match="Argument `solver_error` must be None under jit"):
        jax.jit(lambda w: solve(SGD(0.01), OBJECTIVE, w, solver_error=0.1, **COMMON).final)(jnp.ones(2))


# Linear regression, whose means and variances under SGD are known.
X = np.sin(np.arange(256.0)).reshape(128, 2)
MANY = Objective(lambda w, example: 0.5 * (jnp.dot(w, example[0]) - example[1]) ** 2, (X, np.cos(np.arange(128.0))))


def regression(rate=0.01, **more):
    given = dict(
        steps=512, save_every=64, paths=16, key=jax.random.key(1), observe={"w": lambda w: w}, solver_error=0.02
    )
    return solve(SGD(rate, 1), MANY, jnp.array([1.0, -1.0]), **given | more)


def regression_mean(times):
    hessian, target = X.T @ X / 128, X.T @ np.cos(np.arange(128.0)) / 128
    rest = np.linalg.solve(hessian, target)
    rates, vectors = np.linalg.eigh(hessian)
    away = vectors.T @ (np.array([1.0, -1.0]) - rest)
    return rest + np.stack([vectors @ (np.exp(-rates * t) * away) for t in times])


@pytest.mark.slow
def test_large_batches_where_there_are_many_examples():
    """At most 64 training steps, in which steps on all examples take more gradients than the algorithm; few paths see their
    own sampling error, but runs of two lengths are on the same batches."""
    run = regression()
    said = dict(run.details)
    assert said["solver"].startswith("LargeBatches(") and said["gradients"].startswith("1 times") and length(run) > 8
    wanted, w = regression_mean(np.asarray(run.times)), np.asarray(run.observables["w"])
    assert np.all(np.abs(w.mean(0) - wanted) < 0.02 * np.linalg.norm(wanted, axis=1).max() + 4 * w.std(0) / 4)
    kept = regression(reduce=("mean",))
    np.testing.assert_allclose(kept.mean["w"], w.mean(0), rtol=1e-12)
    assert length(kept) == length(run)


@pytest.mark.slow
def test_steps_on_all_examples_where_they_take_less():
    """The same over longer times between records; and large batches if they are asked for."""
    one, other = (regression(5e-4, steps=4096, save_every=2048, solver=solver) for solver in (None, LargeBatches()))
    assert "Fused" in dict(one.details)["solver"] and length(one) > 3 * 128
    assert "LargeBatches" in dict(other.details)["solver"]


SCHEDULES = {
    "smooth": (optax.cosine_decay_schedule(1.0, 512), lambda k: k / 2 + 256 / np.pi * np.sin(np.pi * k / 512)),
    "jump": (
        optax.piecewise_constant_schedule(1.0, {256: 0.1}),
        lambda k: np.minimum(k, 256) + 0.1 * np.maximum(k - 256, 0),
    ),
}


def under_schedule(name, **more):
    """The mean of linear regression against that at the integral of the schedule, relative."""
    schedule, integral = SCHEDULES[name]
    given = dict(steps=512, save_every=64, key=jax.random.key(1), observe={"w": lambda w: w}) | more
    run = solve(scheduled(SGD(0.01, 1), schedule), MANY, jnp.array([1.0, -1.0]), **given)
    wanted, w = regression_mean(0.01 * integral(np.asarray(run.steps, float))), np.asarray(run.observables["w"])
    away = np.linalg.norm(w.mean(0) - wanted, axis=1) - 4 * np.linalg.norm(w.std(0), axis=1) / len(w) ** 0.5
    return run, np.max(away) / np.max(np.linalg.norm(wanted, axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("name, solver", [("smooth", LargeBatches(64)), *(
    pytest.param(name, solver, marks=pytest.mark.slow)
    for name, solver in (("smooth", None), ("jump", None), ("jump", LargeBatches(64)))
)])  # fmt: skip
def test_schedules_are_read_continuously_between_jumps(name, solver, monkeypatch):
    """By steps of 64 training steps or as long as an error allows. And a mutant that reads across the jump is off."""
    how = dict(paths=4000, solver=solver) | ({} if solver else {"solver_error": 0.01})
    run, away = under_schedule(name, **how)
    assert away < 0.01 and dict(run.details)["counts"] == "continuous"
    rates = np.concatenate([[0], np.cumsum(SCHEDULES[name][0](jnp.arange(512.0)))])[::64]
    np.testing.assert_allclose(run.times, 0.01 * rates, rtol=1e-6)
    if name == "jump" and solver is not None:
        monkeypatch.setattr("dynamics._integrate.in_windows", lambda problem: False)
        assert under_schedule(name, **how | {"paths": 4001})[1] > 0.01


ADAPTIVE = {
    name: entry.equation
    for name, entry in EQUATIONS.items()
    if entry.equation.series().discrete and kicks_long(entry.equation, MANY, jnp.ones(2))
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_mean_velocity_of_a_long_kick_is_the_drift(name):
    """Of rules of second degree, whose drift is the mean over all examples."""
    equation, w = ADAPTIVE[name], jnp.array([1.0, -1.0])
    equation = dataclasses.replace(equation, batch_size=2)
    state = split(equation).start(equation.init(w), MANY, jnp.sin(jnp.arange(128.0)))
    t = 5 * equation.learning_rate
    pairs = split(equation).mean_velocity(t, state, MANY), equation.drift(t, state, MANY)
    for one, other in zip(*map(jax.tree.leaves, pairs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def of_adaptive(equation, key, **more):
    how = dict(steps=512, paths=4000, save_every=64, observe={"w": lambda w: w}, key=key)
    run = solve(equation, MANY, jnp.array([1.0, -1.0]), **how, **more)
    w = np.asarray(run.observables["w"])[:, -1]
    return run, w.mean(0), w.var(0), w.std(0) / len(w) ** 0.5


@pytest.mark.slow
def test_bias_corrections_are_read_continuously(monkeypatch):
    """Means to the error that was asked for, and variances. And a mutant that kicks as in a training step has too much
    noise, where its steps do not fail at once."""
    equation = Adam(0.002, 4, b1=0.95)
    run, mean, variance, error = of_adaptive(equation, jax.random.key(1), solver_error=0.02)
    _, wanted, spread, other = of_adaptive(equation, jax.random.key(2))
    assert length(run) > 3
    assert np.all(np.abs(mean - wanted) < 0.02 + 4 * np.hypot(error, other))
    assert np.all(np.abs(variance / spread - 1) < 4 * (4 / 4000) ** 0.5)
    monkeypatch.setattr(large_steps.LargeSteps, "_found", lambda self, *how, **more: (16, 0.0))
    monkeypatch.setattr(terms.KickTerm, "_kick", lambda self, state: split(self.dynamics).kick)
    assert not np.all(of_adaptive(equation, jax.random.key(3), solver_error=0.02)[2] / spread < 2)

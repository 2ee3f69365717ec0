"""Runs by Diffrax's own solvers go on: 20 + 20 steps are 40, to the bit at fixed ones, on one path at chosen ones."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from marks import some

from dynamics import Trajectory, solve, train
from dynamics._passed import brownian
from equations import (
    SGD,
    AbstractDynamics,
    Isotropic,
    Langevin,
    Objective,
    UnderdampedLangevin,
    scheduled,
    stratonovich,
)

CASES = [
    ("a solver's own state", "instance", "SRA1 on an OU process", "test_to_the_bit[SRA1]"),
    ("a solver's own state", "instance", "ALIGN on UnderdampedLangevin", "test_to_the_bit[ALIGN]"),
    ("a solver's own state", "brother", "one that carries a second state", "test_to_the_bit[ReversibleHeun]"),
    ("a solver's own state", "brother", "one that carries its last stage", "test_to_the_bit[ShARK]"),
    ("a solver's own state", "brother", "under a schedule", "test_to_the_bit[scheduled]"),
    ("a solver's own state", "brother", "the Stratonovich form", "test_to_the_bit[stratonovich]"),
    ("a solver's own state", "brother", "longer than a block of its numbers", "test_beyond_a_block"),
    ("a solver's own state", "brother", "mutant: what is lost shows", "test_mutant_without_the_second_state"),
    ("a solver's own state", "brother", "of another learning rate", "test_another_learning_rate"),
    ("a solver's own state", "brother", "of another force", "test_another_force"),
    ("another solver goes on", "instance", "from the default and to it", "test_between_solvers"),
    ("another solver goes on", "brother", "from the algorithm", "test_from_the_algorithm"),
    ("another solver goes on", "brother", "paths of their own", "test_paths_of_their_own"),
    ("steps that a controller chooses", "instance", "a path of any length", "test_a_forest_is_a_brownian_motion"),
    ("steps that a controller chooses", "brother", "on the same path", "test_by_a_controller"),
    ("steps that a controller chooses", "brother", "steps that are given", "test_given_steps_do_not_go_on"),
    ("a solver's own state", "brother", "of any number of steps", "test_another_number_of_steps_compiles_nothing"),
]
KEY = jax.random.key(0)
DATA = jnp.array([[1.0, 0.5], [-1.0, 0.5], [0.5, -1.0], [-0.5, 0.0]])
OBJECTIVE = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2) + 0.1 * jnp.sum(w**4), DATA)
OBSERVE = {"x": lambda x: x}
X0 = jnp.array([1.0, -2.0])


class Well(AbstractDynamics):
    """dX = -k X^3 dt + 0.5 dW."""

    stiffness: jax.Array = eqx.field(default=1.0, converter=jnp.asarray)

    def drift(self, t, state, signal):
        return -self.stiffness * state**3

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.full(state.shape, 0.5))


class Geometric(Well):
    interpretation = "stratonovich"

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(0.5 * state)


def halved(k):
    return jnp.where(k < 3, 1.0, 0.5)


def well(solver, **options):
    return Well(), None, dict(dt=0.05, solver=solver) | options


KINDS = {name: well(getattr(dfx, name)()) for name in ("SRA1", "ShARK", "SEA", "SlowRK", "Heun", "ReversibleHeun")}
KINDS |= {
    name: (UnderdampedLangevin(0.01, temperature=0.5), OBJECTIVE, dict(solver=getattr(dfx, name)(0.01)))
    for name in ("ALIGN", "ShOULD", "QUICSORT")
}
KINDS |= {
    "substeps": well(dfx.SRA1(), substeps=3),
    "scheduled": (scheduled(Langevin(0.05, temperature=0.5), halved), OBJECTIVE, dict(solver=dfx.SRA1())),
    "stratonovich": (Geometric(), None, dict(dt=0.05, solver=dfx.SPaRK())),
    "milstein": (
        stratonovich(SGD(0.05, noise_model=Isotropic(0.1))),
        OBJECTIVE,
        dict(solver=dfx.StratonovichMilstein()),
    ),
}


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def run(kind, steps=None, start=None, **more):
    equation, objective, options = KINDS[kind]
    begin = dict(start=start) if start is not None else dict(params=X0, key=KEY, paths=2)
    return solve(equation, objective, steps=steps, **(dict(observe=OBSERVE) | options | begin | more))


@pytest.mark.slow
@pytest.mark.parametrize("kind", some(KINDS, ["SRA1", "ALIGN"]))
def test_to_the_bit(kind, tmp_path):
    """In memory and from disk."""
    whole, half = run(kind, 8), run(kind, 4)
    half.save(tmp_path / "half.nc")
    for start in (half, Trajectory.load(tmp_path / "half.nc", like=X0)):
        rest = run(kind, 4, start)
        assert same((rest.final, rest.final_state), (whole.final, whole.final_state))
        assert same(rest.observables["x"], whole.observables["x"][:, 4:])
        assert same((rest.steps, rest.times), (whole.steps[4:], whole.times[4:]))
    assert not same(half.final, whole.final) and rest.ok.all()


def test_beyond_a_block(monkeypatch):
    """Whose numbers are those of the block in which a step is; runs within the first one are as they were."""
    options = dict(observe={"x": lambda x: 1 * x})  # programs of their own
    short = run("SRA1", 5)
    monkeypatch.setattr(brownian, "_BLOCK", 4)
    whole, half = run("SRA1", 8, **options), run("SRA1", 3, **options)
    assert same(whole.observables["x"][:, :5], short.observables["x"][:, :5])
    assert not same(whole.observables["x"][:, 5], short.observables["x"][:, 5])
    assert same(run("SRA1", 5, half, **options).final, whole.final)


def test_mutant_without_the_second_state():
    whole, half = run("ReversibleHeun", 8), run("ReversibleHeun", 4)
    y, inner, here = half.checkpoint.progress.running
    object.__setattr__(half.checkpoint.progress, "running", (y, jax.tree.map(jnp.zeros_like, inner), here))
    assert not same(run("ReversibleHeun", 4, half).final, whole.final)


@pytest.mark.slow
def test_another_learning_rate():
    """With velocities as they are, not as steps of another length had them; the mutant takes them so."""
    half = run("ALIGN", 4)
    state = jax.tree.map(lambda leaf: leaf[0], half.final_state)
    slow = UnderdampedLangevin(0.0025, temperature=0.5)
    rest = solve(slow, OBJECTIVE, start=half, steps=1, keep_states=True, solver=dfx.ALIGN(0.01))
    assert same(jax.tree.map(lambda leaf: leaf[0, 0], rest.states), state)
    moved = np.asarray(rest.final[0] - state.params)
    along = -0.0025 * np.asarray(state.trace)  # noise and friction within a step of sqrt(0.0025) are small
    assert np.max(np.abs(moved - along)) < 0.5 * np.max(np.abs(along))
    taken = half.checkpoint.progress.running[0]
    ratio = np.asarray(taken[1])[0] / np.asarray(state.trace)
    np.testing.assert_allclose(ratio, -0.01, rtol=1e-12)  # which the mutant would go on with, four times too fast


def test_another_force():
    """The last stage of the solver, which is the first of the next step, is that of the new force."""
    half = run("ShARK", 4)
    there = solve(Well(3.0), None, start=half, steps=1, dt=0.05, solver=dfx.ShARK())
    y, inner, here = half.checkpoint.progress.running
    lost = jax.tree.map(jnp.zeros_like, inner)
    object.__setattr__(half.checkpoint.progress, "running", (y, lost, here))
    anew = solve(Well(3.0), None, start=half, steps=1, dt=0.05, solver=dfx.ShARK())
    assert same(there.final, anew.final)
    object.__setattr__(half.checkpoint.progress, "running", (y, inner, here))
    kept = run("ShARK", 1, half)
    assert np.max(np.abs(there.final - kept.final)) > 1e-3


@pytest.mark.slow
def test_between_solvers():
    """From the complete state."""
    default = solve(Well(), None, X0, steps=4, dt=0.05, key=KEY, paths=2)
    by_heun = run("Heun", 4, default)
    assert same(by_heun.observables["x"][:, 0], default.final)
    back = solve(Well(), None, start=by_heun, steps=2, dt=0.05, observe=OBSERVE)
    assert same(back.observables["x"][:, 0], by_heun.final) and back.steps[-1] == 10
    other = run("Heun", 4)
    assert same(run("SRA1", 1, other).observables["x"][:, 0], other.final)


def test_from_the_algorithm():
    trained = train(Langevin(0.05, 2), OBJECTIVE, X0, steps=3, key=KEY, paths=2)
    flow = solve(Langevin(0.05), OBJECTIVE, start=trained, steps=2, observe=OBSERVE, solver=dfx.SRA1())
    assert same(flow.observables["x"][:, 0], trained.final) and flow.steps[0] == 3


def test_paths_of_their_own():
    """Each from parameters of its own, and many from the end of one."""
    each = jnp.stack([X0, 2 * X0])
    apart = run("SRA1", 2, params=each, per_path=True)
    assert same(apart.observables["x"][:, 0], each)
    one = run("SRA1", 4)
    assert same(apart.observables["x"][:1, 1], one.observables["x"][:1, 1])
    alone = run("SRA1", 2, paths=1)
    many = run("SRA1", 2, alone, paths=3, key=jax.random.key(1))
    assert np.ptp(many.observables["x"][:, 0]) == np.ptp(alone.final) and len(np.unique(many.final[:, 0])) == 3


CONTROL = dict(solver=dfx.Heun(), stepsize_controller=dfx.PIDController(rtol=1e-4, atol=1e-4, dtmin=1e-2))


@pytest.mark.slow
def test_by_a_controller():
    """Within its tolerance, on a Brownian motion that knows no end."""
    options = CONTROL | dict(dt=0.25)
    whole, half = run("Heun", 6, **options), run("Heun", 3, **options)
    rest = run("Heun", 3, half, **options)
    np.testing.assert_allclose(half.final, whole.observables["x"][:, 3], rtol=1e-12)
    np.testing.assert_allclose(rest.final, whole.final, atol=5e-3)
    assert np.max(np.abs(half.final - whole.final)) > 0.1


@pytest.mark.slow
def test_a_forest_is_a_brownian_motion():
    """Increments within and beyond its first trees: variances, and none goes with another; to 4 standard errors."""
    times = np.array([0.0, 0.25, 1.0, 1.5, 2.0, 3.0, 4.0, 7.0])
    shape = jax.ShapeDtypeStruct((), jnp.float64)

    def path(key):
        forest = brownian.Forest(key, jnp.asarray(1e-2), shape, dfx.SpaceTimeLevyArea)
        found = jax.vmap(lambda a, b: forest.evaluate(a, b, use_levy=True))(
            jnp.asarray(times[:-1]), jnp.asarray(times[1:])
        )
        return found.W, found.H

    count = 4000
    w, h = jax.jit(jax.vmap(path))(jax.random.split(KEY, count))
    lengths = np.diff(times)
    for values, variance in ((w, lengths), (h, lengths / 12)):
        unit = np.asarray(values) / np.sqrt(variance)
        covariance = unit.T @ unit / count
        assert np.max(np.abs(covariance - np.eye(lengths.size))) < 4 * np.sqrt(2 / count)
    wrong = np.asarray(w) / np.sqrt(lengths) * np.sqrt([1, 1, 1, 1, 1, 1, 1.2])  # the mutant: another length of a tree
    assert np.abs(np.mean(wrong[:, -1] ** 2) - 1) > 4 * np.sqrt(2 / count)


def test_given_steps_do_not_go_on():
    half = run("Heun", 2, dt=0.25, stepsize_controller=dfx.StepTo(ts=jnp.array([0.0, 0.5, 1.0, 2.0])))
    with pytest.raises(ValueError, match="Argument `start` must be a run that can go on.*diffrax.StepTo"):
        run("Heun", 2, half)


@pytest.mark.slow
def test_another_number_of_steps_compiles_nothing():
    traced = []

    def seen(x):
        traced.append(1)
        return x

    for steps in (3, 7, 20):
        solve(Well(), None, X0, steps=steps, dt=0.05, key=KEY, observe={"x": seen}, solver=dfx.Heun())
        if steps == 3:
            first = len(traced)
    assert len(traced) - first == 2  # looks at its shape

"""Additive noise takes every solver of Diffrax that converges to one of two interpretations, which are then the same."""

import re

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from diffusions import START, A, OrnsteinUhlenbeck, S, last, moments, on_one_path, slopes
from marks import some
from oracles import within

from dynamics import solve
from equations import AbstractDynamics, Langevin, Objective, scheduled

CASES = [
    ("refused solvers", "instance", "SRA1 on the Ornstein-Uhlenbeck equation of the documentation", "test_the_readme"),
    ("refused solvers", "brother", "every solver for additive noise, in law", "test_law"),
    ("refused solvers", "brother", "one of each family, in order, on shared paths", "test_strong_order"),
    (
        "refused solvers",
        "brother",
        "Langevin on the full batch, under a schedule",
        "test_an_algorithm_of_additive_noise",
    ),
    ("refused solvers", "brother", "noise that changes with time", "test_noise_in_time"),
    ("operators whose leaves do not add up", "instance", "an identity", "test_operators[identity]"),
    ("operators whose leaves do not add up", "brother", "a function that divides", "test_operators[function]"),
    ("operators whose leaves do not add up", "brother", "a product of operators", "test_operators[product]"),
    ("operators whose leaves do not add up", "brother", "states of many leaves", "test_states_of_many_leaves"),
    ("operators whose leaves do not add up", "brother", "Diffrax by hand is the mutant", "test_mutant_leaves"),
    ("what a run promises", "instance", "save_every changes no bit", "test_records_change_nothing"),
    ("what a run promises", "brother", "substeps refine the same path", "test_substeps_refine_the_path"),
    ("what a run promises", "brother", "a path that fails is frozen", "test_a_path_that_fails"),
    ("what a run promises", "brother", "states and details", "test_what_it_says"),
    ("what a run promises", "brother", "more steps than the clock tells apart", "test_long_runs"),
    ("what a run promises", "brother", "jit and a gradient through it", "test_under_a_trace"),
    ("wrong pairings", "instance", "noise that depends on the state", "test_refused"),
    ("wrong pairings", "brother", "said to be additive and is not", "test_said"),
    ("wrong pairings", "brother", "said to be additive, and is", "test_what_is_said_holds"),
    ("wrong pairings", "brother", "unmarked solvers, half solvers, automatic substeps", "test_refused_options"),
]

SOLVERS = {
    name: getattr(dfx, name)()
    for name in (
        *("SRA1", "ShARK", "SEA", "SlowRK", "SPaRK", "GeneralShARK", "Heun", "Midpoint", "Ralston"),
        *("ReversibleHeun", "EulerHeun", "StratonovichMilstein", "ItoMilstein"),
    )
}
KEY = jax.random.key(0)
OBSERVE = {"x": lambda x: x}


class Diagonal(AbstractDynamics):
    """dX = -X dt + 0.5 dW, as in the documentation."""

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.full(state.shape, 0.5))


class Multiplicative(Diagonal):
    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(0.5 * state)


def test_the_readme():
    ou, x0, key = Diagonal(), jnp.ones(2), KEY
    flow = solve(ou, None, x0, steps=100, dt=0.05, key=key, paths=64, solver=dfx.SRA1())
    assert flow.final.shape == (64, 2) and flow.ok.all() and flow.steps[-1] == 100
    assert dict(flow.details)["solver"] == "SRA1()"


@pytest.mark.parametrize("name", some(SOLVERS, ["SRA1"]))
def test_law(name):
    """Of the exact law, and of the default's, within 4 standard errors; a tenth more noise is not."""
    mean, covariance = moments(A, S, START, 1.0)
    first = name in ("SEA", "ReversibleHeun", "Heun", "EulerHeun", "StratonovichMilstein", "ItoMilstein")
    steps = 80 if first else 20
    mine = last(OrnsteinUhlenbeck(), START, SOLVERS[name], steps, 1 / steps, 8000)
    default = last(OrnsteinUhlenbeck(), START, None, steps, 1 / steps, 8000, key=1)
    assert within(mine, mean, covariance) < 1 < within(mine, mean, 1.2 * covariance)
    for measure in (lambda x: x, lambda x: (x - mean)[:, :, None] * (x - mean)[:, None, :]):
        one, two = measure(mine), measure(default)
        error = np.sqrt((one.var(0) + two.var(0)) / len(one))
        assert np.all(np.abs(one.mean(0) - two.mean(0)) < 4 * error)


class Sine(AbstractDynamics):
    """dX = sin(2 X) dt + dW."""

    def drift(self, t, state, signal):
        return jnp.sin(2 * state)

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones(state.shape))


ORDERS = {"SRA1": 1.5, "ShARK": 1.5, "SEA": 1.0, "SlowRK": 1.5, "Heun": 1.0, "EulerHeun": 1.0, "ItoMilstein": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDERS)
def test_strong_order(name):
    """On shared paths, as claimed for additive noise; the order of another family is not measured."""
    counts = (16, 64, 1024)
    *coarse, fine = on_one_path(Sine(), jnp.zeros(2), SOLVERS[name], counts, paths=500)
    errors = [np.sqrt(np.mean((x - fine) ** 2)) for x in coarse]
    (slope,) = slopes(errors, counts[:-1])
    assert abs(slope - ORDERS[name]) < 0.2 < abs(slope - (2.5 - ORDERS[name]))


@pytest.mark.parametrize("batch_size", some([None, 2], [2]))
def test_an_algorithm_of_additive_noise(batch_size):
    """Heat alone is additive, held through a schedule that stops it; that of batches is not."""
    x = np.array([[0.5], [-0.5]])
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), x)
    bath = Langevin(0.1, batch_size, temperature=0.2)
    if batch_size is not None:
        with pytest.raises(ValueError, match="additive"):
            solve(bath, objective, jnp.ones(1), steps=2, key=KEY, solver=dfx.SRA1())
        return
    cooled = scheduled(bath, optax.piecewise_constant_schedule(1.0, {10: 0.0}))
    flow = solve(cooled, objective, jnp.ones(1), steps=20, key=KEY, paths=4000, solver=dfx.SRA1(), observe=OBSERVE)
    x = np.asarray(flow.observables["x"])
    mean, covariance = moments(np.eye(1), np.sqrt(0.4) * np.eye(1), [1.0], 1.0)
    assert within(x[:, 10], mean, covariance) < 1 < within(x[:, 10], mean, 1.2 * covariance)
    np.testing.assert_array_equal(x[:, 10], x[:, 20])
    assert dict(flow.details)["counts"] == "held within a training step"


class InTime(AbstractDynamics):
    """dX = -X dt + t dW, as a function."""

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.FunctionLinearOperator(lambda n: t * n, jax.ShapeDtypeStruct(state.shape, state.dtype))


def test_noise_in_time():
    """Of variance int_0^1 exp(-2(1-s)) s^2 ds = (1 - e^-2)/4."""
    variance = (1 - np.exp(-2.0)) / 4
    x = last(InTime(), jnp.zeros(1), dfx.SRA1(), paths=8000)
    assert within(x, np.zeros(1), variance * np.eye(1)) < 1 < within(x, np.zeros(1), 1.2 * variance * np.eye(1))


def of(kind, size):
    structure = jax.ShapeDtypeStruct((2,), jnp.float64)
    inverse = 1 / size
    return {
        "identity": lambda: lx.IdentityLinearOperator(structure),
        "function": lambda: lx.FunctionLinearOperator(lambda n: n / inverse, structure),
        "product": lambda: (
            lx.DiagonalLinearOperator(size) @ lx.MatrixLinearOperator(jnp.diag(1 / size) @ jnp.diag(size))
        ),
    }[kind]()


class By(AbstractDynamics):
    kind: str

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return of(self.kind, 1 + 0 * t + jnp.zeros(2))  # changing with time, as far as one can tell


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["identity", *some(["function", "product"], [])])
@pytest.mark.parametrize("name", some(["SRA1", "ReversibleHeun", "ItoMilstein"], ["SRA1"]))
def test_operators(kind, name):
    """The same bits as of a diagonal."""
    ends = [last(dynamics, jnp.ones(2), SOLVERS[name], 4, paths=3) for dynamics in (By(kind), Unit())]
    np.testing.assert_allclose(*ends, rtol=1e-12)


class Leaves(AbstractDynamics):
    """dX = -X dt + 0.5 dW on states of any structure, with noise of that."""

    def drift(self, t, state, signal):
        return jax.tree.map(jnp.negative, state)

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), state))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ItoMilstein", "SRA1", "ReversibleHeun", "SPaRK"])
def test_states_of_many_leaves(name):
    start = {"a": jnp.ones(2), "b": (jnp.ones((2, 1)),)}
    run = solve(Leaves(), None, start, steps=20, dt=0.05, key=KEY, paths=4000, solver=SOLVERS[name], save_every=20)
    x = np.concatenate([run.final["a"], run.final["b"][0][..., 0]], axis=1)
    mean, covariance = moments(np.eye(4), 0.5 * np.eye(4), np.ones(4), 1.0)
    assert within(x, mean, covariance) < 1.3 and within(x, mean, 1.2 * covariance) > 1


class Unit(Diagonal):
    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones(2))


@pytest.mark.slow
def test_mutant_leaves():
    """What an identity does in Diffrax: half of it less half of it is the whole."""
    path = dfx.UnsafeBrownianPath((2,), KEY, dfx.SpaceTimeLevyArea)

    def end(operator):
        noise = dfx.ControlTerm(lambda t, y, args: operator, path)
        terms = dfx.MultiTerm(dfx.ODETerm(lambda t, y, args: -y), noise)
        return dfx.diffeqsolve(terms, dfx.SRA1(), 0.0, 0.2, 0.05, jnp.ones(2), adjoint=dfx.ForwardMode()).ys

    off = end(of("identity", jnp.ones(2))) - end(lx.DiagonalLinearOperator(jnp.ones(2)))
    assert np.abs(off).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", some(["ReversibleHeun", "SRA1"], ["ReversibleHeun"]))
def test_records_change_nothing(name):
    """The state of the solver goes on through a record."""
    solver = SOLVERS[name]
    runs = [
        solve(OrnsteinUhlenbeck(), None, START, steps=24, dt=0.1, key=KEY, paths=2, solver=solver, save_every=every)
        for every in (1, 8, 24)
    ]
    for run in runs[1:]:
        np.testing.assert_allclose(run.final, runs[0].final, rtol=1e-14)


@pytest.mark.slow
def test_substeps_refine_the_path():
    """Where increments are all that a solver sees they are the default's."""
    ends = [last(OrnsteinUhlenbeck(), START, dfx.Heun(), paths=8, substeps=n) for n in (1, 4)]
    default = last(OrnsteinUhlenbeck(), START, None, paths=8)
    assert np.abs(ends[0] - default).max() < 0.1 < np.abs(default).max()
    assert np.abs(ends[1] - ends[0]).max() < 0.1


class Fragile(AbstractDynamics):
    """dX = dW, and beyond an edge a drift that no step survives."""

    edge: float

    def drift(self, t, state, signal):
        return jnp.where(state > self.edge, 1e300, 0.0)

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones(state.shape))


@pytest.mark.slow
@pytest.mark.parametrize("save_every", some([1, 6], [6]))
def test_a_path_that_fails(save_every):
    options = {"steps": 24, "dt": 0.25, "key": KEY, "paths": 12, "solver": dfx.SRA1(), "observe": OBSERVE}
    every = np.asarray(solve(Fragile(1e30), None, jnp.zeros(1), save_every=1, **options).observables["x"])[..., 0]
    broken = solve(Fragile(1.0), None, jnp.zeros(1), save_every=save_every, **options)
    failed_at, x = np.asarray(broken.failed_at), np.asarray(broken.observables["x"])[..., 0]
    assert 0 < (failed_at >= 0).sum() < 12 and np.array_equal(broken.ok, failed_at < 0)
    for path, step in enumerate(failed_at):
        until = 24 if step < 0 else step - 1
        wanted = every[path, np.minimum(np.arange(0, 25, save_every), until // save_every * save_every)]
        np.testing.assert_allclose(x[path], wanted, rtol=1e-12)
        np.testing.assert_allclose(broken.final[path], wanted[-1], rtol=1e-12)


def test_what_it_says():
    options = {"steps": 4, "dt": 0.1, "key": KEY, "paths": 2, "solver": dfx.SEA(), "observe": OBSERVE}
    flow = solve(Diagonal(), None, jnp.ones(2), save_every=2, keep_states=True, **options)
    np.testing.assert_array_equal(flow.states, flow.observables["x"])
    said = dict(flow.details)
    assert "not looked at" in said["health"] and said["interpretation"] == "either, the noise is additive"
    assert said["brownian_motion"] == "diffrax.UnsafeBrownianPath, SpaceTimeLevyArea"
    assert flow.to_xarray().attrs["solver"] == "SEA()"


@pytest.mark.slow
def test_long_runs(monkeypatch):
    """More steps than Diffrax's clock tells apart; the law of SEA's own steps."""
    monkeypatch.setattr("dynamics._paths.brownian._LONGEST", 1)
    monkeypatch.setattr("dynamics._passed.brownian._BLOCK", 2)
    h, steps = 0.1, 8
    x = last(Diagonal(), jnp.ones(2), dfx.SEA(), steps, h, 4000, save_every=4)
    kick = 0.25 * ((1 - h / 2) ** 2 * h + h**3 / 12)
    variance = sum(kick * (1 - h) ** (2 * k) for k in range(steps))
    mean = np.full(2, (1 - h) ** steps)
    assert within(x, mean, variance * np.eye(2)) < 1 < within(x, mean, 1.2 * variance * np.eye(2))


@pytest.mark.slow
def test_under_a_trace():
    @jax.jit
    def end(start):
        run = solve(Diagonal(), None, start, steps=4, dt=0.1, key=KEY, solver=dfx.SRA1())
        return run.final[0].sum()

    factor = 1 - 0.1 + 0.1**2 / 2
    np.testing.assert_allclose(jax.grad(end)(jnp.ones(2)), factor**4, rtol=1e-12)


def refused(match, dynamics=None, error=ValueError, **options):
    options = {"steps": 2, "dt": 0.1, "key": KEY} | options
    with pytest.raises(error, match=re.escape(match)):
        solve(dynamics or Multiplicative(), None, jnp.ones(2), **options)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *(pair for name in ("SRA1", "ShARK", "SEA") for pair in [(name, "is one for additive noise")]),
        *(pair for name in ("Heun", "SlowRK", "SPaRK") for pair in [(name, "converges to the Stratonovich solution")]),
    ],
)
def test_refused(name, reason):
    refused(reason, solver=SOLVERS[name])
    refused(f"but {SOLVERS[name]!r} was given", solver=SOLVERS[name])


class Formally(Diagonal):
    """Of which the jaxpr does not tell that it is additive."""

    interpretation = "additive"

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(0.5 + 0 * state)


@pytest.mark.slow
def test_what_is_said_holds():
    ends = [last(dynamics, jnp.ones(2), dfx.SRA1(), 4, paths=2) for dynamics in (Formally(), Diagonal())]
    np.testing.assert_allclose(*ends, rtol=1e-12)


def test_said():
    class Said(Multiplicative):
        interpretation = "additive"

    class Word(Multiplicative):
        interpretation = "yes"

    class Silent(Formally):
        interpretation = "ito"

    refused("`interpretation` of Said must be 'additive' only where", Said(), solver=dfx.SRA1())
    refused("of 'ito', 'stratonovich' or 'additive', but Word has 'yes'", Word(), solver=dfx.SRA1())
    refused("says otherwise", Silent(), solver=dfx.SRA1())


def test_refused_options():
    for solver in (dfx.Tsit5(), dfx.Bosh3(), dfx.LeapfrogMidpoint(), dfx.ImplicitEuler()):
        refused("neither to the Itô nor to the Stratonovich", Diagonal(), solver=solver)
    refused("`solver` must not be a HalfSolver", Diagonal(), solver=dfx.HalfSolver(dfx.Heun()))
    refused("`substeps` must be an integer", Diagonal(), solver=dfx.SRA1(), substeps="auto")
    refused("`adjoint` must not be a BacksolveAdjoint", Diagonal(), solver=dfx.Heun(), adjoint=dfx.BacksolveAdjoint())
    refused("`key` must be a key", Diagonal(), solver=dfx.SRA1(), key=None)

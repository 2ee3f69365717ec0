"""Going on from where a run ended: 20 + 20 steps are 40, to the bit."""

import os
import pathlib
import subprocess
import sys

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some
from registry import EQUATIONS

from dynamics import Trajectory, solve, stimuli, train
from equations import (
    SGD,
    Adam,
    Circuit,
    Diagonal,
    Isotropic,
    LabelNoise,
    Momentum,
    Objective,
    StudentT,
    clipped,
    decayed,
    from_optax,
    modified,
    scheduled,
)


def squared(w, example):
    x, y = example
    return jnp.sum((jnp.tanh(w["a"] * x) - y) ** 2) + 0.1 * jnp.sum(w["b"] ** 2)


OBJECTIVE = Objective(squared, (jnp.linspace(-1, 1, 12).reshape(6, 2), jnp.ones(6)))
W0 = {"a": jnp.array([0.3, 0.5]), "b": jnp.array([1.0, -1.0, 0.5])}
OBSERVE = {"a": lambda w: w["a"], "loss": OBJECTIVE.value}
KEY = jax.random.key(0)
HALVING = optax.piecewise_constant_schedule(1.0, {7: 0.5})
MORE = {
    "scheduled": scheduled(Adam(0.05, 2), HALVING),
    "decayed": decayed(Momentum(0.05, 2), 0.1),
    "shuffled": SGD(0.05, 2, "shuffled"),
    "isotropic": SGD(0.05, 2, noise_model=Isotropic(0.1)),
    "diagonal": SGD(0.05, 2, noise_model=Diagonal()),
    "student": SGD(0.05, 2, noise_model=StudentT(5.0, 0.1)),
    "private": clipped(scheduled(Adam(0.05, 2), HALVING), norm=0.5, noise=0.3),
    "labels": SGD(0.05, noise_model=LabelNoise(0.1, labels=lambda e: e[1])),
    "modified": modified(SGD(0.05, 2)),
    "optax": from_optax(optax.adamw, 0.05, 2),
}
RULES = {name: entry.equation for name, entry in EQUATIONS.items()} | MORE
FAST = ["adam", "shuffled"]


def same(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in leaves)


def halves(run, rule, save_every=1, **options):
    """A run of 40 steps from its middle on, one of 20, and one that goes on from there."""
    options = dict(observe=OBSERVE, save_every=save_every, **options)
    whole = run(rule, OBJECTIVE, W0, steps=40, key=KEY, paths=3, **options)
    half = run(rule, OBJECTIVE, W0, steps=20, key=KEY, paths=3, **options)
    return whole, half, run(rule, OBJECTIVE, start=half, steps=20, **options)


def assert_goes_on(whole, half, rest):
    middle = half.steps.size - 1
    assert same(rest.final, whole.final) and same(rest.final_state, whole.final_state)
    assert same((rest.steps, rest.times), (whole.steps[middle:], whole.times[middle:]))
    assert same(rest.observables, {name: values[:, middle:] for name, values in whole.observables.items()})
    assert not same(half.final, whole.final)


@pytest.mark.parametrize("run", [solve, train])
@pytest.mark.parametrize("name", some(RULES, FAST))
@pytest.mark.filterwarnings("ignore:The noise of a solver's step", "ignore:Argument `params`")
def test_to_the_bit(name, run, tmp_path):
    """In memory and from disk."""
    options = dict(save_every=5 if name == "adam" else 1)
    whole, half, rest = halves(run, RULES[name], **options)
    assert_goes_on(whole, half, rest)
    half.save(tmp_path / "half.nc")
    again = Trajectory.load(tmp_path / "half.nc", like=W0)
    loaded = run(RULES[name], OBJECTIVE, start=again, steps=20, observe=OBSERVE, **options)
    assert_goes_on(whole, half, loaded)


PROCESS = """
import sys, warnings; sys.path.insert(0, {tests!r}); sys.path.insert(0, {here!r})
import jax; jax.config.update("jax_enable_x64", True)
warnings.simplefilter("ignore")
import dynamics
from test_going_on import OBJECTIVE, OBSERVE, RULES, W0
for name in RULES:
    half = dynamics.Trajectory.load({folder!r} + "/" + name + ".nc", like=W0)
    rest = dynamics.{run}(RULES[name], OBJECTIVE, start=half, steps=20, observe=OBSERVE)
    rest.save({folder!r} + "/" + name + "_rest.nc")
"""


@pytest.mark.slow
@pytest.mark.parametrize("run", [solve, train])
@pytest.mark.filterwarnings("ignore:The noise of a solver's step", "ignore:Argument `params`")
def test_in_a_new_process(run, tmp_path):
    """All of them, in one."""
    here = pathlib.Path(__file__).parent
    ends = {}
    for name, rule in RULES.items():
        _, half, ends[name] = halves(run, rule)
        half.save(tmp_path / f"{name}.nc")
    code = PROCESS.format(tests=str(here.parent), here=str(here), folder=str(tmp_path), run=run.__name__)
    flags = {"XLA_FLAGS": os.environ.get("XLA_FLAGS", ""), "PYTHONPATH": str(here.parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | flags)
    for name, rest in ends.items():
        found = Trajectory.load(tmp_path / f"{name}_rest.nc", like=W0)
        assert same((found.final, found.observables, found.times), (rest.final, rest.observables, rest.times)), name


@pytest.mark.slow
@pytest.mark.parametrize("solver", [dfx.Euler(), None])
@pytest.mark.parametrize("substeps", [1, 3])
def test_other_solvers(solver, substeps):
    if solver is None or substeps == 1:
        assert_goes_on(
            *halves(solve, MORE["scheduled" if solver is None else "isotropic"], solver=solver, substeps=substeps)
        )
    assert_goes_on(*halves(solve, SGD(0.05), solver=dfx.Heun(), substeps=substeps))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The noise of a solver's step")
def test_what_is_lost_shows():
    """Mutants: the parameters alone, without the memory; half a flow that is owed, forgotten; another run's noise."""
    adam, options = Adam(0.05, 2), dict(steps=20, observe=OBSERVE, save_every=20)
    whole, half, rest = halves(solve, adam, save_every=20)
    alone = solve(adam, OBJECTIVE, jax.tree.map(lambda leaf: leaf[0], half.final), key=KEY, **options)
    assert not same(alone.final["a"][0], whole.final["a"][0])
    checkpoint = half.checkpoint
    assert bool(checkpoint.owes)
    object.__setattr__(checkpoint, "owes", jnp.zeros((), bool))
    forgotten = solve(adam, OBJECTIVE, start=half, **options)
    assert not same(forgotten.final, rest.final)
    object.__setattr__(checkpoint, "owes", jnp.ones((), bool))
    object.__setattr__(checkpoint, "key", jax.random.key(1))
    assert not same(solve(adam, OBJECTIVE, start=half, **options).final, rest.final)


@pytest.mark.slow
def test_another_number_of_steps_compiles_nothing(monkeypatch):
    traced = []

    def loss(w):
        traced.append(1)
        return OBJECTIVE.value(w)

    observe = {"loss": loss}
    for steps in (3, 7, 20, 40):
        for run in (solve, train):
            run(SGD(0.05, 2), OBJECTIVE, W0, steps=steps, key=KEY, observe=observe)
        if steps == 3:
            first = len(traced)
    # What is left is the look at the observable's shape, which is made of every call.
    assert len(traced) - first == 3 * 2


@pytest.mark.slow
def test_another_learning_rate_is_allowed():
    half = train(SGD(0.05, 2), OBJECTIVE, W0, steps=4, key=KEY)
    rest = train(SGD(0.1, 2), OBJECTIVE, start=half, steps=2)
    np.testing.assert_allclose(rest.times, [0.2, 0.3, 0.4])
    np.testing.assert_array_equal(rest.steps, [4, 5, 6])


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(Momentum(0.05, 2), marks=pytest.mark.slow),
        Adam(0.05, 2),
        pytest.param(from_optax(optax.adam, 0.05, 2), marks=pytest.mark.slow),
    ],
)
def test_from_the_algorithm_to_the_equation(rule):
    """With the memory that it has then, which the equation would otherwise begin without."""
    half = train(rule, OBJECTIVE, W0, steps=4, key=KEY, paths=2, keep_states=True)
    there = solve(rule, OBJECTIVE, start=half, steps=1, keep_states=True)
    begins = jax.tree.map(lambda leaf: leaf[:, 0], there.states)
    ended = [np.asarray(leaf) for leaf in jax.tree.leaves(half.final_state)]
    for leaf in jax.tree.leaves(begins):
        assert any(np.array_equal(leaf, other) for other in ended)


@pytest.mark.slow
def test_by_a_controller():
    """Within its tolerance."""
    options = dict(observe=OBSERVE, stepsize_controller=dfx.PIDController(rtol=1e-8, atol=1e-8))
    whole = solve(SGD(0.05), OBJECTIVE, W0, steps=8, **options)
    half = solve(SGD(0.05), OBJECTIVE, W0, steps=4, **options)
    rest = solve(SGD(0.05), OBJECTIVE, start=half, steps=4, **options)
    np.testing.assert_allclose(rest.final["a"], whole.final["a"], rtol=1e-7)


HALF = train(SGD(0.05, 2), OBJECTIVE, W0, steps=2, key=KEY, paths=2)
REFUSED = [
    (dict(start=3), "Argument `start` must be a Trajectory"),
    (dict(start=HALF, params=W0), "Argument `params` must be left out where `start` is given"),
    (dict(start=HALF, key=jax.random.key(1)), "Argument `key` must be left out, or that of the run"),
    (dict(start=HALF, paths=3), "Argument `paths` must be left out, or be those of `start`, 2"),
    (dict(start=HALF, equation=Adam(0.05, 2)), "Argument `start` must have ended with the state"),
]


@pytest.mark.parametrize("options, words", REFUSED, ids=[words for _, words in REFUSED])
def test_refused(options, words):
    arguments = dict(equation=SGD(0.05, 2), objective=OBJECTIVE, steps=2) | options
    with pytest.raises((ValueError, TypeError), match=words):
        train(**arguments)


class Accumulated(SGD):
    """Whose algorithm counts what its equation does not know."""

    def twin(self):
        return optax.MultiSteps(optax.sgd(self.learning_rate), 2).gradient_transformation()


@pytest.mark.slow
def test_an_algorithm_does_not_know_the_memory_of_an_equation():
    rule = Accumulated(0.05, 2)
    half = solve(rule, OBJECTIVE, W0, steps=2, key=KEY)
    words = "it is of an equation, Accumulated, whose memory is not known to be that of an algorithm, Accumulated"
    with pytest.raises(ValueError, match=f"Argument `start` must be of a run of the same kind, but {words}"):
        train(rule, OBJECTIVE, start=half, steps=2)


@pytest.mark.slow
def test_under_a_trace_there_is_no_end():
    ends = jax.vmap(lambda rate: train(SGD(rate, 2), OBJECTIVE, W0, steps=2, key=KEY))(jnp.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="Argument `start` must be the Trajectory of one run"):
        train(SGD(0.05, 2), OBJECTIVE, start=ends, steps=2)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.03])
@pytest.mark.filterwarnings("ignore:delay / duration", "ignore:dt / tau")
def test_a_circuit(delay, tmp_path):
    """With what is under way, the order of its stimuli, and noise."""
    x = np.random.default_rng(0).normal(size=(7, 2))
    circuit = Circuit((2, 3, 1), "KP", delay=delay, integration_noise=0.1)
    for key in (None, KEY):
        stream = stimuli(x, np.arange(7.0), duration=0.02, key=key, sampling="shuffled")
        start, options = circuit.init(KEY), dict(dt=0.005, save_every=2, observe={"out": lambda w: w.forward[0]})
        whole = solve(circuit, stream, start, steps=12, key=KEY, paths=2, **options)
        half = solve(circuit, stream, start, steps=6, key=KEY, paths=2, **options)
        half.save(tmp_path / "half.nc")
        for begin in (half, Trajectory.load(tmp_path / "half.nc", like=start)):
            rest = solve(circuit, stream, start=begin, steps=6, **options)
            assert same(rest.final, whole.final)
        assert same(rest.observables["out"], whole.observables["out"][:, 3:])
        assert same((rest.steps, rest.times), (whole.steps[3:], whole.times[3:]))

"""States from a file have the structure that they had: by the names of public classes, or by the equation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some

from dynamics import Trajectory, solve, train
from equations import SGD, Adam, Momentum, MomentumState, Objective, OptimisticGradient, averaged, from_optax, modified

CASES = [
    ("states from a file", "instance", "Adam, by train", "test_public_classes[adam-train]"),
    ("states from a file", "brother", "Adam, by solve", "test_public_classes[adam-solve]"),
    ("states from a file", "brother", "parameters alone", "test_public_classes[sgd-train]"),
    ("states from a file", "brother", "an average on top", "test_public_classes[averaged-train]"),
    ("states from a file", "brother", "a memory of ours", "test_public_classes[optimistic-train]"),
    ("states from a file", "brother", "a memory of Optax's", "test_public_classes[optax-train]"),
    ("states from a file", "brother", "a series", "test_public_classes[modified-train]"),
    ("states from a file", "brother", "a network, some of it frozen", "test_a_network_with_a_frozen_layer"),
    ("states from a file", "brother", "a class of one's own", "test_a_class_of_ones_own"),
    ("states from a file", "brother", "saved a second time", "test_a_second_time"),
    ("another equation", "instance", "another number", "test_another_equation[number]"),
    ("another equation", "brother", "another rule", "test_another_equation[rule]"),
    ("another equation", "brother", "another state by the same name", "test_another_state_by_the_same_name"),
    ("another equation", "brother", "none at all", "test_another_equation[none]"),
]
W0 = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, 4.0])}
DATA = jnp.array([[1.0, 0.5], [-1.0, 0.5], [0.5, -1.0], [-0.5, 0.0]])
OBJECTIVE = Objective(lambda w, x: jnp.sum((w["a"] - x) ** 2 + 0.5 * (w["b"] - x) ** 2), DATA)
KEY = jax.random.key(0)
ASKED = ("states", "final_state")
RULES = {
    "adam": Adam(0.05, 2),
    "sgd": SGD(0.05, 2),
    "averaged": averaged(Adam(0.05, 2)),
    "optimistic": OptimisticGradient(0.05, 2),
    "optax": from_optax(optax.adamw, 0.05, 2),
    "modified": modified(Momentum(0.05, 2)),
}


def run_of(rule, run=train, params=W0, objective=OBJECTIVE, **options):
    return run(rule, objective, params, steps=2, key=KEY, paths=2, keep_states=True, **options)


def assert_same(one, other, names=ASKED):
    for name in names:
        ours, theirs = getattr(one, name), getattr(other, name)
        assert jax.tree.structure(ours) == jax.tree.structure(theirs), name
        assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs)), name


@pytest.mark.slow
@pytest.mark.parametrize("run", [train, pytest.param(solve, marks=pytest.mark.slow)], ids=["train", "solve"])
@pytest.mark.parametrize("name", some(RULES, ["adam"]))
@pytest.mark.filterwarnings("ignore:The noise of a solver's step")
def test_public_classes(name, run, tmp_path):
    """Without the equation, and with it."""
    half = run_of(RULES[name], run)
    half.save(tmp_path / "run.nc")
    names = (*ASKED, "twin_states", "twin_final_state") if run is train else ASKED
    for given in (None, RULES[name]):
        again = Trajectory.load(tmp_path / "run.nc", like=W0, equation=given)
        assert_same(half, again, names)
        rest = [run(RULES[name], OBJECTIVE, start=start, steps=1) for start in (half, again)]
        assert_same(*rest, ("final",))


@pytest.mark.slow
def test_a_network_with_a_frozen_layer(tmp_path):
    network = eqx.nn.MLP(2, 1, 2, 1, key=KEY)
    loss = Objective(lambda net, x: jnp.sum(net(x) ** 2), DATA)
    half = run_of(Adam(0.05, 2), train, network, loss, frozen=lambda net: net.layers[0])
    half.save(tmp_path / "run.nc")
    for given in (None, Adam(0.05, 2)):
        assert_same(half, Trajectory.load(tmp_path / "run.nc", like=network, equation=given), (*ASKED, "twin_states"))


class Mine(eqx.Module):
    """A state of one's own, its leaves in no alphabetical order."""

    params: dict
    heat: jax.Array


class Warm(SGD):
    def init(self, params):
        return Mine(params, jnp.zeros(()))

    def params(self, state):
        return state.params

    def velocity(self, t, state, gradient):
        return Mine(jax.tree.map(jnp.negative, gradient), jnp.ones(()))


@pytest.mark.slow
def test_a_class_of_ones_own(tmp_path):
    """It is in no file: arrays by name, until the equation is given. It goes on all the same."""
    half = run_of(Warm(0.05), solve)
    half.save(tmp_path / "run.nc")
    again = Trajectory.load(tmp_path / "run.nc", like=W0)
    assert list(again.states) == ["params['a']", "params['b']", "heat"]
    assert np.array_equal(again.states["heat"], half.states.heat)
    with pytest.raises(ValueError, match="final_state` is not known .* a class of its own: give `equation`"):
        again.final_state  # noqa: B018
    assert_same(half, Trajectory.load(tmp_path / "run.nc", like=W0, equation=Warm(0.05)))
    rest = [solve(Warm(0.05), OBJECTIVE, start=start, steps=1) for start in (half, again)]
    assert_same(*rest, ("final", "final_state"))


def test_a_second_time(tmp_path):
    """What goes on by name keeps its names; mutant: names in the order of the run, leaves in that of a dict."""
    half = run_of(Warm(0.05), solve)
    half.save(tmp_path / "run.nc")
    for _ in range(2):
        again = Trajectory.load(tmp_path / "run.nc", like=W0)
        again.save(tmp_path / "run.nc")
    assert_same(half, Trajectory.load(tmp_path / "run.nc", like=W0, equation=Warm(0.05)))
    progress = again.checkpoint.progress
    assert progress.recorded.by_name["heat"].shape == (1,)


OTHERS = {
    "number": (Adam(0.06, 2), "Argument `equation` must be what was run, Adam.*0.05.*Adam.*0.06.* was given"),
    "rule": (SGD(0.05, 2), "Argument `equation` must be what was run, Adam.* but SGD"),
    "none": (3, "Argument `equation` must be"),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("adam") / "run.nc"
    run_of(Adam(0.05, 2)).save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_another_equation(name, path):
    given, words = OTHERS[name]
    with pytest.raises((TypeError, ValueError), match=words):
        Trajectory.load(path, like=W0, equation=given)


def test_another_state_by_the_same_name(path):
    """Under which an algorithm without the second moments goes."""

    class Unlike(Adam):
        def init(self, params):
            return MomentumState(params, jax.tree.map(jnp.zeros_like, params))

    Unlike.__name__ = "Adam"
    given = Unlike(0.05, 2)
    with pytest.raises(
        ValueError, match="Argument `equation` must be what was run, whose state has params.* is another"
    ):
        Trajectory.load(path, like=W0, equation=given)

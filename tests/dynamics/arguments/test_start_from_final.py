"""What a run gave for all its paths is no start for one model."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve, stationary, train
from dynamics._arguments import handed_out as _handed_out
from equations import SGD, Objective, regularized
from validation import compare, orders

CASES = [
    ("params of all paths", "instance", "previous.final of solve", "test_final_in_every_door[solve]"),
    ("params of all paths", "brother", "previous.final of train, in every door", "test_final_in_every_door[train]"),
    ("params of all paths", "brother", "one path only; a network; its memory", "test_states_and_networks"),
    ("params of all paths", "brother", "a copy, by the loss that saw no such axis", "test_copies"),
    ("params of all paths", "brother", "observables of all paths", "test_observables"),
    ("params of all paths", "brother", "a copied leaf beside one as it was", "test_copied_leaves"),
    ("params of all paths", "brother", "final of solve under vmap", "test_out_of_vmap[solve]"),
    ("params of all paths", "brother", "final of train under jit of vmap", "test_out_of_vmap[train]"),
    ("params of all paths", "brother", "under a derivative", "test_derivatives_tell_nothing"),
    ("params of all paths", "brother", "under jit", "test_in_a_trace"),
    ("params of all paths", "brother", "one path of them, or all under vmap, is right", "test_one_path_is_right"),
    ("params of all paths", "brother", "a mutant that forgets what was handed out", "test_mutant"),
]

KEY, DATA = jax.random.key(0), np.arange(6.0).reshape(2, 3)
EQUATION = SGD(0.1, 1)


def problem():
    """A loss of its own for every test, so that none knows of another's runs; it broadcasts an axis of paths."""
    return Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), DATA), jnp.zeros(3)


def refused(call, *words):
    with pytest.raises(ValueError, match="Argument `params` must be the parameters of one model") as found:
        call()
    for word in ("leading axis `paths`", "leaf[0]", *words):
        assert word in str(found.value)


@pytest.fixture(scope="module")
def runs():
    objective, w = problem()
    options = dict(steps=2, key=KEY, paths=2, keep_states=True)
    return objective, w, {run.__name__: run(EQUATION, objective, w, **options) for run in (solve, train)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["solve", "train"])
def test_final_in_every_door(name, runs):
    objective, _, trajectories = runs
    final = trajectories[name].final
    rates = [0.1, 0.05, 0.025]
    for call in (
        lambda: solve(EQUATION, objective, final, steps=2, key=KEY),
        lambda: train(EQUATION, objective, final, steps=2, key=KEY),
        lambda: compare(EQUATION, objective, final, steps=2, key=KEY),
        lambda: orders(EQUATION, objective, final, time=1.0, learning_rates=rates),
        lambda: stationary(EQUATION, objective, final),
        lambda: solve(EQUATION, problem()[0], {"w": final}, steps=2, key=KEY),
    ):
        refused(call, "(2, 3)")


@pytest.mark.slow
def test_states_and_networks(runs):
    objective, w, trajectories = runs
    for states in (trajectories["solve"].states, trajectories["train"].twin_states.params):
        refused(lambda states=states: solve(EQUATION, objective, states, steps=2, key=KEY))
    network = eqx.nn.MLP(3, 1, 2, 1, key=KEY)
    handed = jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, network)
    fit = Objective(lambda network, x: jnp.sum(network(x) ** 2), DATA)
    _handed_out.hand_out(fit, network, eqx.filter(handed, eqx.is_array))  # of one path
    refused(lambda: train(EQUATION, fit, handed, steps=2, key=KEY), "layers[0].weight")


@pytest.mark.slow
def test_copies(runs):
    objective, w, trajectories = runs
    final = trajectories["solve"].final
    for copy in (np.asarray(final), jnp.array(final), 2 * final, jnp.asarray(np.asarray(final), jnp.float32)):
        refused(lambda copy=copy: solve(EQUATION, objective, copy, steps=2, key=KEY), "same loss", "[(3,)]", "[(2, 3)]")
    penalized = regularized(objective, lambda w: jnp.sum(w**2))
    refused(lambda: train(EQUATION, penalized, np.asarray(final), steps=2, key=KEY), "same loss")


def test_observables(runs):
    _, w, _ = runs
    for run in (solve, train):
        observed = run(EQUATION, problem()[0], w, steps=2, key=KEY, observe={"w": lambda w: w}).observables["w"]
        refused(lambda observed=observed: solve(EQUATION, problem()[0], observed, steps=2, key=KEY), "(1, 3, 3)")
        refused(lambda observed=observed: train(EQUATION, problem()[0], observed, steps=2, key=KEY))
        train(EQUATION, problem()[0], observed[0, -1], steps=2, key=KEY)


def test_copied_leaves():
    """Any of the leaves, and no other shape than with the axis of the paths; a check of the first leaf alone fails."""
    objective = Objective(lambda p, x: jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 2) * jnp.sum(x), DATA)
    one = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))}
    _handed_out.hand_out(objective, one, jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), one))

    def of(a, b):
        return {"a": jnp.zeros(a), "b": jnp.zeros(b)}

    for params in (of((4, 3), (2, 2)), of(3, (4, 2, 2)), of((4, 3), (4, 2, 2))):
        refused(lambda params=params: _handed_out.check_axis(objective, params), "same loss", "4 paths")
    for params in (one, of((4, 3), (5, 2, 2)), of((4, 3), (2, 3)), {"a": jnp.zeros((4, 3))}):
        _handed_out.check_axis(objective, params)


@pytest.mark.parametrize(
    ("run", "around"), [(train, lambda f: jax.jit(jax.vmap(f))), (solve, jax.vmap)], ids=["train", "solve"]
)
def test_out_of_vmap(run, around):
    """With the axis of `vmap` and with that of the paths behind it; one of them is a start."""
    objective, w = problem()
    finals = around(lambda key: run(EQUATION, objective, w, steps=2, key=key).final)(jax.random.split(KEY, 4))
    assert finals.shape == (4, 1, 3)
    for params in (finals, finals[:, 0], np.asarray(finals)):
        refused(lambda params=params: _handed_out.check_axis(objective, params), "same loss", "4")
    _handed_out.check_axis(objective, finals[0, 0])
    refused(lambda: run(EQUATION, objective, finals, steps=2, key=KEY), "4 x 1 paths")
    assert len(_handed_out._seen[objective.loss]) == 2


def test_derivatives_tell_nothing():
    objective, w = problem()
    gradient = jax.grad(lambda w: jnp.sum(train(SGD(0.1), objective, w, steps=2).final))(w)
    np.testing.assert_allclose(gradient, 0.81, rtol=1e-12)
    assert objective.loss not in _handed_out._seen


def test_in_a_trace(runs):
    objective, w, _ = runs

    def twice(key):
        first = train(EQUATION, problem()[0], w, steps=2, key=key, paths=2)
        return train(EQUATION, problem()[0], first.final, steps=2, key=key).final

    refused(lambda: jax.eval_shape(twice, KEY))


def test_one_path_is_right(runs):
    objective, w, trajectories = runs
    final = trajectories["train"].final

    def onward(start):
        return train(EQUATION, objective, start, steps=2, key=KEY).final

    every = jax.jit(jax.vmap(onward))(final)
    np.testing.assert_allclose(every[1], onward(final[1]), rtol=1e-12)
    _handed_out.check_axis(objective, jnp.zeros((3, 3)))  # another number than that of the paths


def test_mutant(runs, monkeypatch):
    objective, w, trajectories = runs
    final = trajectories["solve"].final
    refused(lambda: _handed_out.check_one_model(final))
    monkeypatch.setattr(_handed_out, "_leaves", {})
    _handed_out.check_one_model(final)
    refused(lambda: _handed_out.check_axis(objective, final))
    monkeypatch.setattr(_handed_out, "_seen", {})
    _handed_out.check_axis(objective, final)

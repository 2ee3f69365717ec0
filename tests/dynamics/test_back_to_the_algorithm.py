"""From a run of an equation its algorithm goes on, with the memory that the equation's state is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some
from registry import EQUATIONS

from dynamics import Trajectory, minibatches, solve, train
from equations import (
    SGD,
    Adam,
    Momentum,
    Objective,
    OptimisticGradient,
    RMSProp,
    TwinState,
    averaged,
    from_optax,
    modified,
    scheduled,
)
from equations.internal import state_from, twin_from

CASES = [
    ("memory of an algorithm", "instance", "momentum", "test_steps_are_those_of_optax[momentum]"),
    ("memory of an algorithm", "instance", "Adam", "test_steps_are_those_of_optax[adam]"),
    ("memory of an algorithm", "brother", "a schedule around it", "test_steps_are_those_of_optax[scheduled]"),
    ("memory of an algorithm", "brother", "the order of an epoch", "test_steps_are_those_of_optax[shuffled]"),
    ("memory of an algorithm", "brother", "an average", "test_steps_are_those_of_optax[averaged]"),
    ("memory of an algorithm", "brother", "what Optax has otherwise", "test_steps_are_those_of_optax[centered]"),
    ("memory of an algorithm", "brother", "a flag of the first step", "test_steps_are_those_of_optax[optimistic]"),
    ("memory of an algorithm", "brother", "Optax's own", "test_steps_are_those_of_optax[optax]"),
    ("memory of an algorithm", "brother", "all in the registry", "test_there_and_back[adam]"),
    ("what is not known", "instance", "a memory that is gone", "test_what_is_not_known[adiabatic]"),
    ("what is not known", "brother", "a count that nobody tells", "test_what_is_not_known[accumulated]"),
    ("what is not known", "brother", "a state that hides a part", "test_what_is_not_known[hidden]"),
    ("what is not known", "brother", "the memory of another rule", "test_another_rule"),
]
W0 = {"p": jnp.array([1.0, 2.0]), "q": jnp.array([3.0, 4.0])}
DATA = jnp.array([[1.0, 0.5], [-1.0, 0.5], [0.5, -1.0], [-0.5, 0.0], [0.3, 0.3], [0.1, -0.2]])
OBJECTIVE = Objective(lambda w, x: jnp.sum((w["p"] - x) ** 2 + 0.5 * (w["q"] - x) ** 2), DATA)
KEY = jax.random.key(0)


def halved(k):
    return 1 / (1 + k)


RULES = {
    "momentum": Momentum(0.05, 2),
    "adam": Adam(0.05, 2),
    "scheduled": scheduled(Adam(0.05, 2), halved),
    "shuffled": SGD(0.05, 2, "shuffled"),
    "averaged": averaged(Momentum(0.05, 2), decay="polyak"),
    "centered": RMSProp(0.05, 2, initial_scale=1.0, centered=True),
    "optimistic": OptimisticGradient(0.05, 2),
    "optax": from_optax(optax.adamw, 0.05, 2),
}


def by_hand(rule, path, params, memory, steps):
    """Optax's steps on the batches that a run from the start would take."""
    batches = minibatches(rule, OBJECTIVE, steps=steps[-1] + 1, key=KEY, path=path)
    for step in steps:
        gradient = OBJECTIVE.take(batches[step]).gradient(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = rule.twin().update(gradient, memory, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.slow
@pytest.mark.parametrize("name", some(RULES, ["momentum", "adam"]))
@pytest.mark.filterwarnings("ignore:The noise of a solver's step")
def test_steps_are_those_of_optax(name, tmp_path):
    """In memory and from disk, within an epoch too; mutant: an optimizer whose count begins anew."""
    rule = RULES[name]
    half = solve(rule, OBJECTIVE, W0, steps=2, key=KEY, paths=2)
    half.save(tmp_path / "half.nc")
    starts = half, Trajectory.load(tmp_path / "half.nc", like=W0)
    key = KEY if name == "shuffled" else None  # an equation that draws nothing
    ends = [train(rule, OBJECTIVE, start=start, steps=2, key=key, keep_states=True) for start in starts]
    assert jax.tree.all(jax.tree.map(np.array_equal, ends[0].final, ends[1].final))
    begins = jax.tree.map(lambda leaf: leaf[:, 0], ends[0].states)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), begins, half.final_state)
    twins = twin_from(rule, half.final_state, 2)
    for path in range(2):
        twin = jax.tree.map(lambda leaf, path=path: leaf[path], twins)
        wanted = by_hand(rule, path, twin.params, twin.memory, (2, 3))
        for part in W0:
            np.testing.assert_allclose(ends[0].final[part][path], wanted[part], rtol=1e-10)
    if name == "adam":
        anew = (twin.memory[0]._replace(count=jnp.zeros((), jnp.int32)), *twin.memory[1:])
        assert np.max(np.abs(by_hand(rule, 1, twin.params, anew, (2, 3))["p"] - wanted["p"])) > 1e-3


def remembering(rule, seed=0):
    """Some memory of an algorithm after seven steps, for two paths."""
    with jax.numpy_dtype_promotion("standard"):
        empty = jax.tree.map(jnp.asarray, rule.twin().init(W0))
    leaves, treedef = jax.tree.flatten(empty)
    keys = jax.random.split(jax.random.key(seed), max(len(leaves), 1))

    def some_number(leaf, key):
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return jnp.full((2, *leaf.shape), 7, leaf.dtype)
        drawn = 0.1 * jax.random.uniform(key, (2, *leaf.shape), leaf.dtype)
        return drawn if leaf.shape else jnp.zeros(2, leaf.dtype)

    drawn = [some_number(*pair) for pair in zip(leaves, keys, strict=False)]
    return jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), W0), jax.tree.unflatten(treedef, drawn)


@pytest.mark.parametrize("name", some(EQUATIONS, ["adam", "rmsprop_centered", "polyak_averaged"]))
def test_there_and_back(name):
    rule = EQUATIONS[name].equation
    params, memory = remembering(rule)
    states = jax.vmap(lambda params, memory: state_from(rule, TwinState(params, memory)))(params, memory)
    again = twin_from(rule, states, 7)
    assert jax.tree.structure(again.memory) == jax.tree.structure(memory)
    for ours, theirs in zip(
        jax.tree.leaves((again.params, again.memory)), jax.tree.leaves((params, memory)), strict=True
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


class Hidden(Adam):
    """Whose state knows of its second moments no more than their size."""

    def remembered(self, params, memory):
        state = super().remembered(params, memory)
        return state.__class__(state.params, state.mu, jax.tree.map(jnp.abs, state.nu))


class Accumulated(SGD):
    def twin(self):
        return optax.MultiSteps(optax.sgd(self.learning_rate), 2).gradient_transformation()


UNKNOWN = {
    "adiabatic": modified(Momentum(0.05, 2), memory="adiabatic"),
    "accumulated": Accumulated(0.05, 2),
    "hidden": Hidden(0.05, 2),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known(name):
    rule = UNKNOWN[name]
    state = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), rule.init(W0))
    if name == "hidden":  # which no algorithm gives
        state = state.__class__(state.params, state.mu, jax.tree.map(lambda leaf: leaf - 1.0, state.nu))
    assert twin_from(rule, state, 3) is None


@pytest.mark.slow
def test_another_rule():
    half = solve(Momentum(0.05, 2), OBJECTIVE, W0, steps=1, key=KEY)
    with pytest.raises(ValueError, match="Argument `start` must be .* an equation, Momentum, .* an algorithm, Adam"):
        train(Adam(0.05, 2), OBJECTIVE, start=half, steps=1)

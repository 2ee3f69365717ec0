"""Leaves that nothing moves, and what sees them nevertheless."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some
from moving import MOVING

from dynamics import solve, train
from dynamics._arguments.frozen import check_frozen
from equations import SGD, Objective, from_optax

NET = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(1))
KEY = jax.random.key(0)


def squared(net, example):
    return jnp.sum((net(example) - 1.0) ** 2)


OBJECTIVE = Objective(squared, jnp.linspace(-1, 1, 12).reshape(6, 2))


def first(net):
    return net.layers[0]


NOTHING = jax.tree.map(lambda leaf: False, NET)
MASK = eqx.tree_at(first, NOTHING, replace_fn=lambda node: jax.tree.map(lambda leaf: True, node))


def arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


@pytest.mark.slow
@pytest.mark.parametrize("run", [train, pytest.param(solve, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", some(MOVING, ["underdamped", "adamw", "optax"]))
def test_stays(name, run):
    """On both sides and under every rule, the same for all paths; the rest is trained, and observables see the whole."""
    ends = run(MOVING[name], OBJECTIVE, NET, steps=3, key=KEY, paths=2, frozen=first, keep_states=True,
               observe={"bias": lambda net: net.layers[0].bias, "value": OBJECTIVE.value})  # fmt: skip
    for before, after in zip(arrays(first(NET)), arrays(first(ends.final)), strict=True):
        np.testing.assert_array_equal(after, np.stack([before, before]))
    assert all(np.all(a != b) for a, b in zip(arrays(NET.layers[1]), arrays(ends.final.layers[1]), strict=True))
    np.testing.assert_array_equal(ends.observables["bias"], np.broadcast_to(NET.layers[0].bias, (2, 4, 3)))
    trained = sum(leaf.size for leaf in arrays(NET.layers[1]))
    sizes = {leaf.size for leaf in jax.tree.leaves(jax.tree.map(lambda leaf: leaf[0, 0], ends.states))}
    assert max(sizes) < trained + 1  # no state holds what stays


@pytest.mark.slow
def test_as_if_it_were_a_constant():
    """The run is that of a loss that closes over what stays."""
    outer, inner = eqx.partition(NET, MASK)
    closed = Objective(lambda part, example: squared(eqx.combine(part, outer), example), OBJECTIVE.data)
    expected = train(SGD(0.1, 2), closed, inner, steps=4, key=KEY).final
    found = train(SGD(0.1, 2), OBJECTIVE, NET, steps=4, key=KEY, frozen=first).final
    for a, b in zip(arrays(expected.layers[1]), arrays(found.layers[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_tree_of_bools():
    params = {"a": jnp.ones(2), "b": {"c": jnp.ones(3), "d": jnp.ones(())}}
    objective = Objective(lambda w, x: x * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(w)), jnp.ones(4))
    found = train(SGD(0.1), objective, params, steps=2, frozen={"a": False, "b": True}).final
    assert np.all(found["a"] < 1) and np.all(found["b"]["c"] == 1) and np.all(found["b"]["d"] == 1)


BRANCHES = {"a": jnp.ones(2), "b": {"c": jnp.ones(3), "d": jnp.ones(())}}
MEANT = {
    "numpy": {"a": np.bool_(False), "b": np.bool_(True)},
    "arrays": {"a": np.array(False), "b": {"c": jnp.array(True), "d": True}},
    "filter": lambda leaf: leaf.shape in ((3,), ()),
    "filter of nodes": lambda leaf: not isinstance(leaf, dict) and leaf.shape in ((3,), ()),
    "nodes": lambda w: w["b"],
    "several": lambda w: (w["b"]["c"], w["b"]["d"]),
}


@pytest.mark.parametrize("name", MEANT)
def test_other_ways_to_say_it(name):
    mask = check_frozen(MEANT[name], BRANCHES)
    assert mask == {"a": False, "b": {"c": True, "d": True}} and all(type(x) is bool for x in jax.tree.leaves(mask))


def test_a_filter_of_equinox():
    """That of all arrays leaves nothing to move, and says so."""
    with pytest.raises(ValueError, match="but it keeps all of them"):
        check_frozen(eqx.is_array, NET)
    with pytest.raises(ValueError, match="but it fails: TypeError: as a filter it must say True or False"):
        check_frozen(lambda x: 1.0 if eqx.is_array(x) else False, NET)


@pytest.mark.slow
def test_goes_on():
    half = train(from_optax(optax.adam, 0.1, 2), OBJECTIVE, NET, steps=2, key=KEY, frozen=first)
    whole = train(from_optax(optax.adam, 0.1, 2), OBJECTIVE, NET, steps=4, key=KEY, frozen=first)
    rest = train(from_optax(optax.adam, 0.1, 2), OBJECTIVE, start=half, steps=2)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(rest.final), arrays(whole.final), strict=True))


REFUSED = [
    (lambda net: net.missing, "Argument `frozen` must give what is to stay .*AttributeError"),
    (lambda net: net, "keeps all of them"),
    (lambda net: net.activation, "keeps none of them"),
    (3.0, "Argument `frozen` must be a function of the parameters, a tree of bools"),
    (jnp.ones(2, bool), "Argument `frozen` must be a function of the parameters, a tree of bools"),
    ([True, False], "Argument `frozen` must be a tree of bools that branches as `params` do"),
]


@pytest.mark.parametrize("frozen, words", REFUSED, ids=[words for _, words in REFUSED])
def test_refused(frozen, words):
    with pytest.raises((TypeError, ValueError), match=words):
        train(SGD(0.1), OBJECTIVE, NET, steps=2, frozen=frozen)


def test_a_stopped_gradient_is_rejected():
    """The mutant: leaves that have no gradient, but noise and decay."""

    def stopped(net, example):
        return squared(eqx.tree_at(first, net, replace_fn=lambda node: jax.tree.map(still, node)), example)

    def still(leaf):
        return jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf

    with pytest.warns(UserWarning, match="moved by decay or a penalty alone.*`frozen` of a run"):
        ends = train(MOVING["adamw"], Objective(stopped, OBJECTIVE.data), NET, steps=3)
    with pytest.raises(AssertionError):
        for before, after in zip(arrays(first(NET)), arrays(first(ends.final)), strict=True):
            np.testing.assert_array_equal(after, before[None])

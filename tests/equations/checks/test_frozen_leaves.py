"""Leaves that a loss leaves alone, and that noise, decay or a penalty is about to move."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moving import MOVING

from dynamics import solve, train
from equations import (
    SGD,
    AbstractDynamics,
    AdamW,
    Factors,
    Langevin,
    Momentum,
    Objective,
    Splitting,
    Spred,
    regularized,
)
from equations._checks.frozen import frozen_leaves, warn_frozen

CASES = [
    ("noise on frozen leaves", "instance", "a buffer behind stop_gradient under Langevin", "test_warns[langevin]"),
    ("noise on frozen leaves", "instance", "Isotropic", "test_warns[isotropic]"),
    ("noise on frozen leaves", "instance", "StudentT", "test_warns[student]"),
    ("noise on frozen leaves", "brother", "through the momentum of an underdamped bath", "test_warns[underdamped]"),
    ("noise on frozen leaves", "brother", "weight decay of AdamW", "test_warns[adamw]"),
    ("noise on frozen leaves", "brother", "a decay around momentum", "test_warns[decayed]"),
    ("noise on frozen leaves", "brother", "a decay of Optax", "test_warns[optax]"),
    ("noise on frozen leaves", "brother", "a penalty", "test_penalties"),
    ("noise on frozen leaves", "brother", "a dynamics of one's own", "test_a_dynamics_of_ones_own"),
    ("noise on frozen leaves", "instance", "solve and train", "test_both_sides"),
    ("noise on frozen leaves", "brother", "how a loss may leave a leaf alone", "test_what_counts_as_frozen"),
    ("leaves that stay or have a gradient", "brother", "plain steps, memory, no heat, no force", "test_silent"),
    ("leaves that stay or have a gradient", "brother", "units that are dead by value", "test_dead_units"),
]  # fmt: skip

stop = jax.lax.stop_gradient
DATA = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)))
PARAMS = {"w": jnp.ones(3), "buffer": jnp.array([1.0, -2.0])}


def loss(params, example):
    return (params["w"] @ example - jnp.sum(stop(params["buffer"]))) ** 2


OBJECTIVE = Objective(loss, DATA)
MESSAGE = r"`params\['buffer'\]` must have a gradient in the loss.*close over"


@pytest.mark.parametrize("name", MOVING)
def test_warns(name):
    cause = "decay" if name in ("adamw", "decayed", "optax") else "noise"
    with pytest.warns(UserWarning, match=f"{MESSAGE[:30]}.*moved by {cause}"):
        warn_frozen(MOVING[name], OBJECTIVE, PARAMS)


@pytest.mark.slow
@pytest.mark.parametrize("run", [solve, train])
def test_both_sides(run):
    with pytest.warns(UserWarning, match=MESSAGE) as caught:
        moved = run(MOVING["langevin"], OBJECTIVE, PARAMS, steps=2, key=jax.random.key(0)).final
    assert caught[0].filename == __file__
    assert jnp.all(moved["buffer"] != PARAMS["buffer"])


def test_penalties():
    square = lambda params: 0.1 * jnp.sum(params["buffer"] ** 2)  # noqa: E731
    with pytest.warns(UserWarning, match=f"{MESSAGE[:30]}.*a penalty"):
        warn_frozen(SGD(0.05, 2), regularized(OBJECTIVE, square), PARAMS)
    with pytest.warns(UserWarning, match=r"`params.u\['buffer'\]`, `params.w\['buffer'\]`"):
        warn_frozen(SGD(0.05), Spred(OBJECTIVE, 0.1), Factors.of(PARAMS))


class Diffusing(AbstractDynamics):
    learning_rate: float = 0.1

    def drift(self, t, state, signal):
        return jax.tree.map(jnp.negative, signal.gradient(state))

    def splitting(self):
        return Kicks(self)


class Kicks(Splitting):
    def noise(self, state, signal, kicks_per_step):
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)

    def kick(self, t, state, signal, noise, dt):
        return jax.tree.map(lambda z: jnp.sqrt(dt) * z, noise)


def test_a_dynamics_of_ones_own():
    with pytest.warns(UserWarning, match=MESSAGE):
        warn_frozen(Diffusing(), OBJECTIVE, PARAMS)


def scanned(params, example):
    def step(carry, _):
        return carry * params["a"] + example[0], carry

    carry = jax.lax.scan(step, params["v"], jnp.arange(3))[0]
    return carry + jax.lax.cond(carry > 0, lambda b: b, lambda b: 2 * b, stop(params["b"]))


def test_what_counts_as_frozen():
    one = jnp.ones(())
    scalars = {"a": one, "v": one, "b": one}
    found = {
        "`params['b']`": scanned,
        "`params['v']`": lambda p, e: (p["a"] * e[0] + p["b"]) ** 2,  # not used
        "`params['a']`": jax.checkpoint(lambda p, e: jnp.round(p["a"]) * e[0] + p["b"] * p["v"]),
    }
    for name, function in found.items():
        assert frozen_leaves(Objective(function, DATA), scalars) == (name,)


def test_silent():
    def free(params, example):
        return 0.0 * jnp.sum(params["w"]) * example[0]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for equation in (SGD(0.05, 2), Momentum(0.05, 2), Langevin(0.05, 2, temperature=0.0)):
            warn_frozen(equation, OBJECTIVE, PARAMS)
        warn_frozen(AdamW(0.05, weight_decay=0.0), OBJECTIVE, PARAMS)
        warn_frozen(MOVING["adamw"], OBJECTIVE, PARAMS | {"buffer": jnp.zeros(2)})  # nothing to decay
        warn_frozen(MOVING["langevin"], Objective(free, DATA), PARAMS)  # a particle without a force
        jax.jit(lambda params: warn_frozen(MOVING["langevin"], OBJECTIVE, params))(PARAMS)


@pytest.mark.slow
def test_dead_units():
    model = eqx.nn.MLP(3, "scalar", 4, 1, activation=jax.nn.relu, key=jax.random.key(0))
    dead = eqx.tree_at(lambda m: m.layers[0].bias, model, jnp.full(4, -1e3))
    objective = Objective(lambda net, e: net(e) ** 2, DATA)
    layer = objective.gradient(dead).layers[0]
    assert not jnp.any(layer.weight) and not jnp.any(layer.bias)
    assert frozen_leaves(objective, dead) == ()

"""Parts of leaves that a loss leaves alone by `stop_gradient`, and that noise or decay is about to move."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from moving import MOVING

from dynamics import solve
from equations import (
    SGD,
    AbstractSignal,
    Factors,
    LabelNoise,
    Momentum,
    Objective,
    Oja,
    Spred,
    from_optax,
)
from equations._checks import frozen_parts
from equations._checks.frozen import frozen_entries, frozen_leaves, warn_frozen

CASES = [
    ("noise on parts of leaves", "instance", "rows of an embedding under Langevin", "test_warns[langevin]"),
    ("noise on parts of leaves", "instance", "an underdamped bath", "test_warns[underdamped]"),
    ("noise on parts of leaves", "instance", "Isotropic", "test_warns[isotropic]"),
    ("noise on parts of leaves", "instance", "StudentT", "test_warns[student]"),
    ("noise on parts of leaves", "brother", "weight decay of AdamW", "test_warns[adamw]"),
    ("noise on parts of leaves", "brother", "a decay around momentum", "test_warns[decayed]"),
    ("noise on parts of leaves", "brother", "a decay of Optax", "test_warns[optax]"),
    ("noise on parts of leaves", "brother", "a rule of whole matrices", "test_warns[muon]"),
    ("noise on parts of leaves", "brother", "solve, in single precision", "test_solve"),
    ("noise on parts of leaves", "instance", "the last axis: stop_gradient(w[..., :k])", "test_found[axis]"),
    ("noise on parts of leaves", "instance", "a mask m w + (1 - m) stop(w)", "test_found[mask]"),
    ("noise on parts of leaves", "brother", "a mask that is a stopped leaf itself", "test_found[leaf]"),
    ("noise on parts of leaves", "brother", "within scan, cond and checkpoint", "test_found[inner]"),
    ("noise on parts of leaves", "brother", "a value that targets alone take", "test_found[target]"),
    ("noise on parts of leaves", "brother", "a rule of one's own, by `frozen`", "test_found[own]"),
    ("noise on parts of leaves", "brother", "behind a penalty, in both factors", "test_factors"),
    ("parts with a gradient", "brother", "plain, label and no noise, no decay", "test_silent"),
    ("parts with a gradient", "brother", "rows and pixels without data, dead units, learning rules", "test_passes"),
    ("parts with a gradient", "brother", "a row that one of 600 examples moves", "test_a_rare_example"),
    ("parts with a gradient", "brother", "a look at the gradient alone", "test_zero_alone_is_too_little"),
]

stop = jax.lax.stop_gradient
RNG = np.random.default_rng(0)
DATA = (RNG.normal(size=(8, 3)), np.arange(8) % 4)
W = jnp.asarray(RNG.normal(size=(5, 3)))  # no example uses its last row
MASK = np.arange(15).reshape(5, 3) % 4 > 0
SHARE = jnp.asarray(MASK, float)


def loss(w, e):
    rows = w.at[:2].set(stop(w[:2]))
    return (jnp.tanh(rows[e[1]]) @ e[0] - 1.0) ** 2


OBJECTIVE = Objective(loss, DATA)
RULES = MOVING | {"muon": from_optax(lambda learning_rate: optax.contrib.muon(learning_rate), 0.05)}


def masked(w, e):
    return jnp.sum(jnp.tanh((SHARE * w + (1 - SHARE) * stop(w)) @ e[0])) ** 2


@pytest.mark.parametrize("name", RULES)
def test_warns(name):
    objective, count = (Objective(masked, DATA), 4) if name == "muon" else (OBJECTIVE, 6)
    cause = "decay" if name in ("adamw", "decayed", "optax", "muon") else "noise"
    message = (
        f"^Argument `params`: {count} of the 15 numbers of `params` must have a gradient in the loss.*moved by {cause}"
    )
    with pytest.warns(UserWarning, match=message):
        warn_frozen(RULES[name], objective, W)


def test_solve(key):
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32 if leaf.dtype == float else None), (DATA, W))
    with pytest.warns(UserWarning, match="6 of the 15 numbers") as caught:
        moved = solve(MOVING["langevin"], Objective(loss, single[0]), single[1], steps=2, save_every=2, key=key).final
    assert caught[0].filename == __file__
    assert jnp.all(moved[0] != single[1])


def inner(w, e):
    def step(carry, x):
        part = jax.lax.cond(x > 0, lambda w: stop(w[:, 0]), lambda w: 2 * stop(w[:, 0]), w)
        return carry + jnp.sum(part) * x + jnp.sum(jnp.sin(w[:, 1:])), None

    return jax.checkpoint(lambda w: jax.lax.scan(step, 0.0, e[0])[0])(w) ** 2


class Own(AbstractSignal):
    """A rule that moves the first column, from all of them."""

    data: tuple

    def surrogate(self, active, frozen, example):
        return jnp.sum(frozen[:, 1:]) * jnp.sum(active[:, 0]) * example[0][0]


def own_mask(p, e):
    mask = stop(p["mask"])
    return jnp.sum(jnp.tanh((mask * p["w"] + (1 - mask) * stop(p["w"])) @ e[0])) ** 2


def difference(w, e):
    """Temporal: of three states in a chain, whose last is only ever a target."""
    values = jnp.sum(w, 1)
    place = e[1] % 2
    return (values[place] - 1.0 - 0.9 * stop(values[place + 1])) ** 2


FOUND = {
    "axis": (Objective(lambda w, e: jnp.concatenate([stop(w[..., :2]), w[..., 2:]], -1)[e[1]] @ e[0], DATA),
             np.repeat([[True, True, False]], 5, 0) & (np.arange(5) < 4)[:, None]),
    "mask": (Objective(masked, DATA), ~MASK),
    "inner": (Objective(inner, DATA), np.repeat([[True, False, False]], 5, 0)),
    "target": (Objective(difference, DATA), np.repeat(np.arange(5) == 2, 3).reshape(5, 3)),
    "own": (Own(DATA), np.repeat([[False, True, True]], 5, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", [*FOUND, "leaf"])
def test_found(name):
    if name == "leaf":
        params = {"mask": SHARE, "w": W}
        found = frozen_entries(Objective(own_mask, DATA), params)
        assert found["mask"] is True
        np.testing.assert_array_equal(found["w"], ~MASK)
    else:
        objective, expected = FOUND[name]
        np.testing.assert_array_equal(frozen_entries(objective, W), expected)


def test_factors():
    found = frozen_entries(Spred(Objective(masked, DATA), 0.1), Factors.of(W))
    np.testing.assert_array_equal(found.u, ~MASK)
    np.testing.assert_array_equal(found.w, ~MASK)
    with pytest.warns(UserWarning, match="4 of the 15 numbers of `params.u`, 4 of the 15 numbers of `params.w` must"):
        warn_frozen(SGD(0.05), Spred(Objective(masked, DATA), 0.1), Factors.of(W))


@pytest.mark.slow
def test_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = LabelNoise(0.1, labels=lambda data: data[0])
        for equation in (SGD(0.05, 2), Momentum(0.05, 2), SGD(0.05, noise_model=labels)):
            warn_frozen(equation, OBJECTIVE, W)
        warn_frozen(MOVING["adamw"], OBJECTIVE, W.at[:2].set(0))  # nothing to decay
        jax.jit(lambda params: warn_frozen(MOVING["langevin"], OBJECTIVE, params))(W)
    assert frozen_leaves(OBJECTIVE, W) == ()


def normed(w, e):
    """With `stop_gradient` that takes nothing from any number."""
    return jnp.sum(jax.nn.relu((w[:4] / stop(jnp.linalg.norm(w))) @ e[0] - 0.1)) ** 2


DARK = (DATA[0] * np.array([1, 0, 1]), DATA[1])
PASSING = {
    "norm": (Objective(normed, DATA), W[:4]),
    "pixel": (Objective(normed, DARK), W[:4]),
    "dead": (Objective(lambda w, e: jax.nn.relu(w[0] @ e[0] - stop(w[1, 0]) ** 2) + w[1, 0] ** 2, DATA), W[:1] - 1e-3),
    "row": (Objective(lambda w, e: (w[e[1]] @ e[0] - stop(jnp.tanh(w[e[1]]) @ e[0])) ** 2, DATA), W),
    "through": (Objective(lambda w, e: ((w + stop(jnp.sign(w) - w)) @ e[0])[e[1]] ** 2, DATA), W),
    "oja": (Oja(DATA[0]), W[0]),
    "oja of a dark pixel": (Oja(DARK[0]), W[0]),
    "nothing": (Objective(lambda w, e: stop(jnp.sum(w)) * e[0][0], DATA), W),
}  # fmt: skip


@pytest.mark.slow
def test_passes():
    for name, (objective, params) in PASSING.items():
        params = jnp.concatenate([params, params]) if name == "dead" else params
        assert frozen_entries(objective, params) is None, name


def rare():
    """A row that the sixth example alone has a gradient for, and others only as a target."""
    rows = np.where(np.arange(600) == 5, 1, 0)
    return Objective(lambda w, e: (w[e[1]] @ e[0] - 0.5 * stop(w[1] @ e[0])) ** 2, (RNG.normal(size=(600, 3)), rows))


@pytest.mark.slow
def test_a_rare_example():
    assert frozen_entries(rare(), W[:2]) is None
    some = frozen_parts.stopped_entries(rare().take(jnp.arange(6, 600)), W[:2], False)
    np.testing.assert_array_equal(some, np.repeat([[False], [True]], 3, 1))


def test_zero_alone_is_too_little(monkeypatch):
    """A look that asks for a gradient of zero alone takes a row without data for one that is frozen."""

    def everywhere(signal, points, static):
        return jax.tree.map(lambda leaf: jnp.ones(leaf.shape[1:], bool), points[0])

    monkeypatch.setattr(frozen_parts, "_reached", everywhere)
    assert np.any(frozen_entries(OBJECTIVE, W)[4])

"""Signals of a user's own around another, labels that are the whole of the data, and rules that solve with the gradient."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics._arguments import handed_out as _handed_out
from equations import SGD, AbstractSignal, LabelNoise, Langevin, Objective, regularized, scheduled
from equations._checks.frozen import frozen_leaves, warn_frozen
from equations._jaxpr.structure import is_affine

CASES = [
    ("a field named `signal`", "instance", "a user's signal around another that uses a leaf", "test_frozen"),
    ("a field named `signal`", "brother", "parameters of another form, in the records of runs", "test_handed_out"),
    ("a field named `signal`", "brother", "a penalty of ours around that of a user", "test_around"),
    ("labels in one array", "instance", "LabelNoise by default", "test_labels[default]"),
    ("labels in one array", "brother", "a column of it", "test_labels[column]"),
    ("labels in one array", "brother", "all of it", "test_all_labels"),
    ("schedules that begin at zero", "instance", "heat from the second step on", "test_late_heat[early]"),
    ("schedules that begin at zero", "brother", "heat from the hundredth step on", "test_late_heat[late]"),
    ("schedules that begin at zero", "brother", "no heat at all", "test_no_heat"),
    ("affine rules by other primitives", "instance", "a linear solve with the gradient in its matrix", "test_solve"),
    ("affine rules by other primitives", "brother", "by default the right-hand side is linear", "test_solve"),
    ("affine rules by other primitives", "brother", "both at once", "test_solve"),
]  # fmt: skip

DATA = np.random.default_rng(0).normal(size=(6, 2))
PARAMS = {"a": jnp.ones(2), "b": jnp.ones(2)}
INNER = Objective(lambda p, e: jnp.sum((p["a"] - e) ** 2), DATA)


class Around(AbstractSignal):
    """Pulls the leaf that the signal inside leaves alone; parameters may have another form than those inside."""

    signal: AbstractSignal

    @property
    def data(self):
        return self.signal.data

    def with_data(self, data):
        return Around(self.signal.with_data(data))

    def surrogate(self, active, frozen, example):
        return self.signal.surrogate({"a": active["a"] + active["b"]}, frozen, example)


def test_frozen():
    assert frozen_leaves(INNER, PARAMS) == ("`params['b']`",)
    assert frozen_leaves(Around(INNER), PARAMS) == ()


def test_around():
    assert frozen_leaves(regularized(Around(INNER), lambda p: jnp.sum(p["b"] ** 2)), PARAMS) == ()


def test_handed_out():
    _handed_out.hand_out(INNER, {"a": jnp.ones(2)}, {"a": jnp.ones((3, 2))})
    with pytest.raises(ValueError, match="the same loss"):
        _handed_out.check_axis(regularized(INNER, lambda p: 0.0), {"a": jnp.ones((3, 2))})
    _handed_out.check_axis(Around(INNER), {"a": jnp.ones((3, 2))})


LABELS = {"default": LabelNoise(0.1), "column": LabelNoise(0.1, labels=lambda data: data[:, 1])}


@pytest.mark.parametrize("name", LABELS)
def test_labels(name):
    objective = Objective(lambda w, e: jnp.sum((w - e) ** 2), DATA)
    with pytest.raises(
        ValueError, match="as one of its arrays, but `data` is one: give the labels as an array of their own"
    ):
        SGD(0.1, 2, noise_model=LABELS[name]).check(jnp.ones(2), objective)


def test_all_labels():
    objective = Objective(lambda w, e: jnp.sum((w - e) ** 2), DATA)
    SGD(0.1, 2, noise_model=LabelNoise(0.1, labels=lambda data: data)).check(jnp.ones(2), objective)


def hot(first):
    return scheduled(Langevin(0.1, temperature=1.0), lambda step: jnp.where(step < first, 0.0, 1.0))


@pytest.mark.parametrize("first", [2, 100], ids=["early", "late"])
def test_late_heat(first):
    with pytest.warns(UserWarning, match=r"`params\['b'\]` must have a gradient.*moved by noise"):
        warn_frozen(hot(first), INNER, PARAMS)


def test_no_heat():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_frozen(scheduled(Langevin(0.1, temperature=0.0), lambda step: step / 10), INNER, PARAMS)


def test_solve():
    matrix, b, g = jnp.diag(jnp.array([1.0, 2.0])), jnp.ones(2), jnp.array([0.5, 3.0])

    def divided(factor, right):
        solve = lambda _, r: r / (factor * jnp.diag(matrix))  # noqa: E731
        return jax.lax.custom_linear_solve(lambda x: factor * (matrix @ x), right, solve)

    assert is_affine(lambda g: divided(b, g), g)
    assert not is_affine(lambda g: divided(g, b), g)
    assert not is_affine(lambda g: divided(g, g), g)

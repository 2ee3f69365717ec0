"""A user's attributes go by any name: none is looked for on his equations, but what a signal calls its value is."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import solve, stationary, train
from equations import (
    SGD,
    AbstractDynamics,
    AbstractEquation,
    AbstractSignal,
    Isotropic,
    Momentum,
    Objective,
    modified,
    scheduled,
)
from equations._checks import overrides
from equations._checks.overrides import check_class

CASES = [
    ("names taken for ours", "instance", "a field of such a name on an own equation", "test_fields"),
    ("names taken for ours", "brother", "a method, a property or a class attribute", "test_attributes"),
    ("names taken for ours", "brother", "a delay of a dynamics that is no circuit", "test_a_delay_of_ones_own"),
    ("names taken for ours", "brother", "a field where every dynamics has a method", "test_a_field_for_a_method"),
    ("names taken for ours", "brother", "a field where it once had one: noise", "test_a_field_for_what_was_a_method"),
    ("names taken for ours", "brother", "a number `value` on a signal", "test_signals"),
    ("names taken for ours", "brother", "all at once inside of a schedule, in every door", "test_in_every_door"),
    ("names taken for ours", "brother", "decays that are no names", "test_decays"),
    ("names taken for ours", "brother", "mutants that look for a name", "test_mutant"),
]

FIELDS = (
    *("increment", "modified", "resumed", "remainder", "order", "fluctuations", "decays", "equation"),
    *("learning_rate_at", "delay", "inner", "leading", "source", "continued", "threshold"),
)
OBJECTIVE, W = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.zeros((2, 1))), jnp.ones(1)
HOT = Isotropic(0.1)


def with_fields(base, *names):
    annotations = dict.fromkeys(names, float)
    return type("Mine", (base,), {"__annotations__": annotations} | dict.fromkeys(names, 0.1))


def refused(call, name, argument="equation"):
    with pytest.raises(TypeError, match=f"Argument `{argument}` must not have .* `{name}`.* Mine has one"):
        call()


def finals(equation):
    runs = (solve(equation, OBJECTIVE, W, steps=2), train(equation, OBJECTIVE, W, steps=2))
    return [float(run.final[0, 0]) for run in runs]


EXACT = [np.exp(-0.2), 0.81]


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name):
    mine = with_fields(SGD, name)(0.1)
    assert getattr(mine, name) == 0.1
    check_class(mine, "field")
    if name in ("increment", "resumed", "equation", "delay"):
        np.testing.assert_allclose(finals(mine), EXACT, rtol=1e-4)


@pytest.mark.parametrize("name", ["increment", "modified", "remainder", "order", "equation"])
@pytest.mark.parametrize(
    "value", [lambda self, t: t, property(lambda self: 1), "words"], ids=["method", "property", "text"]
)
def test_attributes(name, value):
    mine = type("Mine", (SGD,), {name: value})(0.1)
    for reads in ("equation", "field", "twin"):
        check_class(mine, reads)
    state = modified(mine).init(W)
    drifts = [modified(equation).drift(jnp.zeros(()), state, OBJECTIVE).params for equation in (mine, SGD(0.1))]
    np.testing.assert_array_equal(*drifts)
    np.testing.assert_allclose(drifts[0], -1.05, rtol=1e-12)


def test_a_delay_of_ones_own():
    class Late(AbstractDynamics):
        delay: float = 0.5

        def drift(self, t, state, signal):
            return -self.delay * state

    np.testing.assert_allclose(solve(Late(), None, W, steps=2, dt=0.1).final, np.exp(-0.1), rtol=1e-4)


@pytest.mark.parametrize("name", ["held", "init", "check", "splitting", "series"])
def test_a_field_for_a_method(name):
    class Mine(AbstractDynamics):
        __annotations__ = {name: float}  # noqa: RUF012

        def drift(self, t, state, signal):
            return -state

    refused(lambda: solve(Mine(0.1), None, W, steps=1, dt=0.1), name)


def test_a_field_for_what_was_a_method():
    class Mine(AbstractDynamics):
        noise: float
        flow: float
        kick: float
        start: float

        def drift(self, t, state, signal):
            return -self.noise * self.flow * self.kick * self.start * state

    np.testing.assert_allclose(solve(Mine(1.0, 0.5, 2.0, 1.0), None, W, steps=2, dt=0.1).final, np.exp(-0.2), rtol=1e-4)


def test_signals():
    class Mine(AbstractSignal):
        data: jax.Array
        value: float = 1.0

        def surrogate(self, active, frozen, example):
            return jnp.sum((active - example) ** 2)

    class Known(AbstractSignal):
        data: jax.Array

        def surrogate(self, active, frozen, example):
            return jnp.sum((active - example) ** 2)

        def value(self, params):
            return jnp.mean(params)

    refused(lambda: solve(SGD(0.1), Mine(jnp.zeros((2, 1))), W, steps=1), "value", "objective")
    check_class(Known(jnp.zeros((2, 1))))


@pytest.mark.slow
def test_in_every_door():
    """What they say is what they say of an equation without such fields."""
    mine, plain = (
        scheduled(kind(0.1), optax.constant_schedule(0.5)) for kind in (with_fields(Momentum, *FIELDS), Momentum)
    )
    np.testing.assert_array_equal(finals(mine), finals(plain))
    doors = {
        "stationary": lambda e: stationary(dataclasses.replace(e, noise_model=HOT), OBJECTIVE, W).jacobian,
        "modified": lambda e: modified(e).scaling_limit().claimed_order("mean"),
    }
    for name, door in doors.items():
        np.testing.assert_array_equal(door(mine), door(plain), err_msg=name)


@pytest.mark.parametrize("value", [(1, 2), ("momentum", 0.9), "momentum"], ids=str)
def test_decays(value):
    """Which rates move is what the scaling limit says."""

    class Mine(AbstractEquation):
        momentum: float = 0.9
        decays = value

        def twin(self):
            return optax.sgd(self.learning_rate)

        def velocity(self, t, state, gradient):
            return -gradient

    scaled = Mine(0.1).scaling_limit().rescaled(0.5)
    assert scaled.momentum == 0.9 and float(scaled.learning_rate) == 0.05


def test_mutant(monkeypatch):
    """A check that looks for a name refuses it, and a check of signals that knows none lets it pass."""
    mine = with_fields(SGD, "order")(0.1)
    assert isinstance(mine, eqx.Module) and dataclasses.replace(mine, order=0.2).order == 0.2
    told = dataclasses.replace(overrides.told_by(SGD), own_method=("order", "a method"))
    monkeypatch.setattr(overrides, "told_by", lambda kind: told)
    refused(lambda: check_class(with_fields(SGD, "order")(0.1)), "order")
    monkeypatch.undo()
    signal = type("Mine", (Objective,), {"__annotations__": {"value": float}, "value": 1.0})
    monkeypatch.setattr(overrides, "_name", lambda *args: None)
    check_class(signal(OBJECTIVE.loss, OBJECTIVE.data))

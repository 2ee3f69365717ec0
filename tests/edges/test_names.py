"""A user's attribute under a name that is looked for on equations and signals is refused by that name."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import solve, stationary, train
from equations import SGD, AbstractDynamics, AbstractEquation, AbstractSignal, Momentum, Objective, modified, scheduled
from equations._checks.overrides import check_class
from validation import compare, orders

CASES = [
    ("names taken for ours", "instance", "a field of such a name on an own equation", "test_fields"),
    ("names taken for ours", "brother", "a method, a property or a class attribute", "test_attributes"),
    (
        "names taken for ours",
        "brother",
        "a field where every dynamics has a method: noise",
        "test_a_field_for_a_method",
    ),
    ("names taken for ours", "brother", "a number `value` on a signal", "test_signals"),
    ("names taken for ours", "brother", "inside of a schedule, in every door", "test_in_every_door"),
    ("names taken for ours", "brother", "what is documented stays allowed", "test_allowed"),
    ("names taken for ours", "brother", "decays that are no names", "test_decays"),
    ("names taken for ours", "brother", "a mutant of the check that reads fields only", "test_mutant"),
]

FIELDS = (
    *("increment", "modified", "resumed", "remainder", "order"),
    *("fluctuations", "decays", "equation", "learning_rate_at", "delay"),
)
OBJECTIVE, W = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.zeros((2, 1))), jnp.ones(1)
RATES = [0.1, 0.05, 0.025]


def with_field(base, name):
    return type("Mine", (base,), {"__annotations__": {name: float}, name: 0.1})


def refused(call, name, argument="equation"):
    with pytest.raises(TypeError, match=f"Argument `{argument}` must not have .* `{name}`.* Mine has one"):
        call()


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name, unchecked):
    mine = with_field(SGD, name)(0.1)
    for call in (lambda: solve(mine, OBJECTIVE, W, steps=1), lambda: train(mine, OBJECTIVE, W, steps=1)):
        refused(call, name)


@pytest.mark.parametrize("name", ["increment", "modified", "remainder", "order", "equation"])
@pytest.mark.parametrize(
    "value", [lambda self, t: t, property(lambda self: 1), "words"], ids=["method", "property", "text"]
)
def test_attributes(name, value, unchecked):
    mine = type("Mine", (SGD,), {name: value})(0.1)
    refused(lambda: modified(mine), name)
    refused(lambda: compare(mine, OBJECTIVE, W, steps=1), name)


@pytest.mark.parametrize("name", ["noise", "flow", "check", "kick"])
def test_a_field_for_a_method(name, unchecked):
    class Mine(AbstractDynamics):
        __annotations__ = {name: float}  # noqa: RUF012

        def drift(self, t, state, signal):
            return -state

    refused(lambda: solve(Mine(0.1), None, W, steps=1, dt=0.1), name)


def test_signals(unchecked):
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


def test_in_every_door(unchecked):
    mine = scheduled(with_field(Momentum, "order")(0.1), optax.constant_schedule(0.5))
    for call in (
        lambda: solve(mine, OBJECTIVE, W, steps=1),
        lambda: train(mine, OBJECTIVE, W, steps=1),
        lambda: compare(mine, OBJECTIVE, W, steps=1),
        lambda: orders(mine, OBJECTIVE, W, time=1.0, learning_rates=RATES),
        lambda: stationary(mine, OBJECTIVE, W),
        lambda: modified(mine),
    ):
        refused(call, "order")


def test_allowed():
    class Late(AbstractDynamics):
        delay: float = 0.1

        def drift(self, t, state, signal):
            return -state

    class Slowing(AbstractEquation):
        decays = ("momentum",)
        momentum: float = 0.9

        def velocity(self, t, state, gradient):
            return -gradient

        def twin(self):
            return optax.sgd(self.learning_rate)

        def learning_rate_at(self, step):
            return self.learning_rate / (1 + step)

        def resumed(self, params, memory):
            return params

    class Other(Momentum):
        decays = ()

    for equation in (
        Late(),
        Slowing(0.1),
        Other(0.1),
        modified(Slowing(0.1)),
        scheduled(SGD(0.1), lambda step: 1.0 / (1 + step)),
    ):
        check_class(equation, "field")


@pytest.mark.parametrize("value", [(1, 2), ("momentum", 0.9), ["momentum"], "momentum"], ids=str)
def test_decays(value, unchecked):
    """A tuple of names and nothing else."""
    refused(lambda: solve(of_decays(value), OBJECTIVE, W, steps=1), "decays")


def of_decays(value):
    def twin(self):
        return optax.sgd(self.learning_rate)

    def velocity(self, t, state, gradient):
        return -gradient

    return type("Mine", (AbstractEquation,), {"decays": value, "twin": twin, "velocity": velocity})(0.1)


def test_mutant(monkeypatch, unchecked):
    """The check that knows no names lets the field pass."""
    from equations._checks import overrides as _overrides

    check_class(SGD(0.1))
    mine = with_field(SGD, "order")(0.1)
    monkeypatch.setattr(_overrides, "_name", lambda *args: None)
    check_class(mine)
    monkeypatch.undo()
    assert isinstance(mine, eqx.Module)
    refused(lambda: check_class(with_field(SGD, "order")(0.1)), "order")

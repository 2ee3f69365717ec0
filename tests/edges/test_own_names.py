"""A user's attribute in place of a property, a method or a private name of ours is refused, and values that ours could
not have."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from registry import EQUATIONS
from typing_extensions import override

from dynamics import solve, train
from equations import SGD, AbstractDynamics, AbstractEquation, Adam, Isotropic, Momentum, Objective, scheduled
from equations._checks import overrides
from equations._checks.overrides import check_class

CASES = [
    ("fields for properties", "instance", "random: int = 0 runs without noise", "test_fields[random-int-0]"),
    ("fields for properties", "instance", "leapfrog: float = .5", "test_fields[leapfrog-float-0.5]"),
    ("fields for properties", "instance", "gradient_noise: float, without a value", "test_fields_without_a_value"),
    ("fields for properties", "brother", "an attribute of another kind of value", "test_values"),
    ("fields for properties", "brother", "random without any noise", "test_random_without_noise"),
    ("fields for properties", "brother", "an attribute in place of a method", "test_an_attribute_for_a_method"),
    ("fields for properties", "brother", "attributes and properties that act", "test_allowed"),
    ("private names", "instance", "a helper _flow", "test_private_names[_flow-SGD]"),
    ("private names", "brother", "of Adam, of a wrapper's field, of a mixin", "test_private_names_of_others"),
    ("private names", "brother", "an attribute, a property, a field", "test_private_attributes"),
    ("private names", "brother", "of signals and noise models", "test_private_names_inside"),
    ("private names", "brother", "names that are not ours, and what is meant", "test_private_names_allowed"),
    ("private names", "brother", "mutants of both checks", "test_mutants"),
    ("an override of learning_rate_at", "instance", "alone on SGD", "test_learning_rate_at[SGD]"),
    ("an override of learning_rate_at", "brother", "alone on Adam", "test_learning_rate_at[Adam]"),
    ("an override of learning_rate_at", "brother", "alone on an own rule", "test_learning_rate_at[Own]"),
]

OBJECTIVE, W = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.zeros((2, 1))), jnp.ones(1)


def field(base, name, kind, value):
    return type("Mine", (base,), {"__annotations__": {name: kind}, name: value})


def of(base, **attributes):
    return type("Mine", (base,), attributes)


def refused(equation, *words, error=TypeError, argument="equation"):
    for door in (solve, train):
        with pytest.raises(error, match=f"Argument `{argument}` must") as found:
            door(equation, OBJECTIVE, W, steps=2)
        assert all(word in str(found.value) for word in ("Mine", *words))


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("random", "int", 0),
        ("leapfrog", "float", 0.5),
        ("kicks", "int", 3),
        ("has_series", "bool", False),
        ("gradient_noise", "float", 0.1),
    ],
)
def test_fields(name, kind, value, unchecked):
    refused(field(SGD, name, kind, value)(0.1, 1), f"a field `{name}`, which is a property")
    refused(scheduled(field(Momentum, name, kind, value)(0.1, 1), optax.constant_schedule(0.5)), f"a field `{name}`")


@pytest.mark.parametrize("base", [SGD, AbstractDynamics])
def test_fields_without_a_value(base):
    with pytest.raises(TypeError, match="must not have a field `kicks`, which is a property.*Mine has one"):
        type("Mine", (base,), {"__annotations__": {"kicks": float}})
    if base is SGD:
        with pytest.raises(TypeError, match="must not have a field `gradient_noise`"):
            type("Mine", (base,), {"__annotations__": {"gradient_noise": float}})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("random", 1, "True or False"),
        ("leapfrog", 0.5, "True or False"),
        ("has_series", "no", "True or False"),
        ("kicks", 3, "1 or 2"),
        ("kicks", property(lambda self: 1.0), "1 or 2"),
        ("gradient_noise", 0.3, "a noise model"),
    ],
)
def test_values(name, value, words, unchecked):
    refused(of(SGD, **{name: value})(0.1, 1), f"{words} as `{name}`")


@pytest.mark.parametrize("value", [True, property(lambda self: True)], ids=["attribute", "property"])
def test_random_without_noise(value, unchecked):
    kind = of(SGD, random=value)
    for equation in (kind(0.1), kind(0.1, 1, "shuffled"), scheduled(kind(0.1), optax.constant_schedule(0.5))):
        refused(equation, "Mine.random is True", error=ValueError)
    for equation in (kind(0.1, 1), kind(0.1, noise_model=Isotropic(0.1))):
        check_class(equation)


def test_an_attribute_for_a_method(unchecked):
    refused(of(SGD, noise=0.3)(0.1), "an attribute `noise`, which is a method")
    refused(of(Adam, start=None)(0.1), "an attribute `start`, which is a method")


def test_allowed():
    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones(1))

    class Leap(SGD):
        leapfrog = True
        kicks = 1

        @property
        def has_series(self):
            return False

        @property
        def gradient_noise(self):
            return Isotropic(0.1)

    for equation in (Leap(0.1), of(SGD, random=True, diffusion=diffusion)(0.1), of(SGD, random=False)(0.1, 1)):
        check_class(equation)
    for entry in EQUATIONS.values():
        check_class(type("Mine", (type(entry.equation),), {})(**vars(entry.equation)))


def helper(self, *args):
    return -4.0 * args[1]


@pytest.mark.parametrize("base", [SGD, Momentum])
@pytest.mark.parametrize("name", ["_flow", "_new", "_gaussian", "_response"])
def test_private_names(base, name, unchecked):
    refused(of(base, **{name: helper})(0.1), f"an attribute `{name}`", "private name of AbstractEquation")


def test_private_names_of_others(unchecked):
    refused(of(Adam, _batch_size=helper)(0.1), "`_batch_size`")
    mixin = type("Mixin", (), {"_flow": helper})
    refused(type("Mine", (mixin, SGD), {})(0.1), "`_flow`")
    half = scheduled(SGD(0.1), optax.constant_schedule(0.5))
    for name in ("_changed", "_factor", "_window"):
        refused(of(type(half), **{name: helper})(**vars(half)), f"`{name}`")


@pytest.mark.parametrize("value", [3.0, property(lambda self: 1), None], ids=["number", "property", "none"])
def test_private_attributes(value, unchecked):
    refused(of(SGD, _flow=value)(0.1), "an attribute `_flow`")
    refused(field(SGD, "_new", "float", 1.0)(0.1), "a field `_new`")


def test_private_names_inside(unchecked):
    noisy = of(Isotropic, _base=helper)(0.1)
    refused(SGD(0.1, noise_model=noisy), "`_base`", argument="noise_model")
    signal = [name for base in Objective.__mro__ if base.__module__.startswith("equations") for name in vars(base)]
    private = [name for name in signal if name.startswith("_") and not name.startswith(("__", "_abc"))]
    for name in private:
        mine = of(Objective, **{name: helper})(OBJECTIVE.loss, OBJECTIVE.data)
        with pytest.raises(TypeError, match=f"Argument `objective` must not have an attribute `{name}`"):
            solve(SGD(0.1), mine, W, steps=2)


def test_private_names_allowed():
    class Meant(SGD):
        @override
        def _flow(self, t, state, signal):
            return super()._flow(t, state, signal)

        def _mine(self):
            return 1.0

    class Own(AbstractDynamics):
        _flow: float = 1.0  # of an algorithm, which this is not

        def drift(self, t, state, signal):
            return -self._flow * state

    check_class(Meant(0.1))
    check_class(Own())


def test_mutants(monkeypatch):
    """Without the check of names a field and a helper pass."""
    assert isinstance(SGD(0.1), eqx.Module)
    monkeypatch.setattr(overrides, "shadowing", lambda *args: None)
    for kind in (of(SGD, _flow=helper), of(SGD, start=None)):
        check_class(kind(0.1))
    monkeypatch.setattr(overrides, "check_values", lambda thing: None)
    check_class(field(SGD, "leapfrog", "float", 0.5)(0.1))
    monkeypatch.undo()
    for kind in (of(SGD, _flow=helper), of(SGD, start=None), field(SGD, "leapfrog", "float", 0.5)):
        with pytest.raises(TypeError):
            check_class(kind(0.1))


class Own(AbstractEquation):
    def velocity(self, t, state, gradient):
        return jax.tree.map(jnp.negative, gradient)

    def twin(self):
        return optax.sgd(self.learning_rate)


@pytest.mark.parametrize("base", [SGD, Adam, Own])
def test_learning_rate_at(base, unchecked):
    """It gives the recorded times alone; where the class says something of its twin too, it is believed."""
    rate = lambda self, step: self.learning_rate / (1 + step)  # noqa: E731
    refused(of(base, learning_rate_at=rate)(0.1), "`scheduled`, in place of `learning_rate_at`")
    check_class(of(base, learning_rate_at=rate, twin=Own.twin)(0.1))

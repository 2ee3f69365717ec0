"""A user's attribute in place of a property, a method or a private name of ours is refused, and values that ours could
not have."""

import dataclasses

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
from equations import (
    SGD,
    AbstractDynamics,
    AbstractEquation,
    Adam,
    GradientSplitting,
    Isotropic,
    Lion,
    Momentum,
    Objective,
    RMSProp,
    ScalingLimit,
    Splitting,
    scheduled,
)
from equations._checks import overrides
from equations._checks.overrides import check_class

CASES = [
    ("fields for properties", "instance", "random: int = 0 runs without noise", "test_fields[random-int-0]"),
    ("fields for properties", "instance", "leapfrog: float = .5", "test_values_of_a_splitting"),
    ("fields for properties", "brother", "a splitting that is none, or has a field too many", "test_no_splitting"),
    ("fields for properties", "instance", "gradient_noise: float, without a value", "test_fields_without_a_value"),
    ("fields for properties", "brother", "an attribute of another kind of value", "test_values"),
    ("fields for properties", "brother", "an attribute in place of a method", "test_an_attribute_for_a_method"),
    ("fields for properties", "brother", "attributes and properties that act", "test_allowed"),
    ("private names", "instance", "a helper _root", "test_private_names[_root]"),
    ("private names", "brother", "of Adam, of a wrapper's field, of a mixin", "test_private_names_of_others"),
    ("private names", "brother", "of a splitting and a scaling limit", "test_private_names_of_a_splitting"),
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


def refused(equation, *words, error=TypeError, argument="equation", by="Mine"):
    for door in (solve, train):
        with pytest.raises(error, match=f"Argument `{argument}` must") as found:
            door(equation, OBJECTIVE, W, steps=2)
        assert all(word in str(found.value) for word in (by, *words))


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("random", "int", 0),
        ("gradient_noise", "float", 0.1),
    ],
)
def test_fields(name, kind, value):
    refused(field(SGD, name, kind, value)(0.1, 1), f"a field `{name}`, which is a property")
    refused(scheduled(field(Momentum, name, kind, value)(0.1, 1), optax.constant_schedule(0.5)), f"a field `{name}`")


@pytest.mark.parametrize("name", ["gradient_noise", "random"])
def test_fields_without_a_value(name):
    with pytest.raises(TypeError, match=f"must not have a field `{name}`, which is a property.*Mine has one"):
        type("Mine", (SGD,), {"__annotations__": {name: float}})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("gradient_noise", 0.3, "a noise model"),
    ],
)
def test_values(name, value, words):
    refused(of(SGD, **{name: value})(0.1, 1), f"{words} as `{name}`")


def test_an_attribute_for_a_method():
    refused(of(SGD, drift=0.3)(0.1), "an attribute `drift`, which is a method")
    refused(of(Adam, init=None)(0.1), "an attribute `init`, which is a method")
    refused(of(SGD, splitting=None)(0.1), "an attribute `splitting`, which is a method")


def test_allowed():
    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones(1))

    class Once(GradientSplitting):
        kicks = 1

    class Leap(SGD):
        noise = 0.3  # of an equation, which has none

        def splitting(self):
            return Once(self, leapfrog=True, smooth=False)

        @property
        def gradient_noise(self):
            return Isotropic(0.1)

    for equation in (Leap(0.1), of(SGD, diffusion=diffusion)(0.1)):
        check_class(equation)
    for entry in EQUATIONS.values():
        check_class(type("Mine", (type(entry.equation),), {})(**vars(entry.equation)))


PRIVATE = {"_root": RMSProp, "_rates": Lion, "_inside": Lion}


def helper(self, *args):
    return -4.0 * args[1]


@pytest.mark.parametrize("name", PRIVATE)
def test_private_names(name):
    refused(of(PRIVATE[name], **{name: helper})(0.1), f"an attribute `{name}`", f"name of {PRIVATE[name].__name__}")


def test_private_names_of_a_splitting():
    steps = type("Steps", (GradientSplitting,), {"_gaussian": helper})
    refused(
        of(SGD, splitting=lambda self: steps(self))(0.1), "`_gaussian`", "GradientSplitting", "Steps has one", by=""
    )
    limit = type("Limit", (ScalingLimit,), {"_batch_size": 3})
    refused(of(SGD, scaling_limit=lambda self: limit(self))(0.1), "`_batch_size`", "Limit has one", by="")


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("leapfrog", 0.5, "True or False"),
        ("smooth", "no", "True or False"),
        ("kicks", 3, "1 or 2"),
        ("kicks", property(lambda self: 1.0), "1 or 2"),
    ],
)
def test_values_of_a_splitting(name, value, words):
    if name == "kicks":
        steps = type("Steps", (GradientSplitting,), {name: value})
        kind = of(SGD, splitting=lambda self: steps(self))
    else:
        kind = of(SGD, splitting=lambda self: GradientSplitting(self, **{name: value}))
    refused(kind(0.1), f"{words} as `{name}` of its splitting")


@pytest.mark.parametrize("method", ["splitting", "scaling_limit"])
def test_no_splitting(method):
    """None at all, or a class with a field where every one has a method."""
    refused(of(SGD, **{method: lambda self: None})(0.1), f"as its `{method}`", "gives None")
    base, name = {"splitting": (Splitting, "flow"), "scaling_limit": (ScalingLimit, "rescaled")}[method]
    part = dataclasses.make_dataclass("Part", [(name, float, 0.1)], bases=(base,), frozen=True)
    refused(of(SGD, **{method: lambda self: part(self)})(0.1), f"a field `{name}`", "Part has one", by="")


def test_private_names_of_others():
    mixin = type("Mixin", (), {"_root": helper})
    refused(type("Mine", (mixin, RMSProp), {})(0.1), "`_root`")
    half = scheduled(SGD(0.1), optax.constant_schedule(0.5))
    for name in ("_factor", "_window"):
        refused(of(type(half), **{name: helper})(**vars(half)), f"`{name}`")


@pytest.mark.parametrize("value", [3.0, property(lambda self: 1), None], ids=["number", "property", "none"])
def test_private_attributes(value):
    refused(of(RMSProp, _root=value)(0.1), "an attribute `_root`")
    refused(field(Lion, "_inside", "float", 1.0)(0.1), "a field `_inside`")


def test_private_names_inside():
    noisy = of(Isotropic, _base=helper)(0.1)
    refused(SGD(0.1, noise_model=noisy), "`_base`", argument="noise_model")
    signal = [name for base in Objective.__mro__ if base.__module__.startswith("equations") for name in vars(base)]
    private = [name for name in signal if name.startswith("_") and not name.startswith(("__", "_abc"))]
    for name in private:
        mine = of(Objective, **{name: helper})(OBJECTIVE.loss, OBJECTIVE.data)
        with pytest.raises(TypeError, match=f"Argument `objective` must not have an? (attribute|field) `{name}`"):
            solve(SGD(0.1), mine, W, steps=2)


def test_private_names_allowed():
    class Meant(RMSProp):
        @override
        def _root(self, nu):
            return super()._root(nu)

        def _mine(self):
            return 1.0

    class Own(AbstractDynamics):
        _root: float = 1.0  # of RMSProp, which this is not

        def drift(self, t, state, signal):
            return -self._root * state

    check_class(Meant(0.1))
    check_class(Own())
    check_class(of(SGD, _flow=helper, _gaussian=3.0)(0.1))  # which are no names of ours any more


def test_mutants(monkeypatch):
    """Without the check of names a field and a helper pass."""
    assert isinstance(SGD(0.1), eqx.Module)
    monkeypatch.setattr(overrides, "shadowing", lambda *args: None)
    kinds = lambda: [of(RMSProp, _root=helper), of(SGD, init=None)]  # anew, for what is found of a class is remembered  # noqa: E731
    leaping = of(SGD, splitting=lambda self: GradientSplitting(self, leapfrog=0.5))
    for kind in kinds():
        check_class(kind(0.1))
    monkeypatch.setattr(overrides, "check_values", lambda thing: None)
    check_class(field(SGD, "gradient_noise", "int", 0)(0.1))
    monkeypatch.setattr(overrides, "check_parts", lambda thing: None)
    check_class(leaping(0.1))
    monkeypatch.undo()
    for kind in (*kinds(), leaping, field(SGD, "gradient_noise", "int", 0)):
        with pytest.raises(TypeError):
            check_class(kind(0.1))


class Own(AbstractEquation):
    def velocity(self, t, state, gradient):
        return jax.tree.map(jnp.negative, gradient)

    def twin(self):
        return optax.sgd(self.learning_rate)


class Slowing(ScalingLimit):
    def learning_rate_at(self, step):
        return self.equation.learning_rate / (1 + step)


@pytest.mark.parametrize("base", [SGD, Adam, Own])
def test_learning_rate_at(base):
    """It gives the recorded times alone; where the class says something of its twin too, it is believed."""
    limit = lambda self: Slowing(self)  # noqa: E731
    refused(of(base, scaling_limit=limit)(0.1), "`scheduled`, in place of `scaling_limit`")
    check_class(of(base, scaling_limit=limit, twin=Own.twin)(0.1))

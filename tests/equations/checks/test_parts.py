"""A splitting and a scaling limit of the user's are read in full: an attribute or a name that nobody reads is refused."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import EQUATIONS

from dynamics import solve
from equations import (
    SGD,
    AbstractDynamics,
    Adam,
    Decayed,
    GradientSplitting,
    Momentum,
    Objective,
    RMSProp,
    ScalingLimit,
    Splitting,
    decayed,
    scheduled,
)
from equations._checks import overrides, parts
from equations._checks.overrides import check_class
from equations._scaling import MEASURES
from equations._wrappers.base import WrappedLimit, WrappedSplitting

CASES = [
    ("class attributes of a part", "instance", "leapfrog = True on a splitting", "test_attributes[leapfrog]"),
    ("class attributes of a part", "instance", "heat and decays on a limit", "test_attributes[heat]"),
    ("class attributes of a part", "brother", "on a splitting of a wrapper, on a mixin", "test_attributes_of_others"),
    ("class attributes of a part", "brother", "a dataclass that says so, which acts", "test_defaults_act"),
    ("old names on a part", "instance", "claim on a limit", "test_old_names[claim]"),
    ("old names on a part", "brother", "has_series and bounded on a splitting", "test_old_names[has_series]"),
    ("old names on a part", "brother", "a name of the other part", "test_old_names[rescaled]"),
    ("no first step", "instance", "Adam with a plain GradientSplitting", "test_a_first_step[GradientSplitting-Adam]"),
    ("no first step", "brother", "RMSProp, and Adam with a Splitting", "test_a_first_step[Splitting-RMSProp]"),
    ("no first step", "brother", "around Adam", "test_a_first_step_around"),
    ("values of a limit", "instance", "decays = .5, orders of a typing error", "test_values[decays]"),
    ("values of a limit", "brother", "all others", "test_values[time]"),
    ("values of a limit", "instance", "decays of a name that is none", "test_names[decays]"),
    ("values of a limit", "brother", "powers and memory", "test_names[memory]"),
    ("values of a limit", "instance", "a subclass of Adam with decays: float", "test_a_field_for_a_tuple"),
    ("values of a limit", "instance", "a splitting of another equation", "test_of_another_equation"),
    ("values of a limit", "brother", "those of these packages pass", "test_the_library_passes"),
    ("values of a limit", "brother", "mutants of the checks", "test_mutants"),
]  # fmt: skip
OBJECTIVE, W = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.zeros((2, 1))), jnp.ones(1)
HALF = optax.constant_schedule(0.5)


def of(base, part, **values):
    """A subclass of an equation with this part."""
    method = "scaling_limit" if issubclass(part, ScalingLimit) else "splitting"
    return type("Mine", (base,), {method: lambda self: part(self, **values)})


def part_of(base, **attributes):
    return type("Part", (base,), attributes)


def refused(equation, *words, error=TypeError):
    with pytest.raises(error, match="Argument `equation` must") as found:
        solve(equation, OBJECTIVE, W, steps=2)
    assert all(word in str(found.value) for word in words), found.value


@pytest.mark.parametrize(
    "base, name, value",
    [
        (GradientSplitting, "leapfrog", True),
        (GradientSplitting, "smooth", False),
        (ScalingLimit, "heat", True),
        (ScalingLimit, "decays", {"momentum": 1}),
        (ScalingLimit, "threshold", 2.0),
    ],
    ids=["leapfrog", "smooth", "heat", "decays", "threshold"],
)
def test_attributes(base, name, value):
    refused(of(Momentum, part_of(base, **{name: value}))(0.1), f"`{name}` given to the constructor", f"Part.{name}")
    refused(of(Momentum, part_of(base, __annotations__={name: object}))(0.1), f"Part.{name}")


def test_attributes_of_others():
    mixin = type("Mixin", (), {"leapfrog": True})
    both = type("Part", (mixin, GradientSplitting), {})
    refused(of(Momentum, both)(0.1), "Part.leapfrog")
    half = decayed(Momentum(0.1), 0.1)
    for base, name in ((WrappedSplitting, "leapfrog"), (WrappedLimit, "heat")):
        part = part_of(base, **{name: True})
        method = "splitting" if base is WrappedSplitting else "scaling_limit"
        make = part.of if base is WrappedSplitting else part
        refused(type("Mine", (Decayed,), {method: lambda self, make=make: make(self)})(**vars(half)), f"Part.{name}")


def test_defaults_act():
    """What the class says as a dataclass is read, and so is a threshold of what forwards one."""

    @dataclasses.dataclass(frozen=True)
    class Leap(GradientSplitting):
        leapfrog: bool = True

    @dataclasses.dataclass(frozen=True)
    class Hot(ScalingLimit):
        heat: bool = True

    assert Leap(None).leapfrog and Hot(None).heat
    for part in (Leap, Hot):
        check_class(of(Momentum, part)(0.1))
    edge = part_of(WrappedLimit, threshold=property(lambda self: 1.0))
    check_class(type("Mine", (Decayed,), {"scaling_limit": lambda self: edge(self)})(**vars(decayed(SGD(0.1), 0.1))))


@pytest.mark.parametrize(
    "base, name, words",
    [
        (GradientSplitting, "has_series", "override `smooth` in place of `has_series`"),
        (Splitting, "bounded", "override `clip_noise` in place of `bounded`"),
        (ScalingLimit, "claim", "override `claimed_order` in place of `claim`"),
        (GradientSplitting, "rescaled", "override `scaling_limit().rescaled` of the equation in place of `rescaled`"),
        (ScalingLimit, "kick", "override `splitting().kick` of the equation in place of `kick`"),
    ],
    ids=["has_series", "bounded", "claim", "rescaled", "kick"],
)
def test_old_names(base, name, words):
    refused(of(SGD, part_of(base, **{name: lambda self, *args: None}))(0.1), words, f"Part.{name}")


@pytest.mark.parametrize("base", [Adam, RMSProp])
@pytest.mark.parametrize("part", [GradientSplitting, Splitting])
def test_a_first_step(base, part):
    refused(of(base, part)(0.1), "a first step, `start`", "Mine.splitting gives a " + part.__name__)
    check_class(of(base, type(base(0.1).splitting()))(0.1))
    check_class(of(base, part)(0.1), "twin")


def test_a_first_step_around():
    """Of a subclass inside, and of a wrapper whose splitting has none."""
    half = scheduled(Adam(0.1), HALF)
    refused(scheduled(of(Adam, GradientSplitting)(0.1), HALF), "a first step, `start`")
    refused(of(type(half), Splitting)(**vars(half)), "a first step, `start`")


VALUES = {
    "time": ["soon", True, jnp.ones(2)],
    "decays": [0.5, {"momentum": "1"}, {1: 1}],
    "powers": ["momentum", {"momentum": None}],
    "batch": [1.5, True, None],
    "heat": [1, "yes"],
    "orders": [{"variance": 2}, {"mean": "2"}, 2.0],
    "memory": ["momentum", (1,), 0.5],
    "threshold": ["2", jnp.ones(2)],
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name):
    for value in VALUES[name]:
        refused(of(Momentum, ScalingLimit, **{name: value})(0.1), f"as `{name}` of its scaling limit", "Mine")
    assert set(VALUES) == {field.name for field in dataclasses.fields(ScalingLimit)} - {"equation"}


@pytest.mark.parametrize("place", ["decays", "powers", "memory"])
def test_names(place):
    for name in ("beta", "learning_rate", "batch_size"):
        value = (name,) if place == "memory" else {name: 1}
        mine = of(Momentum, ScalingLimit, **{place: value})(0.1)
        refused(mine, f"in `{place}` of its scaling limit, such as 'momentum'", repr(name), error=ValueError)


def test_a_field_for_a_tuple():
    field = type("Mine", (Adam,), {"__annotations__": {"decays": float}, "decays": 0.9})
    refused(field(0.1), "a field `decays`, which is a tuple of names in")
    refused(type("Mine", (Adam,), {"decays": 0.9})(0.1), "an attribute `decays`, which is a tuple of names")
    check_class(type("Mine", (Adam,), {"decays": ("b1",)})(0.1))


def test_of_another_equation():
    for part in (GradientSplitting, ScalingLimit):
        method = "scaling_limit" if part is ScalingLimit else "splitting"
        other = type("Mine", (SGD,), {method: lambda self, part=part: part(Momentum(0.1))})
        refused(other(0.1), f"give a `{method}` of itself", "that of Momentum")


class Around(AbstractDynamics):
    """It hands on what is inside."""

    equation: AbstractDynamics
    number: jax.Array = eqx.field(default=1.0, converter=jnp.asarray)

    def drift(self, t, state, signal):
        return self.equation.drift(t, state, signal)

    def splitting(self):
        return self.equation.splitting()

    def scaling_limit(self):
        return ScalingLimit(self, self.number, {"number": 1}, threshold=np.float64(2), orders={"mean": 2})


BOTH = ("splitting", "scaling_limit")


def test_the_library_passes():
    check_class(Around(SGD(0.1)))
    for entry in EQUATIONS.values():
        mine = type(entry.equation)
        both = {name: lambda self, name=name, mine=mine: getattr(mine, name)(self) for name in BOTH}
        check_class(type("Mine", (mine,), both)(**vars(entry.equation)))
    assert parts.MEASURES is MEASURES


def test_mutants(monkeypatch):
    """Without one of its parts the check lets pass what that part refuses."""
    bad = {
        "_unread": of(Momentum, part_of(GradientSplitting, leapfrog=True)),
        "old_name_of_part": of(Momentum, part_of(ScalingLimit, claim=lambda self, measure: 1)),
        "_check_values": of(Momentum, ScalingLimit, heat=1),
        "_check_names": of(Momentum, ScalingLimit, decays={"beta": 1}),
    }
    for part, kind in bad.items():
        with pytest.raises((TypeError, ValueError)):
            check_class(kind(0.1))
        with monkeypatch.context() as without:
            without.setattr(parts, part, lambda *args: None)
            check_class(kind(0.1))
    kind = of(Adam, GradientSplitting)
    monkeypatch.setattr(overrides, "_is_singular", lambda thing: False)
    check_class(kind(0.1))

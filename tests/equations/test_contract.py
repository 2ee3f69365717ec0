"""How large the contract is, and what becomes of each of its members where a user overrides it."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve
from equations import (
    SGD,
    AbstractDynamics,
    AbstractEquation,
    Adam,
    GradientSplitting,
    Momentum,
    Objective,
    ScalingLimit,
    Splitting,
    decayed,
    modified,
)
from equations._checks.old_names import _LIMIT, _MOVED, _SPLITTING
from equations._checks.overrides import check_class
from equations.internal import split

# To be overridden, in three groups; the others are made of these.
OVERRIDDEN = {
    "field": ("init", "params", "velocity", "diffusion", "twin", "linear", "gradient_noise", "held", "check")
    + ("interpretation",),
    "splitting": ("splitting",),
    "scaling": ("scaling_limit",),
}
FIELDS = ("learning_rate", "batch_size", "sampling", "noise_model")  # of which each is one more for every forwarder
INSTEAD = ("drift",)  # of `velocity`
REFUSED = ("batches", "gradient", "is_affine", "random", "sees", "series")
TOLD = ("several_gradients",)  # by an AbstractSeveralGradients

OBJECTIVE, W = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.array([[-1.0], [1.0]])), jnp.ones(1)


def members(kind):
    """The public members of a class that are no fields."""
    return {name for name in dir(kind) if name[0] != "_"} - set(kind.__dataclass_fields__)


def check_size(kind):
    """Fails for a contract that has grown."""
    overridden = [name for group in OVERRIDDEN.values() for name in group]
    assert len(members(kind)) <= 20 and len(overridden) <= 12
    assert sorted([*overridden, *INSTEAD, *REFUSED, *TOLD]) == sorted(members(kind))


def test_the_contract_is_small():
    check_size(AbstractEquation)
    assert members(AbstractDynamics) <= members(AbstractEquation)
    assert tuple(AbstractEquation.__dataclass_fields__) == FIELDS and not AbstractDynamics.__dataclass_fields__
    with pytest.raises(AssertionError):
        check_size(type("Longer", (AbstractEquation,), {"brand_new": lambda self: None}))


def test_the_members_are_documented():
    for kind in (AbstractDynamics, AbstractEquation, Splitting, GradientSplitting, ScalingLimit):
        for name, member in vars(kind).items():
            if name in members(kind) and name not in ("linear", "interpretation", *TOLD):
                known = [vars(base).get(name) for base in kind.__mro__]
                assert any(getattr(m, "__doc__", None) for m in known if m is not None), f"{kind.__name__}.{name}"
                assert member is not None


TOLD_AT_ONCE = ("leapfrog", "smooth", "along_new_memory", "first_order", "substeps", "alternating")


def test_the_table_names_them_all():
    """That of the documentation, what is in the parts too."""
    text = (Path(__file__).parents[2] / "docs" / "pages" / "own-algorithm.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| the field", "| how solvers", "| its scaling"))]
    named = {name for row in rows for name in re.findall(r"`(\w+)(?:\(\))?`", row)}
    wanted = {name for group in OVERRIDDEN.values() for name in group} | set(INSTEAD)
    wanted |= members(GradientSplitting) | set(TOLD_AT_ONCE) | members(ScalingLimit)
    assert named - {"Splitting", "ScalingLimit"} == wanted


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_made_of_others_is_refused(name):
    mine = type("Mine", (SGD,), {name: lambda self, *args: None})
    with pytest.raises(TypeError, match=f"must override .* in place of `{name}` alone, .* Mine.{name} was given"):
        solve(mine(0.1), OBJECTIVE, W, steps=1)


# ---------------------------------------------------------------------------------------------------------------------
# Names of one release ago


def old(equation, name):
    with pytest.warns(
        DeprecationWarning, match=rf"\.{name} is now .*\.(splitting|scaling_limit|held|equation)"
    ) as caught:
        found = getattr(equation, name)
    assert caught[0].filename == __file__
    return found


@pytest.mark.parametrize("name", _SPLITTING)
def test_old_names_of_a_splitting(name):
    equation = Adam(0.1, 2)
    new = getattr(split(equation), _SPLITTING[name])
    found = old(equation, name)
    assert getattr(found, "__func__", found) == getattr(new, "__func__", new)


@pytest.mark.parametrize("name", _LIMIT)
def test_old_names_of_a_limit(name):
    equation, arguments = (
        Momentum(0.04, 2),
        {"rescaled": (0.25,), "claim": ("mean",), "learning_rate_at": (jnp.asarray(3),)},
    )
    given = arguments.get(name, ())
    new, found = getattr(equation.scaling_limit(), _LIMIT[name]), old(equation, name)
    if callable(new):
        new, found = new(*given), found(*given)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(new), strict=True):
        np.testing.assert_array_equal(a, b)


def test_old_names_of_what_is_inside():
    wrapped, series = decayed(SGD(0.1), 0.1), modified(Momentum(0.1), memory="adiabatic")
    assert old(wrapped, "inner") is wrapped.equation
    assert old(series, "leading") is series.equation and old(series.equation, "source") is series.equation.equation
    assert old(wrapped, "between")(*jnp.arange(2.0)) is wrapped
    assert set(_MOVED) == {"inner", "leading", "source", "between"}


def test_other_names_are_unknown():
    """As on every object; a user's dynamics has no `inner` either, and one of a number of his own keeps it."""
    for name in ("brand_new", "inner", "leading", "source", "_private"):
        assert not hasattr(SGD(0.1), name)
    own = type("Mine", (SGD,), {"__annotations__": {"source": float}, "source": 2.0})(0.1)
    assert own.source == 2.0 and dataclasses.replace(own, source=3.0).source == 3.0
    check_class(own)

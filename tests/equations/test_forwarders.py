"""Equations around another one forward all of the contract, or say why not."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from schedules import ETA, PIECEWISE, STILL

from dynamics._arguments.partly import Partly, PartlyCircuit
from dynamics._times import learning_rates
from equations import (
    SGD,
    AbstractCircuit,
    AbstractDynamics,
    AbstractEquation,
    AbstractForwarder,
    ForwardedLimit,
    ForwardedSplitting,
    Momentum,
    ScalingLimit,
    ScheduledBatches,
    Splitting,
    UnderdampedLangevin,
    averaged,
    clipped,
    modified,
    scheduled,
)
from equations._interpretation import AbstractConverted, Ito, Stratonovich
from equations._modified.increment import Increment
from equations._modified.slow_manifold import SlowLimit, SlowManifold
from equations._modified.truncated import ModifiedDynamics, TruncatedSplitting
from equations._splitting import _Redrifted
from equations.internal import split
from validation._irreversibility.corrected import Corrected, CorrectedSplitting

CASES = [
    (
        "forgetful forwarder",
        "instance",
        "SlowManifold without its scaling limit",
        "test_a_forwarder_that_forgets_is_seen",
    ),
    ("forgetful forwarder", "brother", "all others, by their names", "test_forwarders_are_complete"),
    ("forgetful forwarder", "brother", "what forwards a splitting or a limit", "test_parts_are_complete"),
    ("forgetful forwarder", "brother", "a new public member of the contract", "test_a_new_member_is_missed"),
    ("forgetful forwarder", "brother", "the fields of the contract", "test_the_fields_are_those_inside"),
    ("forgetful forwarder", "brother", "held and the rate, by what they say", "test_forwarders_say_what_is_inside"),
    ("forgetful forwarder", "brother", "a check of the equation inside", "test_a_check_inside_is_made"),
    ("forgetful forwarder", "brother", "a delay under a series", "test_a_delay_has_no_series"),
]

# Which of its members a class may leave as the contract has them, with the reason. All else is forwarded or its own.
FROM_VELOCITY = "made of its velocity, which is the twin's and not that of the equation inside"


def all_of(kind):
    """A class of these packages, and all that derive from it in them."""
    ours = [
        sub for sub in kind.__subclasses__() if sub.__module__.startswith(("equations.", "dynamics.", "validation."))
    ]
    return [kind, *(one for sub in ours for one in all_of(sub))]


LEFT = {kind: {} for kind in all_of(AbstractForwarder)} | {
    Increment: dict.fromkeys(("batches", "diffusion", "drift", "gradient", "random", "sees"), FROM_VELOCITY)
    | {"interpretation": "of a diffusion that is not that of the equation inside"}
    | {"series": "the twin's increment itself is of the first order"},
}
AROUND = (ForwardedSplitting, ForwardedLimit, ModifiedDynamics, AbstractConverted, Partly)
OF_FLOW_AND_KICK = {"euler": "made of flow and kick"}
OF_ITS_FIELD = {"splitting": "that of its own drift and the diffusion"}
NO_RULE = {"several_gradients": "of a rule's velocity, which it has not"}
PARTS = {part: {} for kind in AROUND for part in all_of(kind)} | {
    ForwardedSplitting: OF_FLOW_AND_KICK,
    TruncatedSplitting: OF_FLOW_AND_KICK,
    _Redrifted: OF_FLOW_AND_KICK,
    CorrectedSplitting: OF_FLOW_AND_KICK,
    ModifiedDynamics: NO_RULE,
    AbstractConverted: OF_ITS_FIELD | NO_RULE | {"drift": "which is another one", "interpretation": "of a subclass"},
    Partly: OF_ITS_FIELD | NO_RULE,
    PartlyCircuit: OF_ITS_FIELD | NO_RULE,
    Stratonovich: OF_ITS_FIELD | NO_RULE,
    Ito: OF_ITS_FIELD | NO_RULE | {"interpretation": "the default, as its name says"},
}


# What a part is of, which is never that of the one inside.
OWN = {"dynamics", "equation"}


def members(contract):
    """The public members of a class, fields included."""
    return {name for name in {*dir(contract), *contract.__dataclass_fields__} if name[0] != "_"} - OWN


def missing(kind, contract, left):
    """What a class has from the contract, as it is there, without a reason."""
    owners = {name: next((c for c in kind.__mro__ if name in vars(c)), contract) for name in members(contract)}
    return {name for name, owner in owners.items() if owner in contract.__mro__} - set(left)


@pytest.mark.parametrize("kind", LEFT, ids=lambda kind: kind.__name__)
def test_forwarders_are_complete(kind):
    """Nothing is the contract's that is not meant to be, and nothing is said to be that is not."""
    assert not missing(kind, AbstractEquation, LEFT[kind])
    assert set(LEFT[kind]) == missing(kind, AbstractEquation, {})


def contract_of(part):
    return next(contract for contract in (Splitting, ScalingLimit, AbstractDynamics) if issubclass(part, contract))


@pytest.mark.parametrize("part", PARTS, ids=lambda kind: kind.__name__)
def test_parts_are_complete(part):
    """The same of the splitting, of the scaling limit and of a series without a twin."""
    assert missing(part, contract_of(part), {}) == set(PARTS[part])


def longer(contract):
    """The contract with one more method and one more field."""
    if issubclass(contract, eqx.Module):
        kinds = {"fresh": float}
        return type("Longer", (contract,), {"brand_new": lambda self: None, "__annotations__": kinds, "fresh": 3.0})
    fields = [("fresh", float, dataclasses.field(default=3.0))]
    return dataclasses.make_dataclass(
        "Longer", fields, bases=(contract,), frozen=True, namespace={"brand_new": lambda self: None}
    )


def test_a_new_member_is_missed():
    new = {"brand_new", "fresh"}
    for kind, left in LEFT.items():
        assert missing(kind, longer(AbstractEquation), left) == new
    for part, left in PARTS.items():
        assert missing(part, longer(contract_of(part)), left) == new


def test_the_fields_are_those_inside():
    """Of the contract, by what they say, in each forwarder."""
    for forwarder in forwarders():
        for field in dataclasses.fields(AbstractEquation):
            np.testing.assert_equal(getattr(forwarder, field.name), getattr(forwarder.equation, field.name))
        for part, name in ((forwarder.scaling_limit(), "equation"), (split(forwarder), "dynamics")):
            if isinstance(part, SlowLimit) or not isinstance(part, ForwardedLimit | ForwardedSplitting):
                continue
            inside = part.inner if isinstance(part, Splitting) else forwarder.equation.scaling_limit()
            told = {field.name for field in dataclasses.fields(contract_of(type(part)))} - {name, "orders"}
            for one in told:
                assert getattr(part, one) == getattr(inside, one), one


def without(kind, *names):
    """Mutant: a forwarder with the contract's members of these names."""
    return type(kind.__name__, (kind,), {name: getattr(AbstractEquation, name) for name in names})


@pytest.mark.slow
def test_a_forwarder_that_forgets_is_seen():
    """By the definition of its members, and by the times of a run, which end as if the rate were constant."""
    for member in members(AbstractEquation):
        bare = type("Bare", (), {n: None for n in members(AbstractEquation) - {member}})
        assert missing(bare, AbstractEquation, {}) == {member}
    for forwarder in forwarders():
        forgetful = without(type(forwarder), "scaling_limit")
        mutant = forgetful(**{name: getattr(forwarder, name) for name in field_names(forwarder)})
        assert learning_rates(mutant, 12) is None and learning_rates(forwarder, 12) is not None


def field_names(thing):
    return [field.name for field in dataclasses.fields(thing)]


def forwarders():
    plain, heavy = scheduled(SGD(ETA), PIECEWISE), scheduled(Momentum(ETA, momentum=0.5), PIECEWISE)
    return [
        modified(heavy),
        modified(heavy, memory="adiabatic"),
        Increment.of(heavy),
        SlowManifold.of(Increment.of(heavy), 2),
        averaged(plain),
        averaged(plain, decay="polyak"),
        scheduled(plain, batch_size=lambda step: 1 + 0 * step),
        clipped(plain, norm=1.0, noise=0.1),
        Corrected(ETA, equation=plain, force="backward_error", over="full", reading="ito"),
    ]


def test_forwarders_say_what_is_inside():
    """The rate of every step, and a velocity at a count that is held or read between two jumps."""
    gradient, wanted = jnp.asarray(1.0), np.array([1.0, 1.0, 0.1, 0.01])
    for forwarder in forwarders():
        state = forwarder.init(jnp.asarray(1.0))
        rates = jnp.stack([forwarder.scaling_limit().learning_rate_at(jnp.asarray(step)) for step in (0, 3, 4, 8)])
        np.testing.assert_allclose(rates, ETA * wanted, rtol=1e-6)

        def speed(step, forwarder=forwarder, state=state):
            held = forwarder.held(jnp.asarray(step))
            if not isinstance(forwarder, SlowManifold):  # with something in the memory
                state = jax.tree.map(lambda leaf: jnp.ones_like(leaf), state)
            return float(forwarder.params(held.velocity(jnp.zeros(()), state, gradient)))

        np.testing.assert_allclose([speed(4) / speed(0), speed(8) / speed(3)], [0.1, 0.01], rtol=1e-6)
        if isinstance(forwarder, SlowManifold | ScheduledBatches) or isinstance(forwarder.equation, SlowManifold):
            with pytest.raises(ValueError, match="Argument `stepsize_controller`"):
                forwarder.held(*jnp.array([0.0, 4.0]))
            continue
        at_jump = eqx.tree_at(lambda m: m.count, state.memory[1], 4.0) if hasattr(state, "memory") else None
        ahead = state if at_jump is None else eqx.tree_at(lambda s: s.memory, state, (state.memory[0], at_jump))
        ahead = jax.tree.map(jnp.asarray, ahead)
        before, after = (forwarder.held(*jnp.array(ends)) for ends in ((0.0, 4.0), (4.0, 8.0)))
        low, high = (forwarder.params(f.velocity(4 * jnp.asarray(ETA), ahead, gradient)) for f in (after, before))
        np.testing.assert_allclose(low / high, 0.1, rtol=1e-6)


def test_a_check_inside_is_made():
    """Underdamped friction that has become too large for the learning rate, under each forwarder."""
    good = UnderdampedLangevin(0.01, friction=1.0)
    bad = eqx.tree_at(lambda e: e.friction, good, jnp.asarray(20.0))
    for forwarder in (Increment.of(bad), SlowManifold.of(Increment.of(bad), 2)):
        with pytest.raises(ValueError, match="Argument `friction`"):
            forwarder.check(jnp.asarray(1.0), STILL)


class Own(AbstractDynamics):
    """A dynamics with a learning rate, and a delay of its own."""

    learning_rate: float = 0.1
    delay: float = 0.5

    def drift(self, t, state, signal):
        return -state


class Late(AbstractCircuit):
    """One that acts late."""

    learning_rate: float = 0.1
    delay: float = 0.5

    def drift(self, t, state, signal):
        return -state

    def delayed(self, state, signal):
        return state


def test_a_delay_has_no_series():
    with pytest.raises(ValueError, match="Argument `equation` must act without a delay"):
        modified(Late())
    assert modified(Late(delay=0.0)).order == 2
    assert modified(Own()).order == 2  # a field of the same name, of a dynamics that is no circuit

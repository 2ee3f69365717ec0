"""Equations around another one forward all of the contract, or say why not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from schedules import ETA, PIECEWISE, STILL

from dynamics._trajectory import learning_rates
from equations import SGD, AbstractDynamics, AbstractEquation, Momentum, UnderdampedLangevin, modified, scheduled
from equations._modified.increment import Increment
from equations._modified.slow_manifold import Slaved
from equations._wrappers.base import AbstractWrapped
from validation._irreversibility.corrected import Corrected

CASES = [
    ("forgetful forwarder", "instance", "Slaved without learning_rate_at", "test_a_forwarder_that_forgets_is_seen"),
    ("forgetful forwarder", "brother", "Modified, Increment, Slaved, Corrected", "test_forwarders_are_complete"),
    ("forgetful forwarder", "brother", "a new public member of the contract", "test_a_new_member_is_missed"),
    (
        "forgetful forwarder",
        "brother",
        "held, between and the rate, by what they say",
        "test_forwarders_say_what_is_inside",
    ),
    ("forgetful forwarder", "brother", "a check of the equation inside", "test_a_check_inside_is_made"),
    ("forgetful forwarder", "brother", "a delay under a series", "test_a_delay_has_no_series"),
]

Modified = type(modified(SGD(0.1)))

# What is meant to be the base's own, with the reason.
FIELDS = dict.fromkeys(("learning_rate", "batch_size", "sampling"), "a field, which what is inside takes over")
NOISE = {"noise_model": "`gradient_noise` is forwarded, and says all"}
MADE = dict.fromkeys(("batches", "gradient", "check_sampling", "check_noise"), "made of fields and `gradient_noise`")
STREAMS = dict.fromkeys(("delayed", "check_step"), "of streams of stimuli, under which no equation with a twin runs")
COMMON = FIELDS | NOISE | MADE | STREAMS | {"bounded": "asked by the kick, which is that of what is inside"}
OWN = ("diffusion", "euler", "is_affine", "kick", "kicks", "leapfrog", "noise")
FROM_VELOCITY = dict.fromkeys(OWN, "made of its own velocity, which is not that of the equation inside")
CLOCK = dict.fromkeys(
    ("claim", "time_per_step", "variance_scale"), "a fixed memory is of order 1 in the clock eta * step"
)
MEANT = {
    AbstractWrapped: COMMON | {"twin": "abstract"},
    Modified: {name: why for name, why in COMMON.items() if name != "check_step"}
    | {"leapfrog": "asked by the base's flow, which is replaced", "has_series": "there is no series of a series"}
    | {"linear": "asked by `is_affine`, which is forwarded"},
    Increment: {name: why for name, why in COMMON.items() if name != "bounded"}
    | FROM_VELOCITY
    | {"drift": "the mean of its own velocity"},
    Slaved: COMMON
    | FROM_VELOCITY
    | CLOCK
    | dict.fromkeys(("init", "params"), "its state is the parameters")
    | {"linear": "of the velocity of the equation inside, which is not its own"},
    Corrected: COMMON | {"leapfrog": "asked by flow and kick, which are those of what is inside"},
}


def contract():
    kinds = (AbstractEquation, AbstractDynamics)
    return {name for kind in kinds for name in [*vars(kind), *kind.__dataclass_fields__] if name[0] != "_"}


def given(kind):
    """The public names that a class, or one between it and the contract, gives anew."""
    return {n for n in contract() if getattr(kind, n, None) is not getattr(AbstractEquation, n, None)}


def missing(kind, names, meant):
    return names - given(kind) - set(meant)


@pytest.mark.parametrize("kind", MEANT, ids=lambda kind: kind.__name__)
def test_forwarders_are_complete(kind):
    """Nothing is the base's that is not meant to be, and nothing is said to be that is not."""
    assert not missing(kind, contract(), MEANT[kind])
    assert set(MEANT[kind]) <= contract() - given(kind)


def test_a_new_member_is_missed():
    for kind, meant in MEANT.items():
        assert missing(kind, contract() | {"brand_new"}, meant) == {"brand_new"}


def without(kind, *names):
    """Mutant: a forwarder with the base's members of these names."""
    return type(
        kind.__name__,
        (kind,),
        {name: getattr(AbstractEquation, name) for name in names},
    )


def test_a_forwarder_that_forgets_is_seen():
    """By its names, and by the times of a run, which end as if the rate were constant."""
    for kind in (Modified, Increment, Slaved, Corrected):
        assert missing(without(kind, "learning_rate_at"), contract(), MEANT[kind]) == {"learning_rate_at"}
    for forwarder in forwarders():
        forgetful = without(type(forwarder), "learning_rate_at")
        mutant = forgetful(**{name: getattr(forwarder, name) for name in forwarder.__dataclass_fields__})
        assert learning_rates(mutant, 12) is None and learning_rates(forwarder, 12) is not None


def forwarders():
    plain, heavy = scheduled(SGD(ETA), PIECEWISE), scheduled(Momentum(ETA, momentum=0.5), PIECEWISE)
    return [
        modified(heavy),
        modified(heavy, memory="slaved"),
        Increment.of(heavy),
        Slaved.of(Increment.of(heavy), 2),
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
            if not isinstance(forwarder, Slaved):  # with something in the memory
                state = jax.tree.map(lambda leaf: jnp.ones_like(leaf), state)
            return float(forwarder.params(held.velocity(jnp.zeros(()), state, gradient)))

        np.testing.assert_allclose([speed(4) / speed(0), speed(8) / speed(3)], [0.1, 0.01], rtol=1e-6)
        if "Slaved" in (type(forwarder).__name__, type(getattr(forwarder, "equation", None)).__name__):
            with pytest.raises(ValueError, match="Argument `stepsize_controller`"):
                forwarder.between(*jnp.array([0.0, 4.0]))
            continue
        at_jump = eqx.tree_at(lambda m: m.count, state.memory[1], 4.0) if hasattr(state, "memory") else None
        ahead = state if at_jump is None else eqx.tree_at(lambda s: s.memory, state, (state.memory[0], at_jump))
        ahead = jax.tree.map(jnp.asarray, ahead)
        before, after = (forwarder.between(*jnp.array(ends)) for ends in ((0.0, 4.0), (4.0, 8.0)))
        low, high = (forwarder.params(f.velocity(4 * jnp.asarray(ETA), ahead, gradient)) for f in (after, before))
        np.testing.assert_allclose(low / high, 0.1, rtol=1e-6)


def test_a_check_inside_is_made():
    """Underdamped friction that has become too large for the learning rate, under each forwarder."""
    good = UnderdampedLangevin(0.01, friction=1.0)
    bad = eqx.tree_at(lambda e: e.friction, good, jnp.asarray(20.0))
    for forwarder in (Increment.of(bad), Slaved.of(Increment.of(bad), 2)):
        with pytest.raises(ValueError, match="Argument `friction`"):
            forwarder.check(jnp.asarray(1.0), STILL)


class Late(AbstractDynamics):
    """A dynamics with a learning rate, and a delay."""

    learning_rate: float = 0.1
    delay: float = 0.5

    def drift(self, t, state, signal):
        return -state


def test_a_delay_has_no_series():
    with pytest.raises(ValueError, match="Argument `equation` must act without a delay"):
        modified(Late())
    assert modified(Late(delay=0.0)).order == 2

"""Times where an optimizer counts in a state of its own: bias corrections are silent, schedules are told of."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from schedules import ETA, PIECEWISE, cosine_of

from dynamics import train
from dynamics._times import learning_rates
from equations import Objective, from_optax
from equations._optax import own_counts as counts_module

CASES = [
    ("own counts", "instance", "Prodigy of a schedule: times .6 for .32", "test_said[prodigy]"),
    ("own counts", "brother", "D-adaptation of a schedule", "test_said[dadapt]"),
    ("own counts", "brother", "Prodigy of a cosine, the learning rate beside it", "test_said[beside]"),
    ("own counts", "brother", "an exponential decay, a power as bias corrections have one", "test_said[exponential]"),
    ("own counts", "brother", "a transformation of the user's that counts", "test_said[own]"),
    ("own counts", "brother", "bias corrections, also of the user's, are silent", "test_corrections_are_silent"),
    (
        "own counts",
        "brother",
        "train says it too; a mutant that takes all for corrections does not",
        "test_a_run_says_it",
    ),
]

CONTRIB = optax.contrib


class Counted(NamedTuple):
    count: jax.Array


def own(factor):
    """The gradient times a function of the step."""

    def update(updates, state, params=None):
        changed = jax.tree.map(lambda g: -factor(state.count) * g, updates)
        return changed, Counted(state.count + 1)

    return optax.GradientTransformation(lambda params: Counted(jnp.zeros((), jnp.int32)), update)


SCHEDULED = {
    "prodigy": lambda learning_rate: CONTRIB.prodigy(learning_rate=lambda k: learning_rate * PIECEWISE(k)),
    "dadapt": lambda learning_rate: CONTRIB.dadapt_adamw(learning_rate=lambda k: learning_rate * PIECEWISE(k)),
    "beside": lambda learning_rate: optax.chain(
        CONTRIB.prodigy(learning_rate=cosine_of(1, 50)), optax.scale(learning_rate)
    ),
    "exponential": lambda learning_rate: CONTRIB.prodigy(optax.exponential_decay(learning_rate, 5, 0.5)),
    "own": lambda learning_rate: optax.chain(own(lambda k: 1 / (1 + k)), optax.scale(learning_rate)),
}
CORRECTED = {
    **{
        name: getattr(optax, name)
        for name in ("adam", "adamw", "nadam", "radam", "yogi", "adafactor", "lamb", "amsgrad")
    },
    **{
        name: getattr(CONTRIB, name)
        for name in (
            "schedule_free_sgd",
            "schedule_free_adamw",
            "prodigy",
            "dadapt_adamw",
            "ademamix",
            "muon",
            "madgrad",
            "adopt",
            "acprop",
            "dowg",
        )
    },
    "own": lambda learning_rate: own(lambda k: learning_rate / (1 - 0.9 ** (k + 1))),
}
SAID = "Argument `factory`: the step depends on a count of the optimizer's own"


@pytest.mark.parametrize("kind", SCHEDULED)
def test_said(kind):
    with pytest.warns(UserWarning, match=SAID):
        rule = from_optax(SCHEDULED[kind], ETA)
        assert learning_rates(rule, 12) is None  # so that times are sums of `learning_rate`


def test_corrections_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for factory in CORRECTED.values():
            assert learning_rates(from_optax(factory, ETA), 12) is None


def test_a_run_says_it(monkeypatch):
    objective, start = Objective(lambda w, e: jnp.sum(0.5 * (w - e) ** 2), jnp.zeros(2)), jnp.ones(1)
    with pytest.warns(UserWarning, match=SAID):
        train(from_optax(lambda learning_rate: SCHEDULED["prodigy"](learning_rate), ETA), objective, start, steps=2)
    monkeypatch.setattr(counts_module, "_kind", lambda name, values: counts_module._CORRECTION)
    assert not counts_module.acts_as_schedule(from_optax(SCHEDULED["own"], 0.5 * ETA), {"w": jnp.ones((3, 2))})

"""A series belongs around all that a training step does: inside a wrapper it is refused, and claims no order."""

import dataclasses

import optax
import pytest

from equations import SGD, Momentum, ScalingLimit, decayed, modified, scheduled, volumized
from equations._modified.slow_manifold import SlowManifold
from validation import corrected

CASES = [
    ("series inside", "instance", "decayed(modified(SGD)): claims 2, slope .955", "test_refused[decayed]"),
    (
        "series inside",
        "instance",
        "a constant schedule around a series: claims 2, slope .963",
        "test_refused[scheduled]",
    ),
    ("series inside", "brother", "volumization, put there by dataclasses.replace", "test_refused[replaced]"),
    ("series inside", "brother", "a slaved memory", "test_refused[adiabatic]"),
    ("series inside", "brother", "the measured force", "test_refused[corrected]"),
    ("series inside", "brother", "a user's equation of order 2", "test_an_own_order_is_not_claimed"),
]

RULE, CONSTANT = SGD(0.2), optax.constant_schedule(0.2)
INSIDE = {
    "decayed": ("modified", lambda: decayed(modified(RULE), 0.5)),
    "scheduled": ("modified", lambda: scheduled(modified(RULE), CONSTANT)),
    "replaced": ("modified", lambda: dataclasses.replace(volumized(RULE, 0.5), equation=modified(RULE))),
    "adiabatic": ("modified", lambda: decayed(SlowManifold.of(modified(Momentum(0.2)).equation, 2), 0.5)),
    "corrected": ("corrected", lambda: scheduled(corrected(RULE), CONSTANT)),
}


class Better(SGD):
    """The flow of the modified loss, (w^2 + eta w^2/2)/2 at w^2/2, by hand."""

    def velocity(self, t, state, gradient):
        return super().velocity(t, state, gradient * (1 + self.learning_rate / 2))

    def scaling_limit(self):
        return ScalingLimit(self, orders=dict.fromkeys(("mean", "second moment", "variance/eta"), 2.0))


@pytest.mark.parametrize("kind", INSIDE)
def test_refused(kind):
    maker, make = INSIDE[kind]
    with pytest.raises(ValueError, match=f"Argument `equation` must not be a series: put `{maker}` outside"):
        make()


def test_an_own_order_is_not_claimed():
    """It is that of SGD's step, not of the step with decay; outside it is claimed."""
    assert (
        decayed(Better(0.2), 0.5).scaling_limit().claimed_order("mean") == 1
        and Better(0.2).scaling_limit().claimed_order("mean") == 2
    )
    with pytest.warns(UserWarning, match="a series of the twin"):
        assert modified(decayed(Better(0.2), 0.5)).scaling_limit().claimed_order("mean") == 2

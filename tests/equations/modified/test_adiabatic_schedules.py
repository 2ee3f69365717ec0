"""A slaved memory under a schedule, and the times of schedules inside Optax."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from schedules import ETA, QUARTIC, STILL, cosine_of, final
from typing_extensions import override

from dynamics import solve, train
from equations import Momentum, decayed, from_optax, modified, scheduled
from equations._modified.increment import Increment
from equations._modified.slow_manifold import SlowManifold
from validation import orders

CASES = [
    ("adiabatic", "instance", "momentum .5 with a cosine: .1126 for .00746, times to 4", "test_slaved[scheduled]"),
    ("adiabatic", "brother", "from_optax of momentum with a schedule inside", "test_slaved[from_optax]"),
    ("adiabatic", "brother", "Nesterov's, with decay outside the schedule", "test_slaved[nesterov]"),
    ("adiabatic", "brother", "the order of the series", "test_a_slaved_schedule_has_order_two"),
    (
        "adiabatic",
        "brother",
        "a momentum that is scheduled itself: failed at 1",
        "test_a_scheduled_memory_is_refused[momentum]",
    ),
    ("adiabatic", "brother", "Adam's b1", "test_a_scheduled_memory_is_refused[b1]"),
    ("adiabatic", "brother", "a rate in inject_hyperparams runs", "test_a_scheduled_memory_is_refused[rate]"),
    ("times", "instance", "sgd of a schedule", "test_times_are_sums_of_true_rates[sgd]"),
    ("times", "brother", "Adam of a schedule and a decay", "test_times_are_sums_of_true_rates[adamw]"),
    ("times", "brother", "a factor beside the rate", "test_times_are_sums_of_true_rates[factor]"),
    ("times", "brother", "inject_hyperparams", "test_times_are_sums_of_true_rates[injected]"),
    ("times", "brother", "a schedule before Adam, one of the decay", "test_a_schedule_of_something_else_is_said"),
]

ENDS = 0.2
INJECTED = optax.inject_hyperparams
LONG = 100


def momentum_with_a_schedule(kind):
    if kind == "from_optax":
        return from_optax(
            lambda learning_rate, momentum, decay_steps: optax.sgd(cosine_of(learning_rate, decay_steps), momentum),
            0.02, momentum=0.5, decay_steps=LONG, scaling={"decay_steps": lambda steps, factor: steps / factor},
        )  # fmt: skip
    rule = scheduled(
        Momentum(0.02, momentum=0.5, nesterov=kind == "nesterov"), optax.cosine_decay_schedule(1.0, LONG, ENDS)
    )
    return decayed(rule, 0.1) if kind == "nesterov" else rule


class AtItsEnd(SlowManifold):
    """Mutant: the schedule stands at its last value."""

    @override
    def _count(self, t):
        return None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scheduled", "from_optax", "nesterov"])
def test_slaved(kind):
    """As near to its twin as the series says, and its times are the twin's."""
    rule = momentum_with_a_schedule(kind)
    series = modified(rule, order=2, memory="adiabatic")
    (ran, twin), (last, run) = (
        (side.final[0], side)
        for side in (f(series, STILL, jnp.asarray(1.0), steps=LONG, save_every=LONG) for f in (train, solve))
    )
    np.testing.assert_allclose(run.times, twin.times, rtol=1e-12)
    assert 1.2 < run.times[-1] < 1.21  # and 2 if it were constant
    assert abs(last / ran - 1) < 0.03
    if kind == "scheduled":
        slaved = series.equation
        fields = {field.name: getattr(slaved, field.name) for field in dataclasses.fields(slaved)}
        mutant = eqx.tree_at(lambda e: e.equation, series, AtItsEnd(**fields))
        assert abs(final(mutant, steps=LONG)[0] / ran - 1) > 0.3


@pytest.mark.slow
def test_a_slaved_schedule_has_order_two():
    for kind in ("scheduled", "from_optax"):
        series = modified(momentum_with_a_schedule(kind), order=2, memory="adiabatic")
        report = orders(series, QUARTIC, jnp.asarray(1.0), time=2.0, learning_rates=[0.02, 0.01, 0.005])
        slope = report.slope["parameters"]["mean"]
        print(f"\n{kind}: slope {slope:.2f}")
        assert abs(slope - 2) < 0.15 and report.verdict["parameters"]["mean"] == "holds"


TRANSFORMATIONS = {
    "sgd": lambda learning_rate: optax.sgd(cosine_of(learning_rate, 50), 0.9, nesterov=True),
    "adamw": lambda learning_rate: optax.chain(
        optax.adamw(cosine_of(learning_rate, 50)), optax.add_decayed_weights(-0.1 * learning_rate)
    ),
    "factor": lambda learning_rate: optax.chain(
        optax.scale_by_adam(), optax.scale_by_schedule(cosine_of(1.0, 50)), optax.scale(-learning_rate)
    ),
    "injected": lambda learning_rate: optax.inject_hyperparams(optax.adam)(cosine_of(learning_rate, 50)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRANSFORMATIONS)
def test_times_are_sums_of_true_rates(kind):
    rule = from_optax(TRANSFORMATIONS[kind], ETA)
    with jax.numpy_dtype_promotion("standard"):
        wanted = ETA * np.asarray(jax.vmap(cosine_of(1.0, 50))(jnp.arange(20)), float)
    found = jax.vmap(rule.scaling_limit().learning_rate_at)(jnp.arange(20))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for other in (modified(rule), Increment.of(rule), decayed(rule, 0.1)):
        np.testing.assert_allclose(other.scaling_limit().learning_rate_at(jnp.asarray(7)), wanted[7], rtol=1e-6)


def test_a_schedule_of_something_else_is_said():
    """Before Adam it does not scale the step: the times are those of `learning_rate`, with a word; a decay's has none."""
    rule = from_optax(
        lambda learning_rate: optax.chain(optax.scale_by_schedule(cosine_of(1.0, 50)), optax.adam(learning_rate)), ETA
    )
    with pytest.warns(UserWarning, match="Argument `factory`: a schedule inside acts otherwise"):
        assert rule.scaling_limit().learning_rate_at(jnp.asarray(7)) is rule.learning_rate
    quiet = from_optax(
        lambda learning_rate: optax.inject_hyperparams(optax.adamw)(learning_rate, weight_decay=cosine_of(0.1, 50)), ETA
    )
    assert quiet.scaling_limit().learning_rate_at(jnp.asarray(7)) is quiet.learning_rate


SCHEDULED_MEMORY = {
    "momentum": lambda learning_rate: INJECTED(optax.sgd)(learning_rate, momentum=optax.linear_schedule(0.5, 0.9, 20)),
    "b1": lambda learning_rate: INJECTED(optax.adam)(learning_rate, b1=optax.linear_schedule(0.5, 0.9, 20)),
    "rate": lambda learning_rate: optax.chain(optax.trace(0.5), INJECTED(optax.sgd)(cosine_of(learning_rate, 20))),
}


@pytest.mark.parametrize("kind", SCHEDULED_MEMORY)
def test_a_scheduled_memory_is_refused(kind):
    series = modified(from_optax(SCHEDULED_MEMORY[kind], 0.02), order=2, memory="adiabatic")
    if kind == "rate":
        assert series.equation.unsettled(jnp.ones(1), running=True) is None
        return
    with pytest.raises(
        ValueError, match="Argument `memory` must be 'dynamic' for an algorithm whose memory forgets at a"
    ):
        series.check(jnp.asarray(1.0), STILL)

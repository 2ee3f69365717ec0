"""A scaling limit that forwards another one says of itself what that one says, and a rule for the batch size is checked."""

import dataclasses

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
    AMSGrad,
    ForwardedLimit,
    Langevin,
    Momentum,
    ScalingLimit,
    decayed,
    from_optax,
    modified,
    scheduled,
)
from equations._modified.truncated import TruncatedLimit

CASES = [
    ("attributes of a forwarded limit", "instance", "decayed Momentum", "test_attributes[momentum]"),
    ("attributes of a forwarded limit", "instance", "scheduled Langevin", "test_attributes[langevin]"),
    ("attributes of a forwarded limit", "instance", "scheduled Adam", "test_attributes[adam]"),
    ("attributes of a forwarded limit", "brother", "the orders of AMSGrad and of a series", "test_orders"),
    ("attributes of a forwarded limit", "brother", "all registered equations", "test_of_all"),
    ("attributes of a forwarded limit", "brother", "a threshold that a wrapper moves", "test_the_threshold"),
    ("attributes of a forwarded limit", "brother", "no arguments that are not read", "test_no_arguments"),
    ("attributes of a forwarded limit", "brother", "a mutant that forwards its methods alone", "test_mutant"),
    ("a series of a dynamics", "instance", "its own recorded times", "test_own_times"),
    ("a series of a dynamics", "brother", "natural time of a step and claimed orders", "test_own_clock"),
    ("a series of a dynamics", "brother", "another learning rate", "test_a_series_is_rescaled"),
    ("a rule for the batch size", "instance", "a rule that is none", "test_a_rule_for_the_batch_size[rule]"),
    ("a rule for the batch size", "instance", "no batch size", "test_a_rule_for_the_batch_size[none]"),
    ("a rule for the batch size", "brother", "a size that is none", "test_a_rule_for_the_batch_size[zero]"),
    ("a rule for the batch size", "brother", "of a dynamics", "test_a_rule_for_a_dynamics"),
]
HALF = optax.constant_schedule(0.5)
TOLD = [field.name for field in dataclasses.fields(ScalingLimit) if field.name not in ("equation", "orders")]


def told(limit):
    return {name: getattr(limit, name) for name in TOLD}


@pytest.mark.parametrize(
    "around, wanted",
    [
        (decayed(Momentum(0.04), 0.1), {"time": 0.2, "decays": {"momentum": 0.5}}),
        (scheduled(Momentum(0.04), HALF), {"time": 0.2, "decays": {"momentum": 0.5}, "threshold": 3.8}),
        (scheduled(Langevin(0.04), HALF), {"heat": True, "threshold": 2.0}),
        (scheduled(Adam(0.04), HALF), {"decays": {"b1": 1, "b2": 1}, "memory": ("b1", "b2")}),
        (modified(Momentum(0.04)), {"time": 0.2, "decays": {"momentum": 0.5}, "threshold": 3.8}),
        (modified(Momentum(0.04), memory="adiabatic"), {"threshold": 3.8}),
    ],
    ids=["momentum", "scheduled", "langevin", "adam", "series", "adiabatic"],
)
def test_attributes(around, wanted):
    nothing = {field: getattr(ScalingLimit(None), field) for field in TOLD}
    found = told(around.scaling_limit())
    for name, value in (nothing | wanted).items():
        if isinstance(value, float):
            np.testing.assert_allclose(float(found[name]), value, rtol=1e-6)
        else:
            assert found[name] == value, name


def test_orders():
    """By measure, where the claim is not 1."""
    around = decayed(AMSGrad(0.1, 1), 0.1)
    assert around.scaling_limit().orders == AMSGrad(0.1, 1).scaling_limit().orders == {"variance/eta": 0.5}
    twice = {"mean": 2.0, "second moment": 2.0}
    assert modified(SGD(0.1, 1)).scaling_limit().orders == twice
    assert modified(SGD(0.1, 1), fluctuations=True).scaling_limit().orders == twice | {"variance/eta": 2.0}
    assert scheduled(SGD(0.1), HALF).scaling_limit().orders == {}


def test_of_all():
    for entry in EQUATIONS.values():
        if entry.average:  # which nothing stands around
            continue
        for around in (scheduled(entry.equation, HALF), decayed(entry.equation, 0.1)):
            mine, inside = around.scaling_limit(), entry.equation.scaling_limit()
            for name in set(TOLD) - {"threshold"}:
                assert getattr(mine, name) == getattr(inside, name), name
            assert (mine.time is None) == (inside.time is None)
            np.testing.assert_array_equal(mine.time_per_step(), inside.time_per_step())


def edge(equation, curvature):
    """By how much a training step grows on a parabola, from the eigenvalues of one on parameters and memory."""
    twin = equation.twin()
    memory = twin.init(jnp.zeros(()))
    flat, unravel = jax.flatten_util.ravel_pytree((jnp.zeros(()), memory))

    def step(y):
        with jax.numpy_dtype_promotion("standard"):
            params, memory = unravel(y)
            updates, memory = twin.update(curvature * params, memory, params)
            return jax.flatten_util.ravel_pytree((params + updates, memory))[0].astype(y.dtype)

    return np.max(np.abs(np.linalg.eigvals(jax.jacfwd(step)(flat))))


def test_the_threshold():
    """Weight decay takes (1 + beta) eta lambda of that of momentum beta (derived): so there is none to be told."""
    eta, beta, decay = 0.04, 0.9, 1.0
    around = decayed(Momentum(eta, momentum=beta), decay)
    limit = (1 + beta) * (2 - eta * decay) / eta
    assert edge(around, 0.999 * limit) < 1 < edge(around, 1.001 * limit) < edge(around, 2 * (1 + beta) / eta)
    assert around.scaling_limit().threshold is None and scheduled(around, HALF).scaling_limit().threshold is None


def test_no_arguments():
    with pytest.raises(TypeError, match="unexpected keyword argument 'heat'"):
        ForwardedLimit(decayed(SGD(0.1), 0.1), heat=True)


def test_mutant():
    forgetful = type("Mutant", (ScalingLimit,), {"time_per_step": ForwardedLimit.time_per_step})
    around = decayed(Momentum(0.04), 0.1)
    assert told(forgetful(around)) != told(around.scaling_limit())


class Slowing(ScalingLimit):
    def learning_rate_at(self, step):
        return self.equation.learning_rate * jnp.where(step < 2, 1.0, 0.5)

    def time_per_step(self):
        return self.equation.learning_rate**2

    def claimed_order(self, measure):
        return 0.5


class Own(AbstractDynamics):
    learning_rate: jax.Array

    def drift(self, t, state, signal):
        return -state

    def scaling_limit(self):
        return Slowing(self)


OWN = Own(jnp.asarray(0.25))


@pytest.mark.slow
def test_own_times():
    """As of the dynamics itself."""
    for equation in (OWN, modified(OWN)):
        np.testing.assert_array_equal(solve(equation, None, jnp.ones(1), steps=4).times, [0, 0.25, 0.5, 0.625, 0.75])


def test_own_clock():
    """The order is that of the series, but of what it does not correct; a step takes its own time."""
    limit = modified(OWN, order=3).scaling_limit()
    assert limit.time_per_step() == limit.variance_scale() == 0.0625
    assert [limit.claimed_order(measure) for measure in ("mean", "second moment", "variance/eta")] == [3.0, 3.0, 0.5]
    forgetful = type("Mutant", (TruncatedLimit,), {"time_per_step": ScalingLimit.time_per_step})
    assert forgetful(modified(OWN)).time_per_step() == 0.25


def test_a_series_is_rescaled():
    limit = modified(OWN).scaling_limit()
    for scaled in (limit.rescaled(0.5), limit.at_fixed_memory(0.5)):
        assert type(scaled).__name__ == "ModifiedDynamics" and scaled.order == 2
        assert scaled.learning_rate == scaled.equation.learning_rate == 0.125


RULES = {
    "rule": (("quadratic", 8), "Argument `rule` must be one of 'linear', 'square_root', but 'quadratic'"),
    "zero": (("linear", 0), "Argument `batch_size`"),
    "half": (("square_root", 2.5), "Argument `batch_size`"),
    "none": (("linear", 8), "Argument `equation` must have a batch size, but None was given"),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_for_the_batch_size(name):
    """Of a limit as it is, of those that override the rule, and of wrappers and series."""
    given, words = RULES[name]
    size = None if name == "none" else 2
    plain = [kind(0.1, size) for kind in (SGD, Momentum, Adam)] + [from_optax(optax.sgd, 0.1, batch_size=size)]
    for equation in (*plain, decayed(SGD(0.1, size), 0.1), modified(Momentum(0.1, size))):
        with pytest.raises(TypeError if name == "half" else ValueError, match=words):
            equation.scaling_limit().at_batch_size(*given)


def test_a_rule_for_a_dynamics():
    for equation in (OWN, modified(OWN)):
        with pytest.raises(ValueError, match="Argument `equation` must have a batch size"):
            equation.scaling_limit().at_batch_size("linear", 8)
    assert ScalingLimit(SGD(0.1, 2)).at_batch_size("linear", 8).batch_size == 8

"""Steps whose stages do not show how stiff they are, where the landscape alone makes them unstable."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import some
from warned import solved

from dynamics import Strang
from dynamics._paths import fused as _fused
from dynamics._paths import trail as _trail
from dynamics._paths.trail import Trail
from equations import SGD, Adam, Momentum, Objective, averaged

CASES = [
    (
        "an unstable run that is recorded in every step",
        "instance",
        "SGD by default",
        "test_recorded_in_every_step[sgd]",
    ),
    ("an unstable run that is recorded in every step", "brother", "Heun's flow", "test_recorded_in_every_step[heun]"),
    (
        "an unstable run that is recorded in every step",
        "brother",
        "within the limit",
        "test_recorded_in_every_step[within]",
    ),
    (
        "an unstable run that is recorded in every step",
        "brother",
        "what a step was is forgotten at a record",
        "test_forgetting_at_records_is_caught",
    ),
    ("a landscape that is steep in between", "instance", "momentum under noise", "test_a_steep_place[momentum]"),
    ("a landscape that is steep in between", "instance", "Euler's substeps", "test_a_steep_place[euler]"),
    ("a landscape that is steep in between", "instance", "momentum without noise", "test_a_steep_place[flow]"),
    (
        "a landscape that is steep in between",
        "brother",
        "a splitting whose flow is Euler's",
        "test_a_steep_place[split]",
    ),
    ("a landscape that is steep in between", "brother", "'auto'", "test_auto_divides_the_steps_there"),
    ("a landscape that is steep in between", "brother", "one mode of many factors", "test_the_factor_of_a_mode"),
    ("a landscape that is steep in between", "brother", "noise alone, no steep place", "test_noise_alone"),
    ("a landscape that is steep in between", "brother", "two moves in a row alone", "test_two_moves_alone_are_caught"),
    (
        "a run in which nothing moves",
        "instance",
        "Adam averaged where all examples are fitted",
        "test_at_rest[averaged]",
    ),
    ("a run in which nothing moves", "brother", "momentum beyond its limit", "test_at_rest[momentum]"),
    ("a run in which nothing moves", "brother", "Adam", "test_at_rest[adam]"),
]


ROUND = Objective(lambda w, e: 0.5 * jnp.sum((w - e) ** 2), jnp.asarray([-0.1, 0.1]))
OFTEN = {  # the learning rate, the solver, and whether it is unstable; every step is a record
    "sgd": (2.6, None, True),
    "within": (1.5, None, False),
    "heun": (2.6, Strang(dfx.Heun()), True),
}


@pytest.mark.parametrize("name", some(OFTEN, ["sgd"]))
def test_recorded_in_every_step(name, key):
    rate, solver, unstable = OFTEN[name]
    _, messages = solved(SGD(rate, 1), ROUND, jnp.ones(2), steps=20, key=key, solver=solver)
    unstable_here = [message for message in messages if "unstable at the end" in message]
    assert len(messages) == len(unstable_here) == unstable, messages


FITTED = Objective(lambda w, e: 0.5 * (e @ w) ** 2, jnp.asarray([[1.0, 0.5], [-0.3, 2.0], [0.7, 1.1]]))
RESTING = {
    "averaged": lambda: averaged(Adam(0.01, batch_size=1)),
    "adam": lambda: Adam(0.01, batch_size=1),
    "momentum": lambda: Momentum(9.0, batch_size=1),
}


@pytest.mark.parametrize("name", some(RESTING, ["momentum"]))
def test_at_rest(name, key):
    """A minimum of every example is where a run stays, with nothing to be told of; beside it momentum's is unstable."""
    settings = dict(steps=8, save_every=8, key=key)
    still, messages = solved(RESTING[name](), FITTED, jnp.zeros(2), **settings)
    assert not messages and not np.any(still.final)
    if name == "momentum":
        assert "unstable" in solved(RESTING[name](), FITTED, jnp.full(2, 1e-9), **settings)[1][0]


@pytest.mark.slow
def test_forgetting_at_records_is_caught(monkeypatch, key):
    monkeypatch.setattr(_fused.Behind, "init", lambda self, terms, t0, t1, y0, args: _fused.Seen.none(y0))
    jax.clear_caches()
    assert not solved(SGD(2.6, 1), ROUND, jnp.ones(2), steps=20, key=key)[1]
    jax.clear_caches()


def valley(steepness):
    """A slope, on which a curvature across rises and falls again."""
    examples = jnp.asarray([0.1, -0.1])
    rise = lambda w: 0.1 + steepness * jnp.exp(-((w - 15) ** 2) / 20)  # noqa: E731
    return Objective(lambda w, e: -w[0] / 2 + rise(w[0]) * w[1] ** 2 / 2 + e * w[1], examples)


PLACES = {
    "momentum": (Momentum(0.5, 1, momentum=0.5), {}),
    "flow": (Momentum(0.5, momentum=0.5), dict(solver=Strang())),
    "euler": (SGD(1.0, 1), dict(solver=dfx.Euler(), substeps=2)),
    "split": (SGD(0.5, 1), dict(solver=Strang(dfx.Euler()))),
}
START, STEPS = jnp.asarray([0.0, 1.0]), dict(steps=60, save_every=60)


@pytest.mark.slow
@pytest.mark.parametrize("name", some(PLACES, ["flow"]))
def test_a_steep_place(name, key):
    equation, how = PLACES[name]
    trajectory, messages = solved(equation, valley(12.0), START, key=key, **STEPS, **how)
    assert len(messages) == 1 and "unstable in the course of the run" in messages[0], messages
    finer, messages = solved(equation, valley(12.0), START, key=key, **STEPS, **how | dict(substeps=16))
    assert not messages and abs(trajectory.final[0, 0] - finer.final[0, 0]) > 5
    assert not solved(equation, valley(2.0), START, key=key, **STEPS, **how)[1]


@pytest.mark.slow
def test_auto_divides_the_steps_there(key):
    chosen, messages = solved(PLACES["momentum"][0], valley(12.0), START, key=key, substeps="auto", **STEPS)
    assert not messages and int(dict(chosen.details)["substeps"]) > 1 and abs(chosen.final[0, 0] - 29) < 0.1


@jax.jit
def quotients(places):
    """Of a path through some places, `(steps, numbers)`, the quotient after each step but the first few."""

    def step(trail, pair):
        trail = trail.after(*pair)
        return trail, trail.quotient

    return jax.lax.scan(step, Trail.none(places[0]), (places[:-1], places[1:]))[1][20:]


def test_the_factor_of_a_mode():
    for factor in (0.9, -0.5, -0.99, -1.2):
        path = np.float64(factor) ** np.arange(60)[:, None] * np.asarray([1.0, -2.0])
        np.testing.assert_allclose(quotients(path), 1 - factor)
    assert not np.any(quotients(np.ones((60, 2))))


def stationary(momentum):
    """Of one weight under noise, with a curvature of 1/20 of the inverse rate."""
    noise, x, v, path = np.random.default_rng(0).standard_normal(100_000), 0.0, 0.0, []
    for kick in noise:
        v = momentum * v - 0.05 * x + kick
        x += v
        path.append([x])
    return np.asarray(path)


def test_noise_alone():
    for momentum in (0.5, 0.9):
        assert np.max(quotients(stationary(momentum))) < 2


@pytest.mark.slow
def test_two_moves_alone_are_caught(monkeypatch):
    monkeypatch.setattr(_trail, "_KEPT", 0.0)
    monkeypatch.setattr(_trail, "_KNOWN", 0.0)
    jax.clear_caches()
    assert np.mean(quotients(stationary(0.9)) > 2) > 0.01
    jax.clear_caches()

"""Steps without stages that show it, unstable only in the middle of a run, where a learning rate is the largest."""

import diffrax as dfx
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some
from warned import solved

from dynamics import Strang
from dynamics._health import course as _course
from dynamics._health import health as _health
from dynamics._health.course import _there
from equations import SGD, Adam, Momentum, Objective, scheduled

CASES = [
    (
        "a rate that rises and falls under steps without stages",
        "instance",
        "momentum, warm-up and decay",
        "test_the_top_of_a_rate[momentum]",
    ),
    ("a rate that rises and falls under steps without stages", "instance", "Adam", "test_the_top_of_a_rate[adam]"),
    (
        "a rate that rises and falls under steps without stages",
        "brother",
        "Euler's substeps",
        "test_the_top_of_a_rate[euler]",
    ),
    (
        "a rate that rises and falls under steps without stages",
        "brother",
        "a splitting whose flow is Euler's",
        "test_the_top_of_a_rate[split]",
    ),
    (
        "a rate that rises and falls under steps without stages",
        "brother",
        "momentum under noise",
        "test_the_top_of_a_rate[noise]",
    ),
    (
        "a rate that rises and falls under steps without stages",
        "brother",
        "a valley that is flat by then",
        "test_the_state_itself_is_looked_at",
    ),
    (
        "a rate that rises and falls under steps without stages",
        "brother",
        "a run that fails on the way",
        "test_a_run_that_failed",
    ),
    (
        "a rate that rises and falls under steps without stages",
        "brother",
        "'auto'",
        "test_auto_divides_the_steps_of_the_top",
    ),
    (
        "a rate that rises and falls under steps without stages",
        "brother",
        "a look at both ends alone",
        "test_a_look_at_the_ends_is_caught",
    ),
]

ROUND = Objective(lambda w, e: 0.5 * jnp.sum(jnp.asarray([1.0, 0.3]) * (w - e) ** 2), jnp.asarray([[-0.1], [0.1]]))
WARM = optax.warmup_cosine_decay_schedule(0.1, 1.0, 20, 60, 0.1)  # 35 steps are beyond half of the top


def found(equation, objective=ROUND, params=None, **settings):
    settings = dict(steps=60, save_every=60, solver=Strang()) | settings
    return solved(equation, objective, jnp.ones(2) if params is None else params, **settings)


MOMENTUM = lambda rate, size=None: scheduled(Momentum(rate, size, momentum=0.9), WARM)  # noqa: E731
# Adam's second moment is that of the slope, along which nothing is stiff.
SLOPE = Objective(lambda w, e: 2.0 * (w[0] - w[1]) ** 2 + (w[0] + w[1]) * e, jnp.ones(2))
BESIDE = dict(objective=SLOPE, params=jnp.asarray([1.0, 1.0 + 1e-6]))
TOPS = {  # beyond the limit, within it, and how it is solved
    "momentum": (MOMENTUM(8.0), MOMENTUM(2.5), {}),
    "noise": (MOMENTUM(8.0, 1), MOMENTUM(2.5, 1), {}),
    "adam": (scheduled(Adam(11.0), WARM), scheduled(Adam(6.0), WARM), BESIDE),
    "euler": (scheduled(SGD(5.0), WARM), scheduled(SGD(3.0), WARM), dict(solver=dfx.Euler(), substeps=2)),
    "split": (scheduled(SGD(2.5, 1), WARM), scheduled(SGD(1.5, 1), WARM), dict(solver=Strang(dfx.Euler()))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", some(TOPS, ["momentum", "euler"]))
def test_the_top_of_a_rate(name, key):
    beyond, within, how = TOPS[name]
    _, messages = found(beyond, key=key, **how)
    assert len(messages) == 1 and "unstable in the course of the run (step 21)" in messages[0], messages
    assert not found(within, key=key, **how)[1]


def test_the_state_itself_is_looked_at(monkeypatch):
    """Both ends would be unstable at the top, but the run is then between two valleys."""
    places = []
    monkeypatch.setattr(_course, "_there", lambda *args: places.append(args[1]) or _there(*args))
    valley = Objective(lambda w, e: w[1] ** 2 / 2 * jnp.square((w[0] - 3) / 3) - 0.036 * e * w[0], jnp.ones(2))
    start, how = jnp.asarray([0.0, 1e-3]), dict(solver=dfx.Euler(), substeps=2)
    trajectory, messages = found(scheduled(SGD(5.0), WARM), valley, start, **how)
    assert not messages and places and abs(trajectory.final[0, 0] - 6) < 1 and abs(trajectory.final[0, 1]) < 1e-3


def test_a_run_that_failed():
    """Before the step that it failed in it is looked at."""
    _, messages = found(MOMENTUM(400.0), params=jnp.ones(2))
    assert len(messages) == 1, messages


def test_auto_divides_the_steps_of_the_top():
    chosen, messages = found(MOMENTUM(8.0), substeps="auto")
    assert not messages and int(dict(chosen.details)["substeps"]) > 1 and np.all(np.abs(chosen.final) < 1)


@pytest.mark.slow
def test_a_look_at_the_ends_is_caught(monkeypatch):
    monkeypatch.setattr(_health, "top", lambda path: None)
    equation, _, how = TOPS["adam"]  # where the parameters themselves do not show it
    assert not found(equation, **how)[1]  # one message with the top

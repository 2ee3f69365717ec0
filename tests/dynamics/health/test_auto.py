"""`substeps="auto"`, where a solver fails or an equation is singular."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import some
from warned import solved

from dynamics._health import auto
from dynamics._health.failed import postponed
from dynamics._health.reach import memory_of
from equations import AdaGrad, Adam, AdamW, AMSGrad, NAdam, Objective, RMSProp, averaged, modified, volumized
from validation import compare

CASES = [
    (
        "a solver that fails after it was unstable",
        "instance",
        "RMSProp at .3 and .4",
        "test_the_solver_is_to_blame[0.3]",
    ),
    ("a solver that fails after it was unstable", "instance", "compare: refined fails too", "test_compare_says_so"),
    ("a solver that fails after it was unstable", "brother", "RMSProp at .4", "test_the_solver_is_to_blame[0.4]"),
    ("a solver that fails after it was unstable", "brother", "failures put off", "test_failures_that_are_put_off"),
    ("a solver that fails after it was unstable", "brother", "an end of its own", "test_an_equation_that_ends"),
    ("'auto' where an equation is singular", "instance", "Adam", "test_benign_runs[adam]"),
    ("'auto' where an equation is singular", "brother", "other rules with an empty memory", "test_benign_runs"),
    ("'auto' where an equation is singular", "brother", "one array in two places", "test_a_start_with_one_array_twice"),
    ("'auto' where an equation is singular", "brother", "a look at the start is caught", "test_a_look_at_it_is_caught"),
]

SCALES = jnp.asarray([1.0, 4.0, 10.0])
QUADRATIC = Objective(lambda w, e: 0.5 * jnp.sum(SCALES * (w - e) ** 2), jnp.zeros((4, 3)))
START = jnp.ones(3)


def found(equation, steps, objective=QUADRATIC, params=START, **settings):
    """The trajectory and the messages of its warnings."""
    return solved(equation, objective, params, steps=steps, save_every=steps, **settings)


RUNS = {"0.3": 60, "0.4": 80}


@pytest.mark.slow
@pytest.mark.parametrize("rate", some(RUNS, ["0.3"]))
def test_the_solver_is_to_blame(rate):
    """Where it fails the second moment has grown and the step is stable; what had grown before was not."""
    rule = RMSProp(float(rate), initial_scale=1.0)
    run, messages = found(rule, RUNS[rate])
    assert not run.ok.any() and len(messages) == 1 and "solver is unstable" in messages[0], messages
    chosen, messages = found(rule, RUNS[rate], substeps="auto")
    assert chosen.ok.all() and not messages and np.all(np.abs(chosen.final) < 1e-30)
    assert 1 < int(dict(chosen.details)["substeps"]) <= 16


@pytest.mark.slow
def test_compare_says_so():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = compare(RMSProp(0.3, initial_scale=1.0), QUADRATIC, START, steps=60, save_every=60)
    assert (result.failed["equation"], result.failed["refined"], result.failed["discrete"]) == (1, 1, 0)
    assert "The solver is unstable at substeps=1, and may be at 2" in str(result)


def test_failures_that_are_put_off():
    never = -np.ones(40, int)
    at = np.where(np.arange(40) < 20, 30, never)
    assert postponed(np.array([44]), np.array([60]), False) and postponed(np.array([44]), np.array([-1]), False)
    assert not postponed(np.array([44]), np.array([44]), False) and not postponed(np.array([44]), np.array([40]), False)
    assert postponed(at, never, True) and postponed(at, np.where(at > 0, 31, at), True)
    chance = np.where(np.arange(40) < 11, 31, np.where(at > 0, 29, at))  # eleven later and nine earlier
    assert not postponed(at, chance, True)


@pytest.mark.slow
def test_an_equation_that_ends():
    """dw = w^3 dt leaves in finite time, and shorter steps do not put that off."""
    run, messages = found(RMSProp(0.1, initial_scale=1.0, decay=1 - 1e-9), 30,
                          Objective(lambda w, e: -e * jnp.sum(w**4) / 4, jnp.ones(2)), substeps="auto")  # fmt: skip
    assert not run.ok.any() and len(messages) == 1 and "solver is unstable" not in messages[0], messages
    assert int(dict(run.details)["substeps"]) <= 4


BENIGN = {
    "adam": Adam(1e-3),
    "far": Adam(0.3),
    "adamw": AdamW(1e-3),
    "nadam": NAdam(1e-3),
    "amsgrad": AMSGrad(1e-3),
    "averaged": averaged(Adam(1e-3)),
    "volumized": volumized(Adam(1e-3), 2.0),
    "modified": modified(Adam(1e-3), order=2),
    "adagrad": AdaGrad(0.1),
}


@pytest.mark.parametrize("name", some(BENIGN, ["adam"]))
def test_benign_runs(name):
    run, messages = found(BENIGN[name], 30, substeps="auto")
    assert not messages and dict(run.details)["substeps"] == "1"


def test_a_look_at_it_is_caught(monkeypatch):
    monkeypatch.setattr(auto, "begins_singular", lambda path, begin: False)
    assert dict(found(BENIGN["adam"], 30, substeps="auto")[0].details)["substeps"] == "128"


def test_a_start_with_one_array_twice():
    """An average is at first the parameters: what is memory is told by its place, not by the array that is there."""
    rule = BENIGN["averaged"]
    start = rule.init(START)
    apart = jax.tree.map(lambda leaf: leaf + 0, start)
    assert len(memory_of(rule, start)) == len(memory_of(rule, apart)) == 3

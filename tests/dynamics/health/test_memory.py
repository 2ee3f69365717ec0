"""A run that is like one that was healthy launches no check; one that is not like it is looked at, and told of."""

import gc
import warnings
import weakref

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import Strang, solve
from dynamics._health import auto as _auto
from dynamics._health import health as _health
from dynamics._health.memory import HEALTHY, Healthy, run_of
from equations import SGD, Adam, Momentum, Objective, scheduled

CASES = [
    ("a warm call that is not healthy", "instance", "another learning rate", "test_a_warm_call_is_told[rate]"),
    ("a warm call that is not healthy", "brother", "another start", "test_a_warm_call_is_told[start]"),
    ("a warm call that is not healthy", "brother", "other data", "test_a_warm_call_is_told[data]"),
    ("a warm call that is not healthy", "brother", "fewer substeps", "test_a_warm_call_is_told[substeps]"),
    ("a warm call that is not healthy", "brother", "more steps under a schedule", "test_a_warm_call_is_told[steps]"),
    (
        "a warm call that is not healthy",
        "brother",
        "a flow of one stage, which has no quotient",
        "test_a_warm_call_is_told[solver]",
    ),
    ("a warm call that is not healthy", "brother", "the same once more", "test_what_was_told_is_told_again"),
    (
        "a warm call that is not healthy",
        "brother",
        "a memory that forgets the learning rate",
        "test_a_memory_without_the_rate_is_caught",
    ),
    (
        "a warm call that is not healthy",
        "brother",
        "stages that differ more than they did",
        "test_a_larger_quotient_is_looked_at",
    ),
    ("a warm call that pays for checks", "instance", "Adam under noise", "test_no_program_runs_twice[adam]"),
    ("a warm call that pays for checks", "brother", "momentum under noise", "test_no_program_runs_twice[momentum]"),
    ("a warm call that pays for checks", "brother", "Euler's substeps", "test_no_program_runs_twice[euler]"),
    ("data that a memory keeps", "instance", "a large array that is gone", "test_no_large_array_is_kept"),
    ("data that a memory keeps", "brother", "NumPy's, which may change in place", "test_arrays_that_may_change"),
    ("data that a memory keeps", "brother", "many runs", "test_few_runs_are_remembered"),
]

DATA = jnp.asarray([[1.0, 0.1], [1.0, 0.3]])
START = jnp.asarray([0.1, 0.1])


def loss(w, e):
    return jnp.sum(e * w**2 / 2 + w**4 / 4)


def rises(step):
    return 1 + step


def messages(equation, data=DATA, params=START, **settings):
    settings = dict(steps=3, save_every=3, solver=Strang()) | settings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solve(equation, Objective(loss, data), params, **settings)
    return [str(one.message) for one in caught]


CALM = (Momentum(2.0),)
WARM = {  # a healthy call, and what differs in one that is not
    "rate": (CALM, {}, (Momentum(8.0),), {}),
    "start": (CALM, {}, (*CALM, DATA, 20 * START), {}),
    "data": (CALM, {}, (*CALM, 4 * DATA), {}),
    "substeps": ((Momentum(8.0),), dict(substeps=4), (Momentum(8.0),), {}),
    "steps": ((scheduled(Momentum(1.0), rises),), dict(steps=2, save_every=2), (scheduled(Momentum(1.0), rises),), {}),
    "solver": ((SGD(2.2),), dict(solver=Strang(dfx.Dopri5())), (SGD(2.2),), dict(solver=Strang(dfx.Euler()))),
}


@pytest.mark.parametrize("name", WARM)
def test_a_warm_call_is_told(name):
    healthy, how, other, otherwise = WARM[name]
    assert not messages(*healthy, **how) and not messages(*healthy, **how)
    told = messages(*other, **otherwise)
    assert len(told) == 1 and "solver is unstable" in told[0], told


def test_what_was_told_is_told_again():
    first = messages(Momentum(8.0))
    assert len(first) == 1 and messages(Momentum(8.0)) == first and not messages(*CALM) and not messages(*CALM)
    assert messages(Momentum(8.0)) == first


def test_a_memory_without_the_rate_is_caught(monkeypatch):
    monkeypatch.setattr(_auto, "run_of", lambda dynamics, *rest: run_of(*rest[:-1], rest[-1][1:]))
    short = dict(steps=1, save_every=1)  # of which the quotient says nothing
    assert not messages(*CALM, **short) and not messages(
        Momentum(8.0), **short
    )  # one message where the rate is looked at


def test_a_larger_quotient_is_looked_at():
    run = run_of(SGD(0.1), START)
    HEALTHY.add(run, 2.0)
    assert HEALTHY.holds(run, 2.0, 1.0) and HEALTHY.holds(run, 2.5, 3.0)
    assert not HEALTHY.holds(run, 2.1, 1.0) and not HEALTHY.holds(run, np.nan, 1.0)
    assert not HEALTHY.holds(run_of(SGD(0.2), START), 0.0, 1.0)


QUIET = {
    "adam": (Adam(0.01, 1), Strang()),
    "momentum": (Momentum(0.1, 1), Strang()),
    "euler": (SGD(0.1, 1), dfx.Euler()),
}
PROGRAMS = ("pair_of", "jacobians", "_changes", "_bending", "_through_flow")


@pytest.mark.parametrize("name", QUIET)
def test_no_program_runs_twice(name, monkeypatch, key):
    equation, solver = QUIET[name]
    launched = []

    def counting(program):
        compiled = getattr(_health, program)
        return lambda *args: launched.append(program) or compiled(*args)

    for program in PROGRAMS:
        monkeypatch.setattr(_health, program, counting(program))
    settings = dict(steps=2, save_every=2, substeps=2, solver=solver)
    assert not messages(equation, key=key, **settings) and launched
    launched.clear()
    for again in (key, jax.random.key(1)):
        assert not messages(equation, key=again, **settings)
    assert not launched


@pytest.mark.slow
def test_no_large_array_is_kept():
    memory = Healthy()
    array = jnp.zeros(10**5)
    run = run_of(SGD(0.1), array)
    memory.add(run, 0.0)
    assert memory.holds(run_of(SGD(0.1), array), 0.0, 1.0)
    assert not memory.holds(run_of(SGD(0.1), array + 0), 0.0, 1.0)  # equal, but another, which is not read
    gone = weakref.ref(array)
    del array
    gc.collect()
    assert gone() is None and not memory.holds(run, 0.0, 1.0)


def test_arrays_that_may_change():
    assert run_of(np.zeros(10**5)) is None and run_of(set()) is None
    small = np.zeros(3)
    before = run_of(small)
    small[0] = 1.0
    assert before is not None and run_of(small) != before == run_of(np.zeros(3))
    assert run_of(np.zeros(3, np.float32)) != before and run_of(jnp.zeros(3)) == before


def test_few_runs_are_remembered():
    memory = Healthy()
    for count in range(100):
        memory.add(run_of(count), 0.0)
    held = [count for count in range(100) if memory.holds(run_of(count), 0.0, 1.0)]
    assert held == list(range(36, 100))

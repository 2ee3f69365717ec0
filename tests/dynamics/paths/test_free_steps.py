"""Solvers whose steps are no training steps read what is counted continuously, and stop where it jumps."""

import contextlib

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from schedules import (
    ETA,
    NOISY,
    PIECEWISE,
    QUARTIC,
    RULE,
    SCHEDULES,
    STEPS,
    STILL,
    cosine_of,
    final,
    rates_of,
)
from typing_extensions import override

from dynamics import LargeBatches, solve, train
from dynamics._coarse import coarse, missed_by_steps, of_large_batches
from dynamics._paths import held as held_module
from dynamics._problem import Problem
from equations import SGD, Momentum, Objective, modified, scheduled
from equations._modified.increment import Increment

CASES = [
    ("free steps", "instance", "a step-size controller across jumps", "test_a_controller_stops_at_jumps"),
    ("free steps", "instance", "the readings' orders, and those of mixtures", "test_two_readings_have_order_two"),
    ("free steps", "brother", "jumps between whole steps, under a trace; kinks", "test_jumps_are_found"),
    ("whole steps", "instance", "alternating, in steps of many", "test_steps_of_many_refuse_whole_steps[LargeBatches]"),
    (
        "whole steps",
        "brother",
        "where an error chooses the steps",
        "test_steps_of_many_refuse_whole_steps[solver_error]",
    ),
    ("whole steps", "brother", "smooth, but of a period of a step", "test_steps_of_many_that_do_not_follow"),
    ("whole steps", "brother", "what is smooth or jumps is none", "test_functions_of_whole_steps_are_told_apart"),
    ("whole steps", "instance", "larger at every third step", "test_whole_steps_are_held[third]"),
    ("whole steps", "instance", "larger at one step", "test_whole_steps_are_held[one]"),
    ("whole steps", "instance", "larger at odd steps", "test_whole_steps_are_held[odd]"),
    ("whole steps", "instance", "another one after a step", "test_whole_steps_are_held[after]"),
    ("whole steps", "brother", "an oscillation that whole steps do not see", "test_whole_steps_are_held[hidden]"),
    ("whole steps", "brother", "rounded to the next step", "test_whole_steps_are_held[rounded]"),
    ("whole steps", "brother", "under momentum, and in a series", "test_whole_steps_are_held[memory]"),
    ("whole steps", "brother", "a jump in what a run goes on with", "test_jumps_after_the_start_of_a_run"),
    ("whole steps", "brother", "a mutant that is not told of them", "test_whole_steps_that_are_not_told_of_miss"),
    ("whole steps", "brother", "under a trace", "test_whole_steps_under_a_trace"),
    ("free steps", "brother", "implicit solvers, StepTo, slaved memory", "test_what_cannot_stop_is_refused"),
]


class HeldWithDerivative(Increment):
    """Mutant: counts are held, but the series still differentiates the field along them."""

    @override
    def _counted(self, state):
        seen = super()._counted(state)
        if self._step is None:
            return seen

        def both(seen, leaf):
            real = seen.astype(leaf.dtype)
            return leaf + jax.lax.stop_gradient(real - leaf) if jnp.issubdtype(seen.dtype, jnp.integer) else seen

        return jax.tree.map(both, seen, state.memory)


class ContinuousWithout(Increment):
    """Mutant: counts are read continuously, but the series takes them for constants."""

    @override
    def _counted(self, state):
        return jax.lax.stop_gradient(super()._counted(state)) if self._step is None else super()._counted(state)


def slope(controller, kind):
    """log2 of the error's ratio between two learning rates, of the modified equation against the algorithm."""
    errors = []
    for halvings in (2, 3):
        rule = RULE.scaling_limit().rescaled(0.5**halvings)
        series = modified(rule, order=2)
        leading = kind(rule.learning_rate, rule.batch_size, rule.sampling, equation=rule)
        series = eqx.tree_at(lambda e: e.equation, series, leading)
        options = dict(steps=16 * 2**halvings, save_every=16 * 2**halvings)
        ran = train(rule, QUARTIC, jnp.asarray(1.0), **options).final[0]
        errors.append(
            abs(
                float(
                    solve(series, QUARTIC, jnp.asarray(1.0), stepsize_controller=controller, **options).final[0] - ran
                )
            )
        )
    return np.log2(errors[0] / errors[1])


@pytest.mark.slow
def test_two_readings_have_order_two():
    """And mixtures of them 1."""
    free = dfx.PIDController(rtol=1e-10, atol=1e-10)
    found = {
        "held": slope(None, Increment),
        "continuous": slope(free, Increment),
        "held with df/dt": slope(None, HeldWithDerivative),
        "continuous without df/dt": slope(free, ContinuousWithout),
    }
    print(f"\n{found}")
    assert all(abs(found[name] - 2) < 0.25 for name in ("held", "continuous"))
    assert all(found[name] < 1.4 for name in ("held with df/dt", "continuous without df/dt"))


@pytest.mark.slow
def test_a_controller_stops_at_jumps():
    """The closed form at its tolerance, in both precisions; the details say how a run reads what it counts."""
    controller = dfx.PIDController(rtol=1e-9, atol=1e-9)
    for name, count in (("piecewise", 2), ("staircase", 3)):
        rates = rates_of(SCHEDULES[name])
        last, run = final(modified(scheduled(SGD(ETA), SCHEDULES[name])), stepsize_controller=controller)
        np.testing.assert_allclose(last, np.exp(-np.sum(rates + rates**2 / 2)), rtol=1e-7)
        assert ("counts", f"continuous, stopping at {count} jumps") in run.details
    small = Objective(STILL.loss, STILL.data.astype(jnp.float32))
    last, _ = final(scheduled(SGD(ETA), PIECEWISE), jnp.ones((), jnp.float32), small,
                    stepsize_controller=dfx.PIDController(rtol=1e-5, atol=1e-6))  # fmt: skip
    np.testing.assert_allclose(last, np.exp(-rates_of(PIECEWISE).sum()), rtol=1e-4)
    _, run = final(scheduled(SGD(ETA), cosine_of(1.0, STEPS)), stepsize_controller=controller)
    assert ("counts", "continuous, stopping at 0 jumps") in run.details


def test_jumps_are_found():
    """And kinks, steep slopes and float32 schedules are none."""
    smooth = [
        SCHEDULES["warm_up"],
        cosine_of(1.0, 5),
        optax.exponential_decay(1.0, 1, 0.3),
        optax.polynomial_schedule(1.0, 0.0, 3, 9),
        optax.piecewise_interpolate_schedule("cosine", 1.0, {3: 0.1, 6: 5.0}),
        lambda k: 1.0 + jnp.sin(k) ** 2,
    ]
    for schedule in smooth:
        assert held_module.jumps(scheduled(SGD(ETA), schedule), 20)[0].size == 0
    wanted = {"piecewise": [4, 8], "staircase": [3, 6, 9, 12, 15, 18], "then_zero": [5], "restarts": [4, 8]}
    for name, steps in wanted.items():
        np.testing.assert_array_equal(held_module.jumps(scheduled(SGD(ETA), SCHEDULES[name]), 20)[0], steps)
    stretched = scheduled(SGD(ETA), PIECEWISE).scaling_limit().rescaled(0.7)  # jumps at 5.71 and 11.43
    stops, tops = held_module.jumps(stretched, 20)
    np.testing.assert_array_equal(stops, [6, 12])
    assert np.all(tops[:2] < np.array([5.7, 11.4])) and np.all(tops[:2] > stops - 1) and tops[2] == 20
    traced = jax.jit(lambda rate: held_module.jumps(scheduled(SGD(rate), PIECEWISE), 20))(ETA)
    np.testing.assert_array_equal(traced[0][:3], [4, 8, np.inf])
    np.testing.assert_array_equal(traced[1][:3], [4, 8, 20])


@pytest.mark.slow
def test_what_cannot_stop_is_refused():
    rule, controller = scheduled(SGD(ETA), PIECEWISE), dfx.PIDController(rtol=1e-6, atol=1e-6)
    slaved = modified(scheduled(Momentum(ETA, momentum=0.5), PIECEWISE), memory="adiabatic")
    for error, name, call in (
        (ValueError, "solver", lambda: final(rule, solver=dfx.Kvaerno3(), stepsize_controller=controller)),
        (TypeError, "stepsize_controller", lambda: final(rule, stepsize_controller=dfx.StepTo(jnp.arange(13.0)))),
        (ValueError, "stepsize_controller", lambda: final(slaved, stepsize_controller=controller)),
    ):
        with pytest.raises(error, match=f"Argument `{name}`"):
            call()


WHOLE = {
    "third": lambda k: jnp.where(k % 3 == 0, 1.5, 0.2),
    "one": lambda k: jnp.where(k == 10, 8.0, 0.5),
    "odd": lambda k: jnp.where(k % 2 == 1, 1.5, 0.2),
    "after": lambda k: jnp.where(k > 7, 1.5, 0.2),
    "hidden": lambda k: 0.2 + 1.3 * jnp.cos(jnp.pi * k) ** 2,
    "table": lambda k: jnp.where(k == 4, 0.1, cosine_of(1.0, STEPS)(k)),
}
ROUNDED = lambda k: jnp.where(jnp.round(k) % 3 == 2, 1.5, 0.2)  # noqa: E731  # jumps between steps, in the last one too
SLOW = ("one", "odd", "after", "hidden", "rounded", "memory")
FREE = dfx.PIDController(rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_functions_of_whole_steps_are_told_apart():
    """From smooth ones, however steep or periodic, and from those that jump."""

    def told(schedule, steps=30):
        return bool(held_module.of_whole_steps(scheduled(SGD(ETA), schedule), steps))

    assert all(told(schedule) for schedule in WHOLE.values())
    others = [
        *SCHEDULES.values(),
        ROUNDED,
        cosine_of(1.0, 5),
        lambda k: 0.85 + 0.65 * jnp.cos(jnp.pi * k),  # of which integral and sum are the same
        lambda k: 1.0 + jnp.sin(k) ** 2,
        lambda k: 2.0 ** -jnp.asarray(k, float),
        lambda k: (k / 30) ** 0.1,
        lambda k: jnp.exp(-0.3 * (k % 5)),
        lambda k: jnp.asarray([1.5, 0.2, 0.7])[jnp.asarray(k, int) % 3],
        optax.linear_onecycle_schedule(30, 1.0),
        optax.polynomial_schedule(1.0, 0.0, 3, 9),
    ]
    assert not any(map(told, others)) and not any(told(others[0], steps) for steps in (0, 1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["third", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_whole_steps_are_held(name):
    """Where a controller chooses the steps: the state is where the times say."""
    schedule = {**WHOLE, "rounded": ROUNDED, "memory": WHOLE["third"]}[name]
    last, run = final(scheduled(SGD(ETA), schedule), stepsize_controller=FREE)
    np.testing.assert_allclose(last, np.exp(-run.times[-1]), rtol=1e-7)
    np.testing.assert_allclose(run.times[-1], rates_of(schedule).sum(), rtol=1e-12)
    assert dict(run.details)["counts"].startswith(
        "continuous" if name == "rounded" else "held within a training step, "
    )
    if name != "memory":
        return
    for rule in (scheduled(Momentum(ETA, momentum=0.3), schedule), modified(scheduled(SGD(ETA), schedule))):
        np.testing.assert_allclose(final(rule, stepsize_controller=FREE)[0], final(rule, substeps=8)[0], rtol=1e-6)


@pytest.mark.slow
def test_whole_steps_that_are_not_told_of_miss(monkeypatch):
    """Mutant: a function of whole steps is read between them like any other."""
    monkeypatch.setattr(held_module, "of_whole_steps", lambda *args: jnp.zeros((), bool))
    last, run = final(scheduled(SGD(ETA), WHOLE["third"]), stepsize_controller=FREE)
    assert abs(last / np.exp(-rates_of(WHOLE["third"]).sum()) - 1) > 0.01


@pytest.mark.slow
def test_jumps_after_the_start_of_a_run():
    for schedule in (PIECEWISE, WHOLE["third"]):
        rule = scheduled(SGD(ETA), schedule)
        _, run = final(rule, steps=6, stepsize_controller=FREE, adjoint=None)
        more = solve(rule, STILL, start=run, steps=6, save_every=6, stepsize_controller=FREE)
        np.testing.assert_allclose(more.final[0], np.exp(-rates_of(schedule).sum()), rtol=1e-7)


@pytest.mark.slow
def test_whole_steps_under_a_trace():
    for schedule in (PIECEWISE, WHOLE["third"]):
        run = jax.jit(lambda rate, s=schedule: final(scheduled(SGD(rate), s), stepsize_controller=FREE)[0])
        np.testing.assert_allclose(run(ETA), np.exp(-rates_of(schedule).sum()), rtol=1e-7)


@pytest.mark.parametrize("argument", ["LargeBatches", "solver_error"])
def test_steps_of_many_refuse_whole_steps(argument, key):
    how, name = {"solver": LargeBatches(4)}, "odd"
    if argument == "solver_error":
        how, name = {"solver_error": 0.1, "observe": {"w": lambda w: w}}, "third"
    with pytest.raises(ValueError, match="for Scheduled, whose schedule is a function of whole training steps"):
        solve(scheduled(SGD(ETA, 1), WHOLE[name]), NOISY, jnp.ones(()), steps=12, save_every=12, key=key, **how)


@pytest.mark.slow
def test_steps_of_many_that_do_not_follow():
    """A period of a step of the solver, which reads the same value again and again, is told of; a slow one is not."""
    for period, missed in ((4, True), (24, False)):
        rule = scheduled(SGD(ETA, 1), lambda k, period=period: 1.0 + 0.9 * jnp.cos(2 * jnp.pi * k / period))
        problem = Problem.of(rule, NOISY, jnp.ones(())).scheduled(24, 1, 24, None)
        assert (missed_by_steps(coarse(problem, 6)) > 0.05) is missed
        with pytest.warns(UserWarning, match="`n` of LargeBatches") if missed else contextlib.nullcontext():
            of_large_batches(problem, LargeBatches(4))

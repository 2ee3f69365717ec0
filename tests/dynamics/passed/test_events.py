"""Events and times of output of noise-free equations, and errors where a path fails."""

import re

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
import pytest
from marks import some

from dynamics import Trajectory, solve
from equations import SGD, AbstractDynamics, Adam, Objective, scheduled

CASES = [
    ("events and times", "instance", "a ball that hits the ground, found by Newton", "test_a_ball"),
    (
        "events and times",
        "brother",
        "a condition that is true or false, at constant steps",
        "test_a_loss_that_is_reached",
    ),
    ("events and times", "brother", "times of output, at both kinds of steps", "test_times"),
    ("events and times", "brother", "a first step of the algorithm's own, and a schedule", "test_rules"),
    ("events and times", "brother", "a path that fails, with and without an error", "test_failure"),
    ("events and times", "brother", "noise and arguments that are none", "test_refused"),
    ("events and times", "instance", "what is saved of the end", "test_what_is_said_of_the_end_is_saved"),
    ("events and times", "brother", "conditions that fail", "test_conditions_that_are_none"),
    ("events and times", "brother", "mutant: times taken for steps", "test_times"),
    ("going on", "instance", "to an event", "test_goes_on_to_an_event"),
    ("going on", "brother", "at times, from times and under a schedule", "test_goes_on_at_times"),
    ("going on", "brother", "after an event", "test_no_step_after_an_event"),
]

HEIGHT, GRAVITY = 10.0, 8.0


class Ball(AbstractDynamics):
    """A height and its velocity."""

    def drift(self, t, state, signal):
        return jnp.stack([state[1], jnp.asarray(-GRAVITY, state.dtype)])


class Decay(AbstractDynamics):
    def drift(self, t, state, signal):
        return -state


def is_ground(t, y, args, **kwargs):
    return y[0]


@pytest.mark.slow
@pytest.mark.parametrize("events", [True, False])
def test_what_is_said_of_the_end_is_saved(events, tmp_path):
    """Of paths that met their event and of others; a run without either says nothing of it."""
    low = dfx.Event(lambda t, y, args, **kwargs: y[0] < 0.8)
    options = dict(event=low) if events else dict(saveat=dfx.SaveAt(ts=[0.1, 0.3]), keep_states=True)
    run = solve(Decay(), None, jnp.ones(1), steps=4, dt=0.1, paths=2, observe={"y": lambda y: y[0]}, **options)
    run.save(tmp_path / "run.nc")
    again = Trajectory.load(tmp_path / "run.nc", like=jnp.ones(1))
    expected = dfx.RESULTS.event_occurred if events else dfx.RESULTS.successful
    assert np.all(again.result == expected) and np.array_equal(again.stopped_at, run.stopped_at)
    np.testing.assert_array_equal(again.times, run.times)
    again.save(tmp_path / "again.nc")
    assert np.all(Trajectory.load(tmp_path / "again.nc", like=jnp.ones(1)).result == run.result)
    plain = solve(Decay(), None, jnp.ones(1), steps=1, dt=0.1)
    plain.save(tmp_path / "plain.nc")
    again = Trajectory.load(tmp_path / "plain.nc", like=jnp.ones(1))
    assert again.result is None and again.stopped_at is None


CONDITIONS = {
    "fails": (lambda t, y, args, **kwargs: {}["zz"], "but one fails: KeyError: 'zz'"),
    "arguments": (lambda t, y: y[0] > 0, "but one fails: TypeError: .*unexpected keyword"),
    "shape": (lambda t, y, args, **kwargs: y > 0, r"give one number or bool, but one gives bool of shape \(1,\)"),
    "number": (3, "but one fails: TypeError: 'int' object is not callable"),
    "one of two": ((is_ground, lambda t, y, args, **kwargs: y.zz), "but one fails: AttributeError"),
}


@pytest.mark.parametrize("kind", CONDITIONS)
def test_conditions_that_are_none(kind):
    condition, words = CONDITIONS[kind]
    with pytest.raises(ValueError, match=f"Argument `event` must have conditions that .*{words}"):
        solve(Decay(), None, jnp.ones(1), steps=4, dt=0.1, event=dfx.Event(condition))


CONTROL = dfx.PIDController(rtol=1e-8, atol=1e-8)
NEWTON = optx.Newton(1e-10, 1e-10, optx.rms_norm)


@pytest.mark.slow
@pytest.mark.parametrize("control", [None, CONTROL], ids=["constant", "adaptive"])
def test_a_ball(control):
    """It hits the ground at sqrt(2h/g), and stays there."""
    hit = np.sqrt(2 * HEIGHT / GRAVITY)
    run = solve(Ball(), None, jnp.array([HEIGHT, 0.0]), steps=40, dt=0.1, event=dfx.Event(is_ground, NEWTON), paths=2,
                stepsize_controller=control, observe={"y": lambda y: y})  # fmt: skip
    np.testing.assert_allclose(run.stopped_at, hit, rtol=1e-6)
    np.testing.assert_allclose(run.final, [[0.0, -GRAVITY * hit]] * 2, atol=1e-6)
    assert run.ok.all() and np.all(run.result == dfx.RESULTS.event_occurred)
    t = np.minimum(np.asarray(run.times), hit)
    wanted = np.stack([HEIGHT - GRAVITY * t**2 / 2, -GRAVITY * t], axis=1)
    np.testing.assert_allclose(run.observables["y"][0], wanted, atol=1e-5)


@pytest.mark.slow
def test_a_loss_that_is_reached():
    """At the end of the step; time and state are the dynamics' own."""
    low = dfx.Event(lambda t, y, args, **kwargs: (y[0] < 0.5) & (t > 0.5))
    run = solve(Decay(), None, jnp.ones(1), steps=20, dt=0.1, event=low, substeps=2)
    np.testing.assert_allclose(run.stopped_at, [0.7], rtol=1e-12)
    np.testing.assert_allclose(run.final, [[np.exp(-0.7)]], rtol=1e-6)


@pytest.mark.parametrize("control", some([None, CONTROL], [None]), ids=["constant", "adaptive"])
def test_times(control):
    ts = jnp.array([0.0, 0.05, 0.33, 1.0])
    run = solve(Decay(), None, jnp.ones(1), steps=10, dt=0.1, saveat=dfx.SaveAt(ts=ts), keep_states=True,
                stepsize_controller=control, observe={"y": lambda y: y[0]})  # fmt: skip
    np.testing.assert_allclose(run.observables["y"][0], np.exp(-ts), rtol=1e-6)
    assert np.abs(run.observables["y"][0] - np.exp(-0.1 * ts)).max() > 0.1
    np.testing.assert_allclose(run.states[0, :, 0], np.exp(-ts), rtol=1e-6)
    np.testing.assert_array_equal(run.times, ts)
    np.testing.assert_array_equal(run.steps, [0, 0, 3, 10])
    assert np.all(np.isinf(run.stopped_at)) and np.all(run.result == dfx.RESULTS.successful)
    assert run.to_xarray()["y"].shape == (1, 4)


@pytest.mark.slow
def test_rules():
    """The same as without an event that never comes."""
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.array([[0.5], [-0.5]]))
    never = dfx.Event(lambda t, y, args, **kwargs: t < 0)
    for rule in (Adam(0.1), scheduled(SGD(0.1), optax.piecewise_constant_schedule(1.0, {3: 0.5}))):
        options = dict(steps=8, save_every=2, observe={"w": lambda w: w})
        runs = [solve(rule, objective, jnp.ones(1), event=event, **options) for event in (None, never)]
        np.testing.assert_allclose(runs[0].observables["w"], runs[1].observables["w"], rtol=1e-6)
        np.testing.assert_array_equal(runs[0].times, runs[1].times)


class Blowing(AbstractDynamics):
    """dx = x^2 dt, which leaves at 1/x."""

    def drift(self, t, state, signal):
        return state**2


def test_failure():
    options = dict(steps=20, dt=0.1, saveat=dfx.SaveAt(t0=True, ts=[0.5, 1.5], t1=True), observe={"y": lambda y: y})
    run = solve(Blowing(), None, jnp.ones(1), **options)
    assert not run.ok.any() and run.failed_at[0] > 9 and np.all(np.isfinite(run.final))
    np.testing.assert_allclose(run.observables["y"][0, :2, 0], [1.0, 2.0], rtol=1e-4)
    np.testing.assert_array_equal(run.observables["y"][0, 2:], run.observables["y"][0, [1, 1]])
    np.testing.assert_array_equal(run.final[0], run.observables["y"][0, 1])
    with pytest.raises(eqx.EquinoxRuntimeError, match="A path diverged"):
        solve(Blowing(), None, jnp.ones(1), throw=True, **options)


def test_refused():
    def refused(reason, error=ValueError, equation=None, objective=None, **options):
        options = {"steps": 4, "dt": 0.1} | options
        with pytest.raises(error, match=re.escape(reason)):
            solve(equation or Decay(), objective, jnp.ones(1), **options)

    event, ts = dfx.Event(is_ground), dfx.SaveAt(ts=[0.1])
    refused("`event` must be a diffrax.Event or None", TypeError, event=is_ground)
    refused("`saveat` must be a diffrax.SaveAt or None", TypeError, saveat=[0.1])
    refused("`throw` must be True or False", TypeError, throw=1)
    for saveat in (dfx.SaveAt(steps=True), dfx.SaveAt(ts=[0.1], dense=True), dfx.SaveAt(t1=True, fn=is_ground)):
        refused("`saveat` must be diffrax.SaveAt(ts=...)", saveat=saveat)
    nan = float("nan")
    for times in ([0.2, 0.1], [-0.1], [0.5], [nan, 0.1], [0.1, nan], [nan], [0.1, float("inf")]):
        refused("`saveat` must have times that rise from 0", saveat=dfx.SaveAt(ts=times))
    refused("`substeps` must be an integer", event=event, substeps="auto")
    refused("`steps` must be at most 50000", event=event, steps=50001)
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.array([[0.5], [-0.5]]))
    noisy = {"equation": SGD(0.1, 2), "objective": objective, "dt": None, "key": jax.random.key(0)}
    for options in ({"event": event}, {"saveat": ts}):
        refused("must be None for an equation with noise", **options, **noisy)
    falling = scheduled(SGD(0.1), lambda step: 1 / (1 + step))
    refused(
        "`saveat` must be None where the learning rate changes",
        equation=falling,
        objective=objective,
        dt=None,
        saveat=ts,
    )


@pytest.mark.slow
def test_goes_on_to_an_event():
    """From where nothing was met; paths that differ end at times of their own, one that failed stays."""
    low = dfx.Event(lambda t, y, args, **kwargs: y[0] - 0.5, NEWTON)
    starts = jnp.array([[1.0], [0.8], [0.55]])
    half = solve(Decay(), None, starts, steps=4, dt=0.01, per_path=True, paths=3)
    rest = solve(Decay(), None, start=half, steps=96, dt=0.01, event=low)
    np.testing.assert_allclose(rest.stopped_at, np.log(starts[:, 0] / 0.5), rtol=1e-6)
    np.testing.assert_allclose(rest.final, 0.5, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(rest.times)[[0, -1]], [0.04, 1.0])
    whole = solve(Decay(), None, jnp.ones(1), steps=8, dt=0.01, event=low, observe={"y": lambda y: y})
    first = solve(Decay(), None, jnp.ones(1), steps=4, dt=0.01, event=low)
    second = solve(Decay(), None, start=first, steps=4, dt=0.01, event=low, observe={"y": lambda y: y})
    np.testing.assert_allclose(second.observables["y"][0], whole.observables["y"][0, 4:], rtol=1e-12)
    assert first.final_state.shape == (1, 1) and np.isinf(second.stopped_at[0])


@pytest.mark.slow
@pytest.mark.parametrize("control", some([None, CONTROL], [None]), ids=["constant", "adaptive"])
def test_goes_on_at_times(control, tmp_path):
    """Which are those of the whole run; mutant: counted from its beginning."""
    rule = scheduled(Adam(0.1), optax.piecewise_constant_schedule(1.0, {3: 0.5}))
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.array([[0.5], [-0.5]]))
    for given, ts in ((SGD(0.1), [0.45, 0.8]), (rule, None)):
        options = dict(stepsize_controller=control, observe={"w": lambda w: w})
        options |= dict(event=dfx.Event(lambda t, y, args, **kwargs: t < 0)) if ts is None else {}
        at = {} if ts is None else dict(saveat=dfx.SaveAt(ts=ts))
        whole = solve(given, objective, jnp.ones(1), steps=8, **options, **at)
        half = solve(
            given,
            objective,
            jnp.ones(1),
            steps=4,
            **options,
            **({} if ts is None else dict(saveat=dfx.SaveAt(t1=True))),
        )
        half.save(tmp_path / "half.nc")
        rest = solve(
            given, objective, start=Trajectory.load(tmp_path / "half.nc", like=jnp.ones(1)), steps=4, **options, **at
        )
        np.testing.assert_allclose(rest.final, whole.final, rtol=1e-6 if control else 1e-10)
        seen = whole.observables["w"] if ts else whole.observables["w"][:, 4:]
        np.testing.assert_allclose(rest.observables["w"], seen, rtol=1e-6)
        np.testing.assert_array_equal(rest.steps, [4, 8] if ts else [4, 5, 6, 7, 8])
    with pytest.raises(ValueError, match="`saveat` must have times that rise from 0.4 or later to at most 0.8"):
        half = solve(SGD(0.1), objective, jnp.ones(1), steps=4)
        solve(SGD(0.1), objective, start=half, steps=4, saveat=dfx.SaveAt(ts=[0.1]))


def test_no_step_after_an_event(tmp_path):
    """In memory and from disk."""
    run = solve(Decay(), None, jnp.ones(1), steps=4, dt=0.1, event=dfx.Event(lambda t, y, args, **kwargs: y[0] < 0.8))
    run.save(tmp_path / "run.nc")
    for start in (run, Trajectory.load(tmp_path / "run.nc", like=jnp.ones(1))):
        with pytest.raises(ValueError, match="Argument `start` must be .* but this one stopped at an event"):
            solve(Decay(), None, start=start, steps=4, dt=0.1)

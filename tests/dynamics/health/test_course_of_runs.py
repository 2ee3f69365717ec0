"""Faults of a solver in the middle of a run, over many steps, on one path of many or on one of many coordinates."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from marks import some
from warned import solved

from dynamics import Strang
from dynamics._health import stability
from dynamics._health.auto import _more, looked_at
from dynamics._health.failed import rescued, tell_start
from dynamics._health.health import Health
from dynamics._paths.keys import path_keys
from dynamics._paths.path import Path
from dynamics._paths.quotient import Peak
from dynamics._paths.record import Places
from equations import SGD, AbstractDynamics, Momentum, Objective, scheduled

CASES = [
    (
        "a solver that is unstable in the middle of a run",
        "instance",
        "a rate that rises and falls, sin^2",
        "test_the_course_of_a_run[bell]",
    ),
    (
        "a solver that is unstable in the middle of a run",
        "instance",
        "a curvature that rises and falls",
        "test_the_course_of_a_run[valley]",
    ),
    (
        "a solver that is unstable in the middle of a run",
        "brother",
        "the flow of a splitting under noise",
        "test_the_course_of_a_run[noise]",
    ),
    (
        "a solver that is unstable in the middle of a run",
        "brother",
        "Heun's shorter interval",
        "test_the_course_of_a_run[heun]",
    ),
    (
        "a solver that is unstable in the middle of a run",
        "brother",
        "a state inside a run is that of the run",
        "test_a_second_run_is_the_same",
    ),
    ("a damped oscillation that grows slowly", "instance", "momentum .995 over 1000 steps", "test_slow_growth[tsit5]"),
    (
        "a damped oscillation that grows slowly",
        "instance",
        "momentum .999 over 1500 steps, Heun",
        "test_slow_growth[heun]",
    ),
    ("a damped oscillation that grows slowly", "brother", "Euler's substeps", "test_modes_by_the_length_of_the_run"),
    ("a damped oscillation that grows slowly", "brother", "a free oscillation", "test_modes_by_the_length_of_the_run"),
    ("failures by chance", "instance", "141 failures against 139", "test_paired_failures"),
    ("failures by chance", "brother", "21.5 % against 20 %", "test_paired_failures"),
    ("failures by chance", "brother", "nothing is random", "test_paired_failures"),
    (
        "strong noise that another solver or coordinate hides",
        "instance",
        "Euler's substeps at a saddle",
        "test_hidden_noise[euler]",
    ),
    (
        "strong noise that another solver or coordinate hides",
        "instance",
        "beside additive noise of 100",
        "test_hidden_noise[masked]",
    ),
    (
        "strong noise that another solver or coordinate hides",
        "brother",
        "a coordinate driven by another",
        "test_hidden_noise[driven]",
    ),
    (
        "strong noise that another solver or coordinate hides",
        "brother",
        "Euler's substeps, additive",
        "test_hidden_noise[additive]",
    ),
    ("the path and the numbers that are looked at", "instance", "the stiffest path, not the first", "test_which_path"),
    (
        "the path and the numbers that are looked at",
        "brother",
        "failures after the first step",
        "test_a_start_is_named_for_failures_in_step_one_alone",
    ),
    (
        "the path and the numbers that are looked at",
        "brother",
        "substeps that suffice are not doubled",
        "test_the_next_number",
    ),
    (
        "the path and the numbers that are looked at",
        "brother",
        "leaves of very different size",
        "test_leaves_are_measured_by_their_size",
    ),
]


ROUND = Objective(lambda w, e: 0.5 * jnp.sum((w - e) ** 2), jnp.zeros(2))
HUMP = lambda k: jnp.sin(jnp.pi * k / 60) ** 2  # noqa: E731  (one function, for which one run is compiled)
BELL = lambda rate, size=None: scheduled(SGD(rate, size), HUMP)  # noqa: E731
VALLEY = Objective(
    lambda w, e: e - w[0] + 0.5 * w[1] ** 2 * (0.1 + 6 * jnp.exp(-((w[0] - 15) ** 2) / 20)), jnp.zeros(1)
)
SPREAD = Objective(lambda w, e: 0.5 * jnp.sum((w - e) ** 2), jnp.asarray([-0.1, 0.1]))
COURSES = {  # beyond the limit, within it, the objective, the start, the number of steps, and the solver
    "bell": (BELL(5.0), BELL(3.0), ROUND, jnp.ones(2), 60, None),
    "valley": (SGD(1.0), SGD(0.5), VALLEY, jnp.asarray([0.0, 1.0]), 30, None),
    "noise": (BELL(5.0, 1), BELL(1.5, 1), SPREAD, jnp.ones(2), 60, None),
    "heun": (BELL(4.0), BELL(1.8), ROUND, jnp.ones(2), 60, dfx.Heun()),
}


@pytest.mark.parametrize("name", some(COURSES, ["bell", "heun"]))
def test_the_course_of_a_run(name, key):
    beyond, within, objective, start, steps, solver = COURSES[name]
    settings = dict(steps=steps, save_every=steps, solver=solver, key=key)
    _, messages = solved(beyond, objective, start, **settings)
    assert len(messages) == 1 and "unstable in the course of the run" in messages[0], messages
    assert not solved(within, objective, start, **settings)[1]
    if name == "bell":
        finer, messages = solved(beyond, objective, start, substeps="auto", **settings)
        assert not messages and np.all(np.abs(finer.final) < 1e-50)  # exp(-150) = 7e-66


@pytest.mark.slow
def test_a_second_run_is_the_same(key):
    """The state that is looked at is on the path itself, whatever its records and its Brownian motion."""
    settings = dict(dynamics=SGD(jnp.asarray(0.5), 1), signal=SPREAD.bind(None), static=None, observe={})
    settings |= dict(dt=jnp.asarray(0.5), solver=Strang(), adjoint=None, meter=dfx.NoProgressMeter(), keep_states=False)
    settings |= dict(first=np.zeros((), np.int32), owes=np.zeros((), bool), substeps=2, steps=np.asarray(6, np.int32))
    one = path_keys(key, 1)[0]

    def of(steps, save_every):
        path = Path(
            **settings | {"steps": np.asarray(steps, np.int32)},
            save_every=save_every,
            places=Places(steps // save_every),
        )
        return path, path.begin(jnp.ones(2), one)

    path, begin = of(6, 6)
    before = jax.jit(lambda step: path.before(begin, one, step))(jnp.asarray(5))
    reached = path._complete(before, True, jnp.asarray(4))  # with the half flow that is owing
    path, begin = of(4, 2)
    terminal = jax.jit(lambda: path(begin, one))()[1].recorded
    np.testing.assert_allclose(reached, terminal, rtol=1e-12)
    assert np.any(np.abs(before - terminal) > 1e-3)


LONG = {
    "tsit5": (Momentum(2.8, momentum=0.995), 1000, None),
    "heun": (Momentum(0.25, momentum=0.999), 1500, dfx.Heun()),
}


@pytest.mark.parametrize("name", LONG)
def test_slow_growth(name):
    equation, steps, solver = LONG[name]
    arguments = dict(steps=steps, save_every=steps, solver=solver)
    _, messages = solved(equation, ROUND, jnp.ones(2), **arguments)
    assert len(messages) == 1 and "oscillation" in messages[0] and f"{steps} training steps" in messages[0], messages
    chosen, messages = solved(equation, ROUND, jnp.ones(2), substeps="auto", **arguments)
    assert not messages and np.all(np.abs(chosen.final) < 1)


def test_modes_by_the_length_of_the_run():
    def grows(kind, damping, frequency, steps):
        table = np.asarray([[-damping, frequency], [-frequency, -damping]])
        return stability.stiffest(table, 1.0, stability.stability_function(kind()), steps)[0] > 0

    for kind, frequency in ((dfx.Heun, 0.5), (dfx.Euler, 0.1), (dfx.Midpoint, 0.5)):
        damping = 1e-4
        growth = abs(stability.stability_function(kind())(complex(-damping, frequency)))
        doubling = int(np.log(2) / np.log(growth))
        assert growth < 1.02 and not grows(kind, damping, frequency, doubling // 2), kind
        assert grows(kind, damping, frequency, 2 * doubling), kind
        assert grows(kind, 0.0, frequency, 2 * doubling), kind  # of a free one the amplitude stays
    assert not grows(dfx.Heun, 0.1, 0.5, 10**6) and not grows(dfx.Euler, -0.1, 0.1, 10**6)


def test_paired_failures():
    def pair(worse, better, both, size):
        place = np.arange(size)
        first = place < both + worse
        return first, (place < both) | ((place >= both + worse) & (place < both + worse + better))

    chance = [(2, 0, 139, 400), (12, 10, 129, 400), (15, 12, 28, 200), (1, 0, 0, 64)]
    fault = [(400, 0, 0, 400), (40, 10, 3, 400), (2, 0, 0, 2)]
    assert not any(rescued(*pair(*case), True) for case in chance)
    assert all(rescued(*pair(*case), True) for case in fault)
    assert rescued(np.ones(1, bool), np.zeros(1, bool), False)


class Noisy(AbstractDynamics):
    """dX = 2 X dt with noise of a rate of its own, from some coordinates."""

    own: jax.Array
    additive: jax.Array
    driven: jax.Array

    def drift(self, t, y, signal):
        return 2 * y

    def diffusion(self, t, y, signal):
        return lx.DiagonalLinearOperator(self.own * y + self.additive + self.driven * jnp.roll(y, 1))


HIDDEN = {  # coefficients of the noise, the solver, and whether it is too strong
    "euler": ((8**0.5, 0.0), (0.0, 100.0), 0.0, dfx.Euler(), True),
    "masked": ((8**0.5, 0.0), (0.0, 100.0), 0.0, None, True),
    "driven": ((0.0, 0.0), (1.0, 0.3), (0.0, 1.0), None, False),
    "additive": ((0.0, 0.0), (1.0, 100.0), 0.0, dfx.Euler(), False),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_noise(name, key):
    *coefficients, solver, strong = HIDDEN[name]
    equation = Noisy(*(jnp.broadcast_to(jnp.asarray(c), (2,)) for c in coefficients))
    settings = dict(steps=4, save_every=4, dt=0.08, key=key, substeps=4, solver=solver)
    _, messages = solved(equation, None, jnp.ones(2), **settings)
    assert len(messages) == strong and (not strong or "40%" in messages[0]), messages  # sqrt(8 .02)


def test_which_path():
    peak = Peak(jnp.asarray([0.1, 3.0, 0.2]), jnp.zeros(3, jnp.int32))
    assert looked_at(jnp.asarray([-1, -1, -1]), peak) == 1
    assert looked_at(jnp.asarray([-1, -1, 5]), peak) == 2


def test_a_start_is_named_for_failures_in_step_one_alone():
    signal = Objective(lambda w, e: jnp.linalg.norm(w) * e, jnp.ones(1)).bind(None)
    for failed_at in (2, -1):
        tell_start(SGD(0.1), signal, jnp.zeros(2), jnp.asarray([failed_at]))  # silent
    with pytest.warns(UserWarning, match="at the start"):
        tell_start(SGD(0.1), signal, jnp.zeros(2), jnp.asarray([-1, 1]))


def test_the_next_number():
    found = Health((1.0, 2.0), (0.0, 0.0), (3, 5))
    assert _more(found, 1, 0) == 5  # both ends
    assert _more(found, 1, 1) == 3  # the start alone
    assert _more(found, 4, 1) == 8 and _more(found, 5, 0) == 10 and _more(found, 100, 1) == stability.MOST


def test_leaves_are_measured_by_their_size():
    """Without, what a small leaf does to a large one drowns all modes."""
    state, rates, stiff = (jnp.full(12, 1e6), jnp.full(6, 1e-6)), jnp.linspace(0.1, 1, 12), jnp.linspace(1, 6, 6)
    table = stability.jacobian(lambda y: (-rates * y[0] + 1e12 * jnp.sum(y[1]), -stiff * y[1]), state)
    assert abs(np.min(np.linalg.eigvals(table).real) + 6) < 0.05

"""Underdamped Langevin equations, ours and a user's, under Diffrax's solvers for them."""

import re

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from diffusions import last, moments, on_one_path, slopes
from marks import some
from oracles import within

from dynamics import solve
from dynamics._passed.langevin import reduced
from equations import AbstractDynamics, Isotropic, Langevin, Momentum, Objective, UnderdampedLangevin, scheduled

CASES = [
    ("Langevin solvers", "instance", "UnderdampedLangevin under ALIGN, ShOULD, QUICSORT", "test_our_own"),
    ("Langevin solvers", "brother", "a Langevin equation of the user's", "test_a_users"),
    ("Langevin solvers", "brother", "momentum in a bath", "test_momentum_with_injected_noise"),
    ("Langevin solvers", "brother", "Diffrax's terms by hand, to rounding", "test_the_terms"),
    ("Langevin solvers", "brother", "steps that a controller chooses", "test_adaptive_steps"),
    ("Langevin solvers", "brother", "in order, on shared paths", "test_strong_order"),
    ("what is no Langevin equation", "instance", "friction that depends on the state", "test_refused"),
    ("what is no Langevin equation", "brother", "noise of batches, no heat, a schedule", "test_refused_algorithms"),
    (
        "what is no Langevin equation",
        "brother",
        "mutants that Diffrax would solve",
        "test_a_mutant_is_another_equation",
    ),
]

KEY = jax.random.key(0)
SOLVERS = {"ALIGN": dfx.ALIGN(), "ShOULD": dfx.ShOULD(), "QUICSORT": dfx.QUICSORT()}
GAMMA, HEAT, STIFF = 0.8, 0.5, np.array([1.0, 2.0])


class Particle(AbstractDynamics):
    """dx = v dt, dv = -(K x + gamma v) dt + sqrt(2 gamma T) dW, from x = 1, v = 0."""

    def init(self, params):
        return params, jnp.zeros_like(params)

    def params(self, state):
        return state[0]

    def force(self, x):
        return -jnp.asarray(STIFF) * x

    def drift(self, t, state, signal):
        x, v = state
        return v, self.force(x) - GAMMA * v

    def diffusion(self, t, state, signal):
        x, v = state
        zero, root = jnp.zeros_like(x), jnp.full(v.shape, (2 * GAMMA * HEAT) ** 0.5)
        return lx.DiagonalLinearOperator((zero, root))


class Alone(Particle):
    """Whose noise has the structure of the velocities."""

    def diffusion(self, t, state, signal):
        v = state[1]
        root = (2 * GAMMA * HEAT) ** 0.5
        return lx.FunctionLinearOperator(
            lambda n: (jnp.zeros_like(v), root * n), jax.ShapeDtypeStruct(v.shape, v.dtype)
        )


def exact(time, friction=GAMMA, heat=HEAT, stiff=STIFF, velocities=False):
    """Mean and covariance of the positions at a time, or of both."""
    n = len(stiff)
    a = np.block([[np.zeros((n, n)), -np.eye(n)], [np.diag(stiff), friction * np.eye(n)]])
    s = np.diag(np.r_[np.zeros(n), np.full(n, (2 * friction * heat) ** 0.5)])
    mean, covariance = moments(a, s, np.r_[np.ones(n), np.zeros(n)], time)
    return (mean, covariance) if velocities else (mean[:n], covariance[:n, :n])


def check(x, mean, covariance):
    assert within(x, mean, covariance) < 1 < within(x, mean, 1.2 * covariance)


@pytest.mark.slow
@pytest.mark.parametrize("name", some(SOLVERS, ["QUICSORT"]))
@pytest.mark.parametrize("kind", some([Particle, Alone], [Particle]))
def test_a_users(kind, name):
    run = solve(kind(), None, jnp.ones(2), steps=10, dt=0.2, key=KEY, paths=8000, solver=SOLVERS[name], save_every=10,
                keep_states=True)  # fmt: skip
    check(np.concatenate([part[:, -1] for part in run.states], axis=1), *exact(2.0, velocities=True))


def quadratic(w, example):
    return 0.5 * jnp.sum(jnp.asarray(STIFF) * w**2) + 0 * example


OBJECTIVE = Objective(quadratic, np.zeros(3))


@pytest.mark.parametrize("name", some(SOLVERS, ["ALIGN"]))
def test_our_own(name):
    """In the time sqrt(eta) per step; at rest the density is exp(-(L + p^2/2)/T)."""
    eta, steps = 0.04, 20
    equation = UnderdampedLangevin(eta, friction=GAMMA, temperature=HEAT)
    run = solve(
        equation, OBJECTIVE, jnp.ones(2), steps=steps, key=KEY, paths=8000, solver=SOLVERS[name], save_every=steps
    )
    check(run.final, *exact(steps * eta**0.5))
    assert dict(run.details)["interpretation"] == "either, the noise is additive"


@pytest.mark.slow
def test_momentum_with_injected_noise():
    """Noise of scale s in the gradient: friction (1 - beta)/eta and s^2 = 2 (friction) T in the time t = eta step."""
    eta, beta, scale, steps = 0.04, 0.8, 3.0, 20
    equation = Momentum(eta, momentum=beta, noise_model=Isotropic(scale))
    run = solve(
        equation, OBJECTIVE, jnp.ones(2), steps=steps, key=KEY, paths=8000, solver=dfx.QUICSORT(), save_every=steps
    )
    friction = (1 - beta) / eta
    heat = scale**2 / eta / (2 * friction)
    check(run.final, *exact(steps * eta, friction, heat, STIFF / eta))


@pytest.mark.slow
def test_adaptive_steps():
    control = dfx.PIDController(rtol=0.0, atol=1e-2, dtmin=1e-2)
    run = solve(Particle(), None, jnp.ones(2), steps=4, dt=0.5, key=KEY, paths=4000, solver=dfx.ALIGN(), save_every=4,
                stepsize_controller=control)  # fmt: skip
    assert run.ok.all()
    check(run.final, *exact(2.0))


def test_the_terms():
    """What is handed to Diffrax, in the time of steps, is drift and diffusion of the dynamics."""
    equation, dt = UnderdampedLangevin(0.04, friction=GAMMA, temperature=HEAT), jnp.asarray(0.01)
    begin = equation.init(jnp.ones(2))
    found = reduced(equation, OBJECTIVE, begin, dt)
    np.testing.assert_allclose(found.ratio, -dt * np.ones(2), rtol=1e-12)
    np.testing.assert_allclose(found.friction, np.full(2, dt * GAMMA / 0.2), rtol=1e-12)
    np.testing.assert_allclose(found.damping, np.full(2, dt**2 * HEAT / 0.04), rtol=1e-12)
    state = type(begin)(jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0]))
    drift, noise = found.terms(equation, OBJECTIVE, dfx.UnsafeBrownianPath((2,), KEY)).terms
    pair = found.encode(state)
    np.testing.assert_allclose(found.decode(pair).trace, state.trace, rtol=1e-12)
    rates = found.decode(drift.vf(0.0, pair, None))
    wanted = equation.drift(jnp.zeros(()), state, OBJECTIVE)
    np.testing.assert_allclose(rates.params, dt * wanted.params, rtol=1e-12)
    np.testing.assert_allclose(rates.trace, dt * wanted.trace, rtol=1e-12)
    structure = equation.diffusion(jnp.zeros(()), state, OBJECTIVE).in_structure()
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), structure)
    kick = equation.diffusion(jnp.zeros(()), state, OBJECTIVE).mv(ones)
    mine = found.decode(noise.prod(noise.vf(0.0, pair, None), jnp.ones(2)))
    np.testing.assert_allclose(mine.trace, np.abs(dt**0.5 * kick.trace) * np.sign(mine.trace), rtol=1e-12)


class Double(Particle):
    def force(self, x):
        return jnp.sin(2 * x)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "order"), [("ALIGN", 2.0), ("ShOULD", 3.0), ("QUICSORT", 3.0)])
def test_strong_order(name, order):
    counts = (8, 32, 512)
    *coarse, fine = on_one_path(Double(), jnp.ones(2), SOLVERS[name], counts, 2.0, 200)
    (slope,) = slopes([np.sqrt(np.mean((x - fine) ** 2)) for x in coarse], counts[:-1])
    assert abs(slope - order) < 0.35


def refused(reason, dynamics, objective=None, start=None, **options):
    start = jnp.ones(2) if start is None else start
    time = {} if objective is not None else {"dt": 0.1}
    with pytest.raises(ValueError, match=re.escape(reason)):
        solve(dynamics, objective, start, steps=2, key=KEY, solver=dfx.ALIGN(), **time, **options)


class Rotating(Particle):
    def drift(self, t, state, signal):
        x, v = state
        return v[::-1], self.force(x) - GAMMA * v


class Nonlinear(Particle):
    def drift(self, t, state, signal):
        x, v = state
        return v, self.force(x) - GAMMA * v - v**3


class Dragged(Particle):
    def drift(self, t, state, signal):
        x, v = state
        return v, self.force(x) - GAMMA * (1 + x**2) * v


class Driven(Particle):
    def drift(self, t, state, signal):
        x, v = state
        return v, self.force(x) - GAMMA * v + jnp.cos(10 * t)


class Free(Particle):
    def drift(self, t, state, signal):
        x, v = state
        return v, self.force(x)


class Warm(Particle):
    def diffusion(self, t, state, signal):
        x, v = state
        return lx.DiagonalLinearOperator((jnp.zeros_like(x), 1 + x**2))


class Shaken(Particle):
    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jax.tree.map(jnp.ones_like, state))


class Mixed(Particle):
    def diffusion(self, t, state, signal):
        x, v = state
        mix = jnp.array([[1.0, 0.5], [0.0, 1.0]])
        return lx.FunctionLinearOperator(lambda n: (jnp.zeros_like(x), mix @ n), jax.ShapeDtypeStruct(v.shape, v.dtype))


MOVES, SLOWS, HEATS = "positions move with their velocities", "friction is a positive constant", "noise is constant"
WRONG = {
    Rotating: MOVES,
    Nonlinear: SLOWS,
    Dragged: SLOWS,
    Driven: SLOWS,
    Free: SLOWS,
    Warm: HEATS,
    Shaken: HEATS,
    Mixed: HEATS,
}


@pytest.mark.parametrize("kind", some(WRONG, [Dragged, Driven, Mixed]), ids=lambda kind: kind.__name__)
def test_refused(kind):
    refused(WRONG[kind], kind())


class Lone(AbstractDynamics):
    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones(state.shape))


class Formed(Lone):
    """In the other form, whose class in the Itô sense nobody gave."""

    interpretation = "stratonovich"

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(1 + state**2)


def test_refused_algorithms():
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.array([[1.0], [-1.0]]))
    refused("a pair of positions and velocities", Lone())
    refused("in structure, and Formed is none", Formed())
    refused("a pair of positions and velocities", Langevin(0.1), OBJECTIVE)
    refused(HEATS, UnderdampedLangevin(0.04, 2), objective)
    refused("at a temperature above zero", UnderdampedLangevin(0.04, temperature=0.0), OBJECTIVE)
    falling = scheduled(UnderdampedLangevin(0.04), lambda step: 1.0 / (1 + step))
    refused("counts its training steps", falling, OBJECTIVE)


@pytest.mark.slow
def test_a_mutant_is_another_equation(monkeypatch):
    """Without its check ALIGN would solve one with another friction, silently."""
    monkeypatch.setattr("dynamics._passed.langevin.obstacle", lambda *args: None)
    ends = [last(kind(), jnp.ones(2), dfx.ALIGN(), 4, 0.1, 3) for kind in (Particle, Nonlinear)]
    np.testing.assert_allclose(*ends, rtol=1e-12)

"""A velocity of one's own that counts training steps by itself is told of; one that is smooth in time is not."""

import warnings

import diffrax as dfx
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from dynamics import solve
from dynamics._paths.jumps import _first_jump, warn_of_jumps
from equations import SGD, AbstractDynamics, Objective, decayed

CASES = [
    ("own count", "instance", "velocity -where(t/eta < 4, 1, .1) g, read at .8629 and .8000", "test_a_jump[Stairs-4]"),
    ("own count", "brother", "a floor of the time, inside a wrapper", "test_a_jump[Floors-3]"),
    ("own count", "brother", "a smooth velocity", "test_smooth_in_time"),
    ("own count", "instance", "a drift without a twin, where(t < .5, 1, .1), with dt", "test_rates_that_jump[drift]"),
    ("own count", "brother", "a drift without a twin, with a learning rate", "test_rates_that_jump[rate]"),
    ("own count", "brother", "a diffusion", "test_rates_that_jump[diffusion]"),
    ("own count", "brother", "a drift that jumps within a step", "test_rates_that_jump[within]"),
    ("own count", "brother", "another drift of an equation", "test_rates_that_jump[override]"),
    ("own count", "brother", "a drift whose pieces meet, a controller of steps", "test_rates_that_go_on"),
    ("own count", "brother", "a drift read at .6373, solved in pieces .5769", "test_in_pieces"),
]

OBJECTIVE = Objective(lambda w, e: 0.5 * jnp.sum((w - e) ** 2), jnp.array([1.0, -1.0]))


class Stairs(SGD):
    def velocity(self, t, state, gradient):
        return -jnp.where(t / self.learning_rate < 4, 1.0, 0.1) * gradient


class Floors(SGD):
    def velocity(self, t, state, gradient):
        return -gradient / (1 + jnp.floor(t / (3 * self.learning_rate)))


class Smooth(SGD):
    def velocity(self, t, state, gradient):
        return -jnp.cos(40 * t) * gradient


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "first"), [(Stairs, 4), (Floors, 3)], ids=["Stairs-4", "Floors-3"])
def test_a_jump(kind, first):
    equation = kind(0.05) if kind is Stairs else decayed(kind(0.05), 0.1)
    with pytest.warns(UserWarning, match=f"{kind.__name__}.velocity jumps in time, first with training step {first}"):
        solve(equation, OBJECTIVE, jnp.ones(1), steps=12, save_every=12)


def test_smooth_in_time():
    """None is told of; the same in steps, a mutant of it, is."""
    assert _first_jump(Smooth(0.05), jnp.ones(1), 100) is None
    assert _first_jump(Stairs(0.05), jnp.ones(1), 100) == 4


def falls(t, after):
    """A factor 1 that falls to .1 after a time; scalar."""
    return jnp.where(t < after, 1.0, 0.1)


class Falling(AbstractDynamics):
    after: float = 0.5

    def drift(self, t, state, signal):
        return -falls(t, self.after) * state


class Rated(Falling):
    learning_rate: float = 0.05


class Cooled(AbstractDynamics):
    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.full(state.shape, falls(t, 0.5)))


class Redirected(SGD):
    def drift(self, t, state, signal):
        return -falls(t, 0.5) * signal.gradient(state)


JUMPING = {
    "drift": (Falling(), "drift", 10),
    "rate": (Rated(), "drift", 10),
    "diffusion": (Cooled(), "diffusion", 10),
    "within": (Falling(0.52), "drift", 11),
    "override": (Redirected(0.05), "drift", 10),
}


@pytest.mark.parametrize("name", JUMPING)
def test_rates_that_jump(name):
    dynamics, hook, first = JUMPING[name]
    with pytest.warns(UserWarning, match=f"{hook} jumps in time, first with training step {first}"):
        warn_of_jumps(dynamics, OBJECTIVE, jnp.ones(1), 20, 0.05)


class Ramp(AbstractDynamics):
    """Of two pieces, which meet at t = .5."""

    def drift(self, t, state, signal):
        return jnp.where(t < 0.5, t * state, 0.5 * state)


def test_rates_that_go_on():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_jumps(Ramp(), None, jnp.ones(1), 20, 0.05)
        controller = dfx.PIDController(rtol=1e-6, atol=1e-8)
        run = solve(Falling(), None, jnp.ones(1), steps=20, save_every=20, dt=0.05, stepsize_controller=controller)
    np.testing.assert_allclose(run.final, np.exp(-0.55), rtol=1e-4)


@pytest.mark.slow
def test_in_pieces():
    """As the warning says: up to the jump, and on from there."""
    with pytest.warns(UserWarning, match="run up to the jump and go on") as told:
        across = solve(Falling(), None, jnp.ones(1), steps=20, save_every=20, dt=0.05).final
    assert told[0].filename == __file__ and abs(across[0, 0] - np.exp(-0.55)) > 0.05
    before = solve(Falling(1e3), None, jnp.ones(1), steps=10, save_every=10, dt=0.05).final
    after = solve(Falling(-1.0), None, before[0] + 0.0, steps=10, save_every=10, dt=0.05).final
    np.testing.assert_allclose(after[0], np.exp(-0.55), rtol=1e-6)

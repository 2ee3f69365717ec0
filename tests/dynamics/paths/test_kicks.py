"""Noise that does not depend on the state is kicked once a step; all else as often as its splitting says."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from dynamics import Strang, solve
from equations import AbstractDynamics, Splitting


class Bath(AbstractDynamics):
    """dx = -x dt + amplitude(x) dW."""

    def drift(self, t, state, signal):
        return -state

    def amplitude(self, state):
        return jnp.full_like(state, 0.7)

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(self.amplitude(state))


class Multiplicative(Bath):
    def amplitude(self, state):
        return 0.7 + 0.01 * state


class Said(Bath):
    """Additive by its word alone, which its jaxpr does not show."""

    interpretation = "additive"

    def amplitude(self, state):
        return 0.7 + 0 * state


class OwnKick(Bath):
    def splitting(self):
        return Kicked(self)


class Kicked(Splitting):
    def kick(self, t, state, signal, noise, dt):
        return super().kick(t, state, signal, noise, dt)


def run(dynamics, solver=None, paths=4):
    return solve(dynamics, None, jnp.ones(1), steps=20, dt=0.25, key=jax.random.key(0), paths=paths, solver=solver)


@pytest.mark.slow
@pytest.mark.parametrize("kind, kicks", [(Bath, 1), (Said, 1), (Multiplicative, None), (OwnKick, None)])
def test_how_often_noise_is_kicked(kind, kicks):
    """And as often with a flow of one's own; that of the default has two stages where the noise is additive."""
    solver = dict(run(kind()).details)["solver"]
    assert solver == repr(Strang(dfx.Heun(), kicks=1) if kicks else Strang())
    assert dict(run(kind(), Strang()).details)["solver"] == repr(Strang(kicks=kicks))


@pytest.mark.slow
def test_what_is_given_stays():
    assert dict(run(Bath(), Strang(kicks=2)).details)["solver"] == repr(Strang(kicks=2))


def variance(dt, steps, by="halves"):
    """Of the splitting with Heun's flow: the kick between two halves, and a mutant with the kick before the flow."""
    whole, half = (1 - h + h**2 / 2 for h in (dt, dt / 2))
    return 0.49 * dt * np.sum(whole ** (2 * np.arange(steps))) * (half if by == "halves" else whole) ** 2


@pytest.mark.slow
def test_the_variance_of_one_kick():
    """Its closed form within 4 standard errors, and that of the equation; of first order it is rejected."""
    final = np.asarray(run(Bath(), paths=40_000).final)[:, 0]
    found, error = final.var(ddof=1), final.var() * (2 / len(final)) ** 0.5
    exact = 0.245 * (1 - np.exp(-10.0))
    assert abs(found - variance(0.25, 20)) < 4 * error < 0.01 * exact * 4
    assert abs(variance(0.25, 20) / exact - 1) < 1e-3
    assert abs(found - variance(0.25, 20, "before")) > 10 * error


@pytest.mark.parametrize("dt", [0.05, 0.1, 0.25])
def test_below_a_quarter_of_the_model_error(dt):
    """At every time, where the model is the algorithm whose steps are Euler's; a mutant is not."""
    steps = np.arange(1, round(8 / dt))
    exact, discrete = 0.245 * (1 - np.exp(-2 * dt * steps)), 0.49 * dt * np.cumsum((1 - dt) ** (2 * (steps - 1)))
    means = (1 - dt + dt**2 / 2) ** steps, (1 - dt) ** steps
    assert np.max(np.abs((means[0] - np.exp(-dt * steps)) / (means[1] - np.exp(-dt * steps)))) < 0.15
    for by, most in (("halves", 0.04), ("before", np.inf)):
        errors = [abs(variance(dt, n, by) - e) / abs(d - e) for n, e, d in zip(steps, exact, discrete, strict=True)]
        assert np.max(errors) < most and (by == "halves" or np.max(errors) > 1)

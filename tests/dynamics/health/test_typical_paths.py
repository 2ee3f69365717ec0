"""The rate at which typical paths grow is right to what is stated, or it is told."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from marks import some
from warned import solved

from dynamics import Fused, Strang
from dynamics._health import health as _health
from dynamics._health.typical import ALLOWED, ALLOWED_IN_DECAY, FUSED, ONE, PAIR, law_of, times_allowed
from dynamics._paths import fused
from equations import SGD, AbstractDynamics, Isotropic, Objective

CASES = [
    ("a rate of typical paths that is off", "instance", "a saddle with s^2 = 8, SGD", "test_told[saddle]"),
    ("a rate of typical paths that is off", "instance", "the same with 'auto'", "test_the_rate_that_auto_finds"),
    ("a rate of typical paths that is off", "brother", "noise that the flow nearly outweighs", "test_told[decay]"),
    ("a rate of typical paths that is off", "brother", "two numbers, each with its own noise", "test_told[two]"),
    ("a rate of typical paths that is off", "brother", "a hundred numbers with one noise", "test_told[many]"),
    ("a rate of typical paths that is off", "brother", "a pair of kicks", "test_told[strang]"),
    ("a rate of typical paths that is off", "brother", "Euler's substeps", "test_told[euler]"),
    ("a rate of typical paths that is off", "brother", "a dynamics of one's own", "test_a_dynamics_of_one_s_own"),
    ("a rate of typical paths that is off", "brother", "beyond 128 substeps", "test_beyond_what_is_allowed"),
    ("a rate of typical paths that is off", "brother", "the share of three kinds of steps", "test_what_a_step_loses"),
    ("a rate of typical paths that is off", "brother", "what decays is allowed twice", "test_what_decay_is_allowed"),
    ("a rate of typical paths that is off", "brother", "the number that is named", "test_the_number_that_is_named"),
    ("a rate of typical paths that is off", "brother", "a network in minibatches passes", "test_a_network_passes"),
    ("a rate of typical paths that is off", "brother", "additive noise passes", "test_additive_noise_passes"),
    ("a rate of typical paths that is off", "brother", "a look at whole changes", "test_whole_changes_are_caught"),
]


def multiplicative(growth, square, rate):
    """A loss on which SGD of one example has dX = growth X dt + sqrt(square) X dW."""
    size = (square / rate) ** 0.5
    return Objective(lambda w, e: 0.5 * e * jnp.sum(w**2), jnp.asarray([size - growth, -size - growth]))


def each():
    """Two numbers, whose noises are not correlated."""
    signs = jnp.asarray([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    return Objective(lambda w, e: 0.5 * jnp.sum(e * w**2), 4 * signs - 1)


SADDLE = multiplicative(1.0, 8.0, 0.5)
TOLD = {  # a rate, the objective, the start, substeps of which is told and of which not, and the solver
    "saddle": (0.5, SADDLE, jnp.ones(()), 64, 128, None),
    "decay": (0.2, multiplicative(-1.0, 1.9, 0.2), jnp.ones(()), 1, 10, None),
    "two": (0.25, each(), jnp.ones(2), 8, 64, None),
    "many": (0.5, SADDLE, jnp.ones(100), 52, 128, None),
    "strang": (0.5, SADDLE, jnp.ones(()), 48, 112, Strang()),
    "euler": (0.2, multiplicative(-2.0, 2.0, 0.2), jnp.ones(()), 2, 10, dfx.Euler()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", some(TOLD, ["saddle"]))
def test_told(name, key):
    rate, objective, start, few, enough, solver = TOLD[name]
    settings = dict(steps=4, save_every=4, key=key, solver=solver)
    messages = solved(SGD(rate, 1), objective, start, substeps=few, **settings)[1]
    assert len(messages) == 1 and "noise of a solver's step" in messages[0] and "right to 5%" in messages[0], messages
    assert not solved(SGD(rate, 1), objective, start, substeps=enough, **settings)[1]


def rate_of(trajectory, time):
    values = np.log(np.abs(np.asarray(trajectory.final))) / time
    return values.mean(), values.std() / values.size**0.5


@pytest.mark.slow
def test_the_rate_that_auto_finds(key):
    settings = dict(steps=100, save_every=100, key=key, paths=100)
    chosen, messages = solved(SGD(0.5, 1), SADDLE, jnp.ones(()), substeps="auto", **settings)
    value, error = rate_of(chosen, 50)
    assert not messages and 112 <= int(dict(chosen.details)["substeps"]) <= 128
    assert abs(value + 3) < 3 * ALLOWED + 4 * error


@pytest.mark.slow
def test_beyond_what_is_allowed(key):
    """A warning remains where no number suffices."""
    objective = multiplicative(1.0, 16.0, 0.5)
    for substeps in (128, "auto"):
        chosen, messages = solved(
            SGD(0.5, 1), objective, jnp.ones(()), steps=2, save_every=2, key=key, substeps=substeps
        )
        assert len(messages) == 1 and "even 128, the most there are, may not suffice" in messages[0], messages
        assert dict(chosen.details)["substeps"] == "128"


class Own(AbstractDynamics):
    """dX = X dt + sqrt(8) X dW."""

    def drift(self, t, y, signal):
        return y

    def diffusion(self, t, y, signal):
        return lx.DiagonalLinearOperator(8**0.5 * y)


@pytest.mark.slow
def test_a_dynamics_of_one_s_own(key):
    settings = dict(steps=100, save_every=100, dt=0.5, key=key, paths=400)
    chosen, messages = solved(Own(), None, jnp.ones(()), substeps="auto", **settings)
    value, error = rate_of(chosen, 50)
    assert not messages and int(dict(chosen.details)["substeps"]) > 64
    assert abs(value + 3) < 3 * ALLOWED + 4 * error
    assert solved(Own(), None, jnp.ones(()), substeps=52, **settings)[1]


def lost(square, law):
    """The logarithm of a step's factor less that of the equation's, by quadrature, where there is no drift."""
    points = np.linspace(-8, 8, 1601)
    weights = np.exp(-(points**2) / 2) / np.sum(np.exp(-(points**2) / 2))
    size = square**0.5
    if law is not FUSED:
        kicks = 2 if law is PAIR else 1
        return kicks * weights @ np.log(np.abs(1 + size / kicks**0.5 * (points + 1e-6))) + square / 2
    first, second = size * fused.R1 * points[:, None], size * fused.R3 * points[None, :]
    k1 = first
    k3 = (1 + fused.A31 * k1) * second  # the one without noise is zero
    return weights @ np.log(np.abs(1 + fused.B1 * k1 + fused.B3 * k3)) @ weights + square / 2


def test_what_a_step_loses():
    """c + c' A is the whole within a tenth; without drift the rate is A/2."""
    for law in (ONE, PAIR, FUSED):
        for square in (0.02, 0.05, 0.1):
            share = times_allowed(np.asarray(square), np.zeros(()), (law[0] * 1e3, law[1] * 1e3))[0] / 1e3 * ALLOWED
            exact = -lost(square, law) / (square / 2)
            assert abs(share / exact - 1) < 0.1, (law, square, share, exact)
    np.testing.assert_allclose(FUSED[0], 1 - 2**0.5 * fused.B1 * fused.R1 * fused.B3 * fused.R3, atol=5e-4)
    assert law_of(Fused(), None) is FUSED and law_of(dfx.Euler(), None) is ONE
    assert law_of(Strang(kicks=1), None) is ONE and law_of(Strang(kicks=2), None) is PAIR


def test_the_number_that_is_named():
    """At it the share is within what is allowed, and not by far."""
    for law in (ONE, PAIR, FUSED):
        for square, drift in ((1.0, 0.25), (0.3, -0.1), (0.2, 0.1), (0.3, -0.3)):
            times, more = times_allowed(np.asarray(square), np.asarray(drift), law)
            assert times > 1
            half = times_allowed(np.asarray(square / more * 1.25), np.asarray(drift / more * 1.25), law)[0]
            assert times_allowed(np.asarray(square / more), np.asarray(drift / more), law)[0] == 0 < half
    assert ALLOWED < ALLOWED_IN_DECAY


def net(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((40, 6)), np.sign(rng.standard_normal((40, 2)))

    def loss(w, example):
        return jnp.sum((w[1].T @ jax.nn.relu(w[0].T @ example[0]) - example[1]) ** 2) / 2

    return Objective(loss, (x, y)), tuple(jnp.asarray(rng.standard_normal(n) / 3) for n in ((6, 8), (8, 2)))


@pytest.mark.slow
def test_a_network_passes(key):
    objective, params = net(0)
    assert not solved(SGD(0.06, 1), objective, params, steps=16, save_every=16, key=key)[1]


def test_whole_changes_are_caught(monkeypatch, key):
    """What turns a kick aside is no loss of its size: measured by it a network is told of."""
    objective, params = net(0)
    changes = _health.changes

    def whole(*args):
        change, along, kicks = changes(*args)
        return change, np.maximum(along, change[0]), kicks

    monkeypatch.setattr(_health, "changes", whole)
    assert solved(SGD(0.06, 1), objective, params, steps=16, save_every=16, key=key)[1]
    monkeypatch.setattr(_health, "changes", changes)
    assert not solved(SGD(0.06, 1), objective, params, steps=16, save_every=16, key=key)[1]


@pytest.mark.slow
def test_additive_noise_passes(key):
    noisy = SGD(0.5, noise_model=Isotropic(100.0))
    assert not solved(noisy, SADDLE, jnp.ones(()), steps=4, save_every=4, key=key)[1]


def test_what_decay_is_allowed():
    """By quadrature at the strongest noise that is not told of: within a tenth of what is allowed."""
    squares = np.linspace(0.01, 0.3, 291)
    for law in (ONE, PAIR, FUSED):
        for drift, allowed in ((-1.0, ALLOWED_IN_DECAY), (-0.6, ALLOWED_IN_DECAY), (-0.4, ALLOWED)):
            passes = times_allowed(squares, drift * squares, law)[0] == 0
            most = squares[passes][-1]
            rate = max(abs(drift - 0.5), (abs(drift) + 0.5) / 2) * most
            assert 0.8 * allowed < -lost(most, law) / rate < 1.1 * allowed, (law, drift)

"""Estimators of entropy production that see paths alone: no number where the paths do not hold it."""

import jax
import numpy as np
import pytest

from validation import neural_estimate, short_time_bound
from validation._entropy_estimators import _held_out

CASES = [
    ("a network's entropy without steps back", "instance", "noisy limit cycle, s = .1", "test_noisy_cycle"),
    ("a network's entropy without steps back", "instance", "limit cycle, s = 0", "test_no_steps_back[cycle]"),
    ("a network's entropy without steps back", "brother", "increments N(5, 1)", "test_no_steps_back[drift]"),
    ("a network's entropy without steps back", "brother", "s learned by heart", "test_learned_by_heart"),
    ("a network's entropy without steps back", "brother", "s right, s doubled, s halved", "test_what_is_reported"),
    ("saves too far apart", "instance", "a rotation that makes 18, saves .4 apart", "test_short_steps"),
    ("saves too far apart", "instance", "deterministic limit cycle", "test_no_noise[cycle]"),
    ("saves too far apart", "brother", "straight lines of one speed", "test_no_noise[line]"),
    ("saves too far apart", "brother", "ellipses with random axes", "test_smooth_paths"),
]  # fmt: skip
KEY = jax.random.key(0)
TURN = np.array([[0.0, -1.0], [1.0, 0.0]])


def cycle(noise, dt, paths=64, saves=101, substeps=10):
    """dx = 2 x (1 - r^2) dt + 2 J x dt + noise dW: it makes 8/noise^2 per unit of time on a narrow cycle."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, paths)
    x, h, saved = np.stack([np.cos(angle), np.sin(angle)], axis=1), dt / substeps, []
    for step in range((20 + saves) * substeps):
        if step >= 20 * substeps and step % substeps == 0:
            saved.append(x)
        x = x + h * (2 * x * (1 - np.sum(x**2, axis=1, keepdims=True)) + 2 * x @ TURN.T)
        x = x + noise * h**0.5 * rng.normal(size=x.shape)
    return np.stack(saved, axis=1)


def network(states, dt, iterations=800):
    return neural_estimate(states, dt, key=KEY, width=8, iterations=iterations, batch_size=256)


def test_noisy_cycle():
    """At saves so far apart that hardly a step goes back the mean is refused, and what is said instead holds."""
    with pytest.raises(ValueError, match=r"only \d of 3200 steps not trained on.*the rate is at least (\d+)") as error:
        network(cycle(0.1, 0.05), 0.05)
    least = float(str(error.value).split("at least ")[1].split()[0])
    assert 0 < least < 8 / 0.1**2


@pytest.mark.parametrize("name", ["cycle", "drift"])
def test_no_steps_back(name):
    ways = np.cumsum(5 + np.random.default_rng(0).normal(size=(64, 101, 1)), axis=1)
    states, dt = (cycle(0.0, 0.05), 0.05) if name == "cycle" else (ways, 1.0)
    with pytest.raises(ValueError, match="Argument `states` must hold steps of negative entropy"):
        network(states, dt, 150)


def steps(rng, mean, shape=(200, 50)):
    return rng.normal(mean, np.sqrt(2 * mean), shape)


def test_what_is_reported():
    """Of the right s all three agree; a doubled and a halved s are said to be off, and the objective is a lower bound."""
    s, dt = steps(np.random.default_rng(0), 0.5), 0.1
    right = _held_out(s, dt)
    value, error = right
    assert abs(value - 5) < 4 * error and abs(right.slope.value - 1) < 4 * right.slope.error
    assert abs(right.objective.value - 5) < 4 * right.objective.error and right.negative == np.sum(s < 0)
    assert str(right).startswith("rate ") and "a lower bound" in str(right)
    for factor in (2.0, 0.5):
        with pytest.warns(UserWarning, match=f"has the slope {1 / factor:.1f}.*where 1 is right"):
            wrong = _held_out(factor * s, dt)
        assert wrong.objective.value < 5 + 4 * wrong.objective.error


def test_learned_by_heart():
    """A network's own noise on top of the true s makes the mean larger, the slope and the objective smaller."""
    rng = np.random.default_rng(0)
    s = steps(rng, 0.5)
    noisy = s * np.exp(rng.normal(0, 1.0, s.shape))
    with pytest.warns(UserWarning, match="the rate of .* is not to be trusted"):
        estimate = _held_out(noisy, 0.1)
    print(f"\n{estimate}")
    assert estimate.value > 5 + 8 * estimate.error and estimate.objective.value < 5


def turning(dt, paths=64, saves=201):
    """dy = (-1 + 3 J) y dt + sqrt(2) dW makes 2 * 3^2 = 18 per unit of time; exact steps."""
    rng = np.random.default_rng(0)
    c, s = np.cos(3 * dt), np.sin(3 * dt)
    step = np.exp(-dt) * np.array([[c, -s], [s, c]])
    y, saved = rng.normal(size=(paths, 2)), []
    for _ in range(saves):
        saved.append(y)
        y = y @ step.T + np.sqrt(1 - np.exp(-2 * dt)) * rng.normal(size=y.shape)
    return np.stack(saved, axis=1)


def test_short_steps():
    """At dt = .01 the rate is 18, silently; at .4 it is far off, which a comparison with every second save says."""
    value, error = short_time_bound(turning(0.01), 0.01)
    assert abs(value - 18) < 4 * error + 0.05 * 18
    with pytest.warns(UserWarning, match="Argument `dt` must be short against the process") as said:
        value, error = short_time_bound(turning(0.4), 0.4)
    print(f"\n{value:.2f} ± {error:.2f} for 18: {said[0].message}")
    assert value + 8 * error < 18 and said[0].filename == __file__


@pytest.mark.parametrize("name", ["cycle", "line"])
def test_no_noise(name):
    """A current without any spread: on the circle the angular one, on a line the increment."""
    line = np.random.default_rng(0).normal(size=(64, 1, 1)) + 0.1 * np.arange(51)[:, None]
    with pytest.raises(ValueError, match="flows without any spread, and the entropy production rate is infinite"):
        short_time_bound(cycle(0.0, 0.05) if name == "cycle" else line, 0.05)


def test_smooth_paths():
    """Ellipses with random axes: every current has a spread, but the rate has no limit, and halves with twice the dt."""
    rng = np.random.default_rng(0)
    phase, size = rng.uniform(0, 2 * np.pi, (512, 1)), rng.uniform(0.9, 1.1, (512, 1, 2))
    angle = phase + 0.05 * np.arange(101)
    paths = size * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    with pytest.warns(UserWarning, match="of smooth paths, without noise, the rate has no limit"):
        short_time_bound(paths, 0.05)

"""Estimators of entropy production that see paths alone: no number where the paths do not hold it."""

import re
import warnings

import jax
import numpy as np
import pytest

from validation import neural_estimate, short_time_bound
from validation._irreversibility.neural import _held_out
from validation._irreversibility.short_time import _currents, _rate, checked_paths, largest_move, whitened

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
    ("nearly independent saves", "instance", "omega = 3, dt = 1", "test_independent_saves[1]"),
    ("nearly independent saves", "instance", "omega = 3, dt = 2", "test_independent_saves[2]"),
    ("nearly independent saves", "instance", "omega = 20, half a turn", "test_independent_saves[half]"),
    ("nearly independent saves", "instance", "noisy limit cycle, dt = pi/2", "test_independent_saves[cycle]"),
    ("nearly independent saves", "brother", "two saves", "test_independent_saves[two]"),
    ("nearly independent saves", "brother", "one fast coordinate of three", "test_independent_saves[mixed]"),
    ("nearly independent saves", "brother", "slow, still and rounded coordinates: silent", "test_moves_that_are_small"),
    ("nearly independent saves", "brother", "errors of linear processes by the measure", "test_the_measure_of_moves"),
    ("two or three saves", "instance", "three saves", "test_three_saves"),
    ("two or three saves", "brother", "two saves, entropy of a step 1.8", "test_two_saves"),
    ("two or three saves", "brother", "four saves, both halves", "test_both_halves_of_the_saves"),
    ("an origin far away", "instance", "states + 3e5, + 1e6", "test_a_far_origin"),
    ("an origin far away", "brother", "neural estimate, + 1e6", "test_a_far_origin_of_a_network"),
    ("an origin far away", "brother", "nearly collinear coordinates", "test_nearly_collinear_coordinates"),
    ("an origin far away", "brother", "float32, where rounding shows", "test_rounded_states"),
    ("a bias that paths resolve", "instance", "J = 3, dt = .01, 4096 paths", "test_a_resolved_bias"),
    ("a bias that paths resolve", "brother", "12 draws of 64 paths", "test_the_extrapolated_rate"),
    ("a bias that paths resolve", "brother", "two saves, none", "test_two_saves"),
    ("a bound of too few steps", "brother", "s = 30 on all steps", "test_the_bound_without_steps_back"),
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


@pytest.mark.slow
def test_noisy_cycle():
    """At saves so far apart that hardly a step goes back the mean is refused, and what is said instead holds."""
    with pytest.raises(ValueError, match=r"only \d of 3200 steps not trained on.*the rate is at least (\d+)") as error:
        network(cycle(0.1, 0.05), 0.05)
    least = float(str(error.value).split("at least ")[1].split()[0])
    assert 0 < least < 8 / 0.1**2


@pytest.mark.slow
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


def turning(dt, paths=64, saves=201, omega=3, seed=0):
    """dy = (-1 + omega J) y dt + sqrt(2) dW makes 2 omega^2 per unit of time; exact steps."""
    rng = np.random.default_rng(seed)
    c, s = np.cos(omega * dt), np.sin(omega * dt)
    step = np.exp(-dt) * np.array([[c, -s], [s, c]])
    y, saved = rng.normal(size=(paths, 2)), []
    for _ in range(saves):
        saved.append(y)
        y = y @ step.T + np.sqrt(1 - np.exp(-2 * dt)) * rng.normal(size=y.shape)
    return np.stack(saved, axis=1)


def test_short_steps():
    """At dt = .002 the rate is 18, silently; at .01, 10 % off, and at .1 every second save says so; at .4 the moves do."""
    value, error = short_time_bound(turning(0.002), 0.002)
    assert abs(value - 18) < 4 * error + 0.05 * 18
    for dt, words in (
        (0.01, "by every second one"),
        (0.1, "by every second one"),
        (0.4, "changes by 1.5 times its variance"),
    ):
        with pytest.warns(UserWarning, match=f"Argument `dt` must be short against the process.*{words}") as said:
            value, error = short_time_bound(turning(dt), dt)
        print(f"\n{value:.2f} ± {error:.2f} for 18: {said[0].message}")
        assert value + 8 * error < 18 + 9 * error * (dt < 0.1) and len(said) == 1 and said[0].filename == __file__


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


def with_fast(states):
    """A third coordinate that is another at each save."""
    noise = np.random.default_rng(1).normal(size=(*states.shape[:2], 1))
    return np.concatenate([states, noise], axis=-1) @ np.random.default_rng(2).normal(size=(3, 3))


FAR = {
    "1": lambda: (turning(1.0), 1.0),
    "2": lambda: (turning(2.0), 2.0),
    "half": lambda: (turning(np.pi / 20, omega=20), np.pi / 20),
    "cycle": lambda: (cycle(0.1, np.pi / 2, saves=21, substeps=100), np.pi / 2),
    "two": lambda: (turning(1.0, 2000, 2), 1.0),
    "mixed": lambda: (with_fast(turning(0.01)), 0.01),
}


@pytest.mark.parametrize("name", FAR)
def test_independent_saves(name):
    """By every save and by every second the rate is next to 0 alike; how far the states move tells."""
    with pytest.warns(UserWarning, match="`dt` must be short.*where 2 is that of independent saves") as said:
        value, error = short_time_bound(*FAR[name]())
    print(f"\n{value:.4f} ± {error:.4f}: {said[0].message}")
    assert len(said) == 1 and said[0].filename == __file__ and (value < 1 or name == "mixed")


def move_of(states):
    return largest_move(whitened(*checked_paths(states, 1.0)[:2]))


def test_moves_that_are_small():
    """A coordinate that stays, exactly or up to rounding, or twice the same, is none that moves far."""
    slow = turning(0.01)
    still, rounded = np.ones_like(slow[..., :1]), 1 + 2e-16 * np.random.default_rng(0).normal(size=(*slow.shape[:2], 1))
    states = np.concatenate([slow, slow[..., :1], still, rounded], axis=-1)
    for some in (slow, 5 + slow @ np.array([[1.0, 1.0], [0.0, 1e-3]]), states):
        assert abs(move_of(some) - 0.022) < 0.004
    assert move_of(still) == 0


def test_the_measure_of_moves():
    """2 (1 - exp(-dt) cos(omega dt)); where it is .4 a slow rotation's rate is some 15 % too low, a fast one's more."""
    for omega, dt, least in ((0.5, 0.2, 0.05), (1.0, 0.2, 0.2), (3.0, 0.14, 0.5), (10.0, 0.056, 0.7)):
        states = turning(dt, 4000, 12, omega)
        moved = move_of(states)
        value, error = _rate_of(states, dt)
        print(f"\n{omega}, {dt}: {moved:.3f}; {value / (2 * omega**2) - 1:.3f} ± {error / (2 * omega**2):.3f}")
        assert abs(moved - 2 * (1 - np.exp(-dt) * np.cos(omega * dt))) < 0.02 and 0.3 < moved < 0.5
        assert 1 - value / (2 * omega**2) > least - 3 * error / (2 * omega**2)


def _rate_of(states, dt):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return short_time_bound(states, dt)


def test_three_saves():
    """One half of these has a single save."""
    value, error = short_time_bound(turning(0.002, 20000, 3), 0.002)
    assert abs(value - 18) < 4 * error + 0.05 * 18
    with pytest.warns(UserWarning, match="every second"):
        short_time_bound(turning(0.1, 2000, 3), 0.1)


def test_a_far_origin():
    """The rate is that of the states about their mean; how far they move too. Mutant: products with what is far away."""
    states = turning(0.01, saves=101)
    value, error = short_time_bound(states, 0.01)
    for far in (3e5, 1e6, -1e9):
        other = short_time_bound(states + far, 0.01)
        assert abs(other.value - value) < 1e-4 * error and abs(other.error - error) < 1e-4 * error
        assert abs(move_of(states + far) / move_of(states) - 1) < 1e-4
    middle, change = (states[:, 1:] + states[:, :-1]) / 2, np.diff(states, axis=1)
    assert abs(_rate(_currents(middle + 1e6, change), 0.01) - value) > 4 * error


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Argument `states`. on paths not trained on")
def test_a_far_origin_of_a_network():
    """Up to the digits that the origin takes, which training makes larger."""
    states = turning(0.05, saves=21)
    near, far = (network(states + origin, 0.05, 100) for origin in (0.0, 1e6))
    assert abs(near.value - far.value) < 0.01 * near.error


def test_nearly_collinear_coordinates():
    """x and x + y/1e6, in units of their own. Mutant: products of these coordinates."""
    states = turning(0.01, saves=101)
    value, error = short_time_bound(states, 0.01)
    mixed = states @ np.array([[1.0, 1e6], [0.0, 1.0]])
    assert abs(short_time_bound(mixed, 0.01).value - value) < 1e-4 * error
    middle, change = (mixed[:, 1:] + mixed[:, :-1]) / 2, np.diff(mixed, axis=1)
    assert abs(_rate(_currents(middle, change), 0.01) - value) > error


def test_rounded_states():
    """In float32 a million ends at .06, next to steps of .14; about zero nothing is said."""
    states = turning(0.01, saves=101)
    short_time_bound(states.astype(np.float32), 0.01)
    short_time_bound((states + 1e3).astype(np.float32), 0.01)
    with pytest.warns(
        UserWarning, match="`states`: coordinate . is up to 1e.06 and changes by 0.1.*where its precision"
    ):
        short_time_bound((states + 1e6).astype(np.float32), 0.01)


def test_a_resolved_bias():
    """16 for 18, by eight errors: what is extrapolated holds, and the warning says it."""
    with pytest.warns(UserWarning, match="by every second one.*extrapolated to dt = 0 the rate is 1") as said:
        bound = short_time_bound(turning(0.01, 4096, 101), 0.01)
    print(f"\n{bound}; {said[0].message}")
    assert bound.value + 4 * bound.error < 18 and abs(bound.extrapolated.value - 18) < 4 * bound.extrapolated.error
    assert len(said) == 1 and str(bound).startswith("rate 16") and "extrapolated to dt = 0" in str(bound)


def test_the_extrapolated_rate():
    """Within 4 errors of 18 in each of 12 draws, silently where 64 paths do not resolve the bias."""
    for seed in range(12):
        value, error = bound = short_time_bound(turning(0.002, saves=101, seed=seed), 0.002)
        assert abs(bound.extrapolated.value - 18) < 4 * bound.extrapolated.error
        assert (value, error) == (bound.value, bound.error)


def test_two_saves():
    """18 with an entropy of a step of .1, silently; at 1.8 it is half of that, which the step's own entropy tells."""
    value, error = bound = short_time_bound(turning(0.005, 20000, 2), 0.005)
    assert bound.extrapolated is None and "extrapolated" not in str(bound)
    assert abs(value - 18) < 4 * error + 0.06 * 18
    with pytest.warns(UserWarning, match="with two saves the rate cannot be held against") as said:
        value, error = short_time_bound(turning(0.1, 2000, 2), 0.1)
    told = float(str(said[0].message).split("it is ")[1].split()[0])
    print(f"\n{said[0].message}")
    assert told <= 100 * (1 - value / 18) + 100 * error / 18


def test_both_halves_of_the_saves():
    """By every second save is the mean over the even and the odd ones. Mutant: the even alone."""
    states, dt = turning(0.1, 2000, 4), 0.1
    with pytest.warns(UserWarning, match="every second") as said:
        short_time_bound(states, dt)
    even, odd = (_rate_of(states[:, place::2], 2 * dt).value for place in (0, 1))
    told = float(re.search(r"and ([\d.]+) by every second", str(said[0].message))[1])
    assert abs(told - (even + odd) / 2) < 1e-3 < abs(told - even)


def test_the_bound_without_steps_back():
    """s is cut off at half the logarithm of the number of steps, also where it is larger everywhere. Mutant: all of it."""
    with pytest.raises(ValueError, match="the rate is at least") as error:
        _held_out(np.full((64, 50), 30.0), 1.0)
    least, most = float(str(error.value).split("at least ")[1].split()[0]), np.log(3200) / 2
    assert abs(least - (most - np.exp(-most) + 1)) < 1e-3

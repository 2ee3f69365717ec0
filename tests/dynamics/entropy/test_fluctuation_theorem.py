"""Integral fluctuation theorems from few paths: what says nothing says so, and error bars hold where there are any."""

import numpy as np
import pytest

from validation import FluctuationTheorem, fluctuation_theorem
from validation._irreversibility.fluctuation import _integral_error, _tells, likeliest_slope

CASES = [
    ("the error of a mean of exponentials", "instance", "s ~ N(10, 20), 1000 paths", "test_cannot_tell[gaussian-10]"),
    ("the error of a mean of exponentials", "instance", "s ~ N(5, 10), 200 paths", "test_cannot_tell[gaussian-5]"),
    ("the error of a mean of exponentials", "brother", "s of a biased walk, all above 0", "test_cannot_tell[walk-12]"),
    ("the error of a mean of exponentials", "brother", "|s| exponential, mean 4", "test_cannot_tell[exponential-4]"),
    ("the error of a mean of exponentials", "brother", "400 samples of each kind", "test_coverage[gaussian]"),
    ("the error of a mean of exponentials", "brother", "a start narrower than the end", "test_coverage[quench]"),
    ("the error of a mean of exponentials", "brother", "the spread of the sample as error", "test_mutant_errors"),
    ("the error of a mean of exponentials", "brother", "what the line says first", "test_the_slope_leads"),
    ("the error of a mean of exponentials", "brother", "a violated theorem is still seen", "test_violations_are_seen"),
    ("the error of a mean of exponentials", "brother", "no entropy on any path", "test_no_entropy_has_no_slope"),
    ("a mean below 0", "instance", "s ~ N(-1000, 5)", "test_a_mean_below_zero_refutes[far]"),
    ("a mean below 0", "brother", "s ~ N(-.05, .1), and small ones of one size", "test_a_mean_below_zero_refutes"),
    ("a mean below 0", "brother", "20000 samples of each kind, of 2 to 400 paths", "test_nothing_fails_that_holds"),
    ("a mean below 0", "brother", "s ~ N(-.001, .05): chance", "test_a_mean_near_zero_says_nothing"),
]


def gaussian(rng, mean, shape):
    return rng.normal(mean, np.sqrt(2 * mean), shape)


def signed(rng, size):
    """Signs as the detailed theorem says of the sizes."""
    return np.where(rng.random(size.shape) < 1 / (1 + np.exp(-size)), size, -size)


def exponential(rng, mean, shape):
    return signed(rng, rng.exponential(mean, shape))


def walk(rng, mean, shape):
    return signed(rng, np.full(shape, mean))


def mixture(rng, mean, shape):
    return gaussian(rng, rng.gamma(1.0, mean, shape), shape)


def quench(rng, mean, shape):
    """x from a normal distribution narrower than the stationary one relaxes to y: the detailed theorem fails, the integral
    one holds, and exp(-s) has power-law tails."""
    before = 1 / (1 + 2 * mean)
    after = 0.81 * before + 0.19
    x = rng.normal(0, before**0.5, shape)
    y = 0.9 * x + 0.19**0.5 * rng.normal(size=shape)
    return (x**2 - y**2) / 2 + (y**2 / after - x**2 / before) / 2 + np.log(after / before) / 2


DRAWS = {draw.__name__: draw for draw in (gaussian, exponential, walk, mixture, quench)}


@pytest.mark.parametrize("name, mean, paths", [
    pytest.param("gaussian", 10, 1000, id="gaussian-10"), pytest.param("gaussian", 5, 200, id="gaussian-5"),
    pytest.param("walk", 12, 500, id="walk-12"), pytest.param("exponential", 4, 500, id="exponential-4"),
])  # fmt: skip
def test_cannot_tell(name, mean, paths):
    theorem = fluctuation_theorem(DRAWS[name](np.random.default_rng(0), mean, paths))
    print(f"\n{theorem}")
    assert not theorem.tells and "cannot tell" in str(theorem) and f"{theorem.integral:.4f} ±" not in str(theorem)
    assert abs(theorem.integral - 1) < 3 * theorem.integral_error


def off(values, errors):
    return np.mean(np.abs(values - 1) > 3 * errors)


@pytest.mark.parametrize("name", DRAWS)
def test_coverage(name):
    """|z| > 3 in at most 3 % of 400 samples, of the integral wherever it tells and of the slope."""
    rng, told = np.random.default_rng(1), []
    for paths in (50, 400):
        for mean in (0.1, 0.5, 1.0, 2.0, 8.0):
            s = DRAWS[name](rng, mean, (400, paths))
            slope, slope_error = likeliest_slope(s)
            error = _integral_error(s)
            tells = _tells(error, slope, slope_error)
            told.append(tells.mean())
            assert name == "quench" or off(slope, slope_error) <= 0.03
            assert off(np.exp(-s).mean(axis=1)[tells], error[tells]) <= 0.03 if np.any(tells) else True
            if np.exp(2 * mean) < paths / 20 and name in ("gaussian", "walk"):  # it does tell where it can
                assert tells.mean() > 0.5
    assert max(told) > 0.95 and (name == "quench" or min(told) < 0.1)


def test_mutant_errors():
    """Rejected by the coverage: the spread of the sample, with and without the rule of when to tell."""
    s = gaussian(np.random.default_rng(2), 2.0, (400, 200))
    means, spread = np.exp(-s).mean(axis=1), np.exp(-s).std(axis=1, ddof=1) / 200**0.5
    tells = _tells(spread, *likeliest_slope(s))
    print(f"\n{off(means, spread):.3f} of all, {off(means[tells], spread[tells]):.3f} where it would tell")
    assert off(means, spread) > 0.05 and off(means[tells], spread[tells]) > 0.05
    assert off(means, _integral_error(s)) <= 0.03


def test_the_slope_leads():
    theorem = fluctuation_theorem(gaussian(np.random.default_rng(0), 0.5, 2000))
    assert theorem.tells and str(theorem).startswith("slope of ln p(s)/p(-s)")
    assert "<exp(-s)> = " in str(theorem) and "cannot tell" not in str(theorem)
    assert fluctuation_theorem(np.zeros(5)).tells  # nothing is produced: exactly 1


def test_violations_are_seen():
    """s of the wrong mean, by 8 errors of the integral and of the slope."""
    theorem = fluctuation_theorem(np.random.default_rng(0).normal(0.25, 1.0, 4000))
    assert theorem.tells
    assert abs(theorem.integral - 1) > 8 * theorem.integral_error and abs(theorem.slope - 1) > 8 * theorem.slope_error


def test_no_entropy_has_no_slope():
    found = fluctuation_theorem(np.zeros(100))
    assert "not defined, all s being 0" in str(found) and "nan" not in str(found)


BELOW = {
    "far": lambda rng: rng.normal(-1000, 5, 200),
    "two": lambda rng: np.array([-5.0, -4.0]),
    "narrow": lambda rng: rng.normal(-0.05, 0.1, 200),
    "tiny": lambda rng: np.where(rng.random(200) < 0.3, 1e-6, -1e-6),
}


@pytest.mark.parametrize("name", BELOW)
def test_a_mean_below_zero_refutes(name):
    """<exp(-s)> is at least exp(-<s>): the theorem fails, and is not said to be beyond what so many paths tell."""
    theorem = fluctuation_theorem(BELOW[name](np.random.default_rng(0)))
    print(f"\n{theorem}")
    assert theorem.fails and "fails, since <s> is below 0" in str(theorem) and "cannot tell" not in str(theorem)


def test_a_mean_near_zero_says_nothing():
    for s in (np.random.default_rng(0).normal(-0.001, 0.05, 1000), np.full(5, -0.1), np.zeros(5)):
        theorem = fluctuation_theorem(s)
        assert not theorem.fails and "fails" not in str(theorem)


def failing(s):
    """How many samples `(keys, paths)` would be said to fail."""
    paths, mean = s.shape[1], s.mean(axis=1)
    error = s.std(axis=1, ddof=1) / paths**0.5
    make = lambda m, e: FluctuationTheorem(1, 1, 1, 1, 1, float(m), float(e), paths).fails  # noqa: E731
    likely = np.nonzero(mean < -error)[0]
    return sum(make(mean[k], error[k]) for k in likely) / len(s)


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWS)
def test_nothing_fails_that_holds(name):
    """In at most .3 % of 20000 samples of which the theorem is true, of any size."""
    rng = np.random.default_rng(3)
    for paths in (2, 3, 5, 20, 50, 400):
        for mean in (1e-4, 0.1, 1.0, 4.0):
            part = failing(DRAWS[name](rng, mean, (20000 if paths < 400 else 4000, paths)))
            assert part <= 0.003, (paths, mean, part)

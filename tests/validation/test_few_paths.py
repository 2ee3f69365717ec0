"""Error bars from few paths: as many differences lie beyond them as is said, in `compare`, `orders` and `scaling_rule`."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

from validation._compare.statistics import Estimate, moments
from validation._compare.student import deviations, quantile, welch
from validation._orders.fit import slope, sweep
from validation._scaling_rule import _deviations, _verdict

CASES = [
    ("error bars from few paths", "instance", "means of compare at 8 paths", "test_means_and_variances_of_few_paths[8]"),
    ("error bars from few paths", "instance", "beyond two standard errors as of old", "test_the_old_rule_is_rejected"),
    ("error bars from few paths", "brother", "at 4 paths", "test_means_and_variances_of_few_paths[4]"),
    ("error bars from few paths", "brother", "one side without noise", "test_against_a_side_without_noise[8]"),
    ("error bars from few paths", "brother", "which way the tail is", "test_the_sign_of_a_skewness"),
    ("error bars from few paths", "brother", "a variance of two paths", "test_a_variance_takes_three_paths"),
    ("error bars from few paths", "brother", "unequal numbers and spreads (Welch)", "test_unequal_ensembles"),
    ("error bars from few paths", "brother", "a verdict of scaling_rule", "test_a_scaling_rule_of_few_paths"),
    ("error bars from few paths", "brother", "a slope of orders from few groups", "test_a_slope_from_few_groups"),
    ("error bars from few paths", "brother", "what stands out of few groups", "test_an_error_stands_out_of_few_groups"),
    ("error bars from few paths", "brother", "tails that underflow, no error, no freedom", "test_quantiles"),
]  # fmt: skip
KEYS = 4000
FOURS = np.array([[1, 2, 3, 4.0], [4, 5, 6, 7.5]])
STATED = 2 * scipy.stats.norm.sf(2)  # .0455
SLACK = 4 * (STATED * (1 - STATED) / KEYS) ** 0.5  # four standard errors of the fraction
LAWS = {
    "normal": lambda random, shape: random.normal(size=shape),
    "uniform": lambda random, shape: random.uniform(-1, 1, shape),
    "student": lambda random, shape: random.standard_t(6, shape),
    "exponential": lambda random, shape: random.exponential(size=shape),
    "square": lambda random, shape: random.normal(size=shape) ** 2,
}


def draws(law, paths, seed=0):
    """Of an equation, of its refinement and of an algorithm that agree, `(paths, 1, keys)`."""
    random = np.random.default_rng(seed)
    equation, discrete = (LAWS[law](random, (paths, 1, KEYS)) for _ in range(2))
    return equation, equation + 0.01 * LAWS["normal"](random, equation.shape), discrete


def beyond(moment, skewness=True):
    found, skew = moment.model_error, moment.skewness if skewness else 0.0
    return np.mean(deviations(found.value, found.error, moment.freedom, skew) > 2)


@pytest.mark.parametrize("paths", [4, 8, 32])
def test_means_and_variances_of_few_paths(paths):
    """At most what is stated beyond two standard deviations, and for means of normal numbers not much less."""
    for law in LAWS:
        both = moments(*draws(law, paths), 2)
        for statistic, moment in both.items():
            assert beyond(moment) < STATED + SLACK + 0.007 * (statistic == "variance"), (law, statistic)
        if law == "normal" and paths >= 8:
            assert beyond(both["mean"]) > STATED - 0.006 - SLACK


def test_the_old_rule_is_rejected():
    """Standard errors taken for those of a normal number: 6 to 12 % beyond two."""
    for law, statistic in (("normal", "mean"), ("uniform", "mean"), ("exponential", "variance")):
        found = moments(*draws(law, 8), 2)[statistic].model_error
        assert np.mean(np.abs(found.value) > 2 * found.error) > STATED + SLACK, (law, statistic)


@pytest.mark.parametrize("paths", [8, 32])
def test_against_a_side_without_noise(paths):
    """The skewness of one side is not made up for by that of the other. Mutant: Student's t alone."""
    still = np.zeros((1, 1, KEYS))
    for law, mean in (("normal", 0), ("uniform", 0), ("exponential", 1), ("square", 1)):
        _, _, discrete = draws(law, paths)
        moment = moments(still, still, discrete - mean, 2, (False, True))["mean"]
        assert np.all(moment.freedom == paths - 1) and beyond(moment) < STATED + SLACK, law
        if law == "normal":
            assert beyond(moment) > STATED / 2
            assert np.mean(np.abs(moment.model_error.value) > 2 * moment.model_error.error) > beyond(moment) + 0.01
        rare = (
            np.abs(moment.model_error.value) > quantile(2, moment.freedom, moment.skewness) * moment.model_error.error
        )
        assert np.mean(rare) < STATED + SLACK, law
    assert beyond(moment, skewness=False) > STATED + SLACK


def test_the_sign_of_a_skewness():
    """Too low a mean of numbers with a long tail above is less rare than too high a one; more so of fewer."""
    below, above = (deviations(value, 1.0, 7, 0.8) for value in (-3.0, 3.0))
    assert below < deviations(3.0, 1.0, 7) == above and deviations(-3.0, 1.0, 7, -0.8) == above
    assert below < deviations(-3.0, 1.0, 7, 0.2) < above and quantile(3, 7, 0.8) > quantile(3, 7)


def test_a_variance_takes_three_paths():
    """Of two paths the squares about their mean are equal, and their spread of 0 is no error. Mutant: a least of two."""
    for paths, known in ((2, False), (3, True)):
        both = moments(*draws("normal", paths), 2)
        assert np.all(np.isfinite(both["mean"].model_error.error))
        for estimate in (both["variance"].equation, both["variance"].discrete, both["variance"].model_error):
            assert np.all(np.isfinite(estimate.error)) == known and np.all(np.isnan(estimate.error)) != known
            assert not known or np.all(estimate.error > 0)


def test_unequal_ensembles():
    """Eight paths against forty of a quarter of the spread."""
    random = np.random.default_rng(1)
    few, many = random.normal(size=(8, 1, KEYS)), 0.25 * random.normal(size=(40, 1, KEYS))
    moment = moments(few, few, many, 2)["mean"]
    assert np.all((moment.freedom > 6.9) & (moment.freedom < 47)) and abs(beyond(moment) - STATED) < SLACK + 0.003


def test_a_scaling_rule_of_few_paths():
    """Deviations of five standard errors fail with many paths only; it is four of a normal number that are asked for."""
    records = [np.stack([np.zeros((4, 1)), numbers[:, None]], axis=1) for numbers in FOURS]
    deviation, freedom = _deviations(records)["mean"]
    assert 3 < freedom[0] < 6 and abs(deviation.value[0] / deviation.error[0]) > 3
    wide = Estimate(np.array([1.0]), np.array([0.18]))
    assert _verdict(wide, 0.1) == "fails" and _verdict(wide, 0.1, freedom) == "cannot tell"


def test_a_slope_from_few_groups():
    """The 95 % interval of a slope whose points have errors from three groups each."""
    random, x = np.random.default_rng(3), np.log([0.4, 0.2, 0.1, 0.05])
    covered = {2: 0, np.inf: 0}
    for _ in range(150):
        truth = np.exp(x)
        groups = truth * (1 + 0.1 * random.normal(size=(3, 4)))
        errors = Estimate(groups.mean(0), groups.std(0, ddof=1) / 3**0.5)
        for freedom in covered:
            value, half = slope(x, errors, freedom)
            covered[freedom] += abs(value - 1) < half
    assert covered[2] > 0.92 * 150 and covered[2] > covered[np.inf], covered


def test_an_error_stands_out_of_few_groups():
    """Of no error at all, from two groups: three of their standard errors are no sign of one."""
    random, h = np.random.default_rng(4), np.array([0.4, 0.2, 0.1])
    counted = {1: 0, np.inf: 0}
    for _ in range(300):
        pair = random.normal(size=(2, 3))
        errors = Estimate(np.abs(pair.mean(0)), np.abs(pair[0] - pair[1]) / 2)
        for freedom in counted:
            counted[freedom] += sweep(h, errors, Estimate(0 * h, 0 * h), 0 * h, 1.0, freedom).usable.sum()
    assert counted[1] < 0.01 * 900 < 0.1 * 900 < counted[np.inf], counted


def test_quantiles():
    np.testing.assert_allclose(quantile(2, [1, 7, 1e9, np.inf]), [13.968, 2.4288, 2, 2], rtol=1e-4)
    assert np.isnan(quantile(2, np.nan))
    for freedom in (3, 7, 100):
        for t in (0.5, 2.0, 6.0):
            exact = scipy.stats.norm.isf(scipy.stats.t.sf(t, freedom))
            np.testing.assert_allclose(deviations(t, 1.0, freedom), exact, rtol=1e-9)
    far = deviations(np.array([30.0, 60.0, 1e3]), 1.0, 1e4)  # of which the last two underflow
    assert np.all(np.diff(far) > 0) and np.all(np.isfinite(far)) and abs(far[0] - 30) < 1
    np.testing.assert_array_equal(deviations([1.0, 0.0], [0.0, 0.0], 5), [np.nan, np.nan])
    assert deviations(3.0, 1.0, np.inf) == 3
    assert welch((0.0, 3), (0.0, 4)) == np.inf and welch((1e-200, 3), (0.0, 0)) == 3 and np.isnan(welch((np.nan, 3)))
    np.testing.assert_allclose(welch((1.0, 7), (1.0, 7)), 14)

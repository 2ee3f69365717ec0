"""One-sample verdicts: right numbers hold as often as they should, mutants are rejected."""

import numpy as np
import pytest

from validation import Estimate, judge_bound, judge_curve, judge_number, judge_slope


def test_right_numbers_hold_and_mutants_do_not():
    samples = np.random.default_rng(0).normal(1.0, 1.0, 400)
    assert judge_number("mean", samples, 1.0, mutant=2.0).verdict == "holds"
    assert judge_number("mean", samples, 2.0, mutant=1.0).verdict == "fails"
    assert judge_number("mean", samples, 1.0, mutant=1.1).verdict == "cannot tell"
    assert judge_number("mean", samples, Estimate(1.15, 0.05), mutant=2.0).verdict == "holds"


def test_deviations_are_as_rare_as_they_say():
    """Student's t: with 6 samples |z| > 2 in 4.6 % of all cases, as of a normal number."""
    rng = np.random.default_rng(1)
    found = [judge_number("mean", rng.normal(size=6), 0.0, mutant=9.0).z for _ in range(2000)]
    rare = np.mean(np.array(found) > 2)
    assert abs(rare - 0.0455) < 3 * np.sqrt(0.0455 * 0.9545 / 2000)


def test_a_curve_is_judged_at_all_its_points_together():
    rng = np.random.default_rng(2)
    found = [judge_curve("curve", rng.normal(size=(200, 50)), np.zeros(50), mutant=np.ones(50)).z for _ in range(500)]
    assert np.mean(np.array(found) > 2) < 0.0455 + 3 * np.sqrt(0.0455 / 500)
    bent = np.where(np.arange(50) == 7, 1.0, 0.0)
    told = judge_curve("curve", rng.normal(size=(200, 50)), np.zeros(50), mutant=bent)
    assert told.verdict == "holds" and told.mutant == 1.0


def test_a_point_without_an_error_must_agree():
    values, errors = np.array([1.0, 2.0]), np.array([0.0, 0.1])
    start = Estimate(values, errors)
    assert judge_curve("curve", start, np.array([1.0, 2.1]), mutant=np.array([1.0, 9.0])).verdict == "holds"
    assert judge_curve("curve", start, np.array([1.1, 2.1]), mutant=np.array([1.0, 9.0])).verdict == "fails"


def test_bounds():
    samples = np.random.default_rng(3).normal(1.0, 1.0, 400)
    assert judge_bound("mean", samples, at_least=0.5, mutant=1.5).verdict == "holds"
    assert judge_bound("mean", samples, at_most=1.5, mutant=0.5).verdict == "holds"
    assert judge_bound("mean", samples, at_least=1.5, mutant=2.0).verdict == "fails"
    assert judge_bound("mean", samples, at_least=0.5, mutant=0.6).verdict == "cannot tell"


def test_powers():
    x, rng = np.array([1.0, 0.5, 0.25, 0.125]), np.random.default_rng(4)
    found = Estimate(3 * x**1.5 * (1 + 0.01 * rng.normal(size=4)), 0.03 * x**1.5)
    assert judge_slope("power", x, found, 1.5, mutant=2.0).verdict == "holds"
    assert judge_slope("power", x[::-1], Estimate(*(part[::-1] for part in found)), 1.5, mutant=2.0).verdict == "holds"
    assert judge_slope("power", x, found, 2.0, mutant=1.5).verdict == "fails"


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: judge_number("mean", np.ones((3, 2)), 1.0, mutant=2.0), "measured"),
        (lambda: judge_number("mean", np.ones(2), 1.0, mutant=2.0), "measured"),
        (lambda: judge_curve("curve", np.ones((9, 4)), np.ones(3), mutant=np.ones(4)), "prediction"),
        (lambda: judge_curve("curve", np.ones((9, 4)), np.ones(4), mutant=np.ones(3)), "mutant"),
        (lambda: judge_bound("mean", np.ones(9), mutant=2.0), "at_least"),
        (lambda: judge_slope("power", [1, 2], Estimate(np.ones(2), np.ones(2)), 1.0, mutant=2.0), "x"),
    ],
)
def test_refusals_name_the_argument(call, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        call()


def test_what_is_not_finite_cannot_be_told():
    assert judge_number("mean", np.array([1.0, np.nan, 2.0]), 1.0, mutant=9.0).verdict == "cannot tell"

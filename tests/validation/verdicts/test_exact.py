"""Verdicts where nothing is random: to rounding, and by an error that falls."""

import numpy as np
import pytest

from validation import Estimate, extrapolated, judge_convergence, judge_equality

STEPS = np.array([0.1, 0.05, 0.025])


def test_equality_to_rounding():
    right = np.array([1.0, 2.0])
    assert judge_equality("x", right * (1 + 4e-16), right, mutant=1.1 * right, operations=10).verdict == "holds"
    assert judge_equality("x", right * (1 + 1e-12), right, mutant=1.1 * right, operations=10).verdict == "fails"
    assert judge_equality("x", right, right, mutant=right, operations=10).verdict == "cannot tell"
    single = np.float32([1.0, 2.0])
    assert judge_equality("x", single, right * (1 + 1e-7), mutant=1.1 * right, operations=10).verdict == "holds"


def test_errors_that_fall():
    assert judge_convergence("x", STEPS, STEPS**2, order=2, mutant=STEPS).verdict == "holds"
    assert judge_convergence("x", STEPS[::-1], STEPS[::-1] ** 2, order=2, mutant=STEPS[::-1]).verdict == "holds"
    assert judge_convergence("x", STEPS, STEPS, order=2, mutant=STEPS + 1).verdict == "fails"
    assert judge_convergence("x", STEPS, STEPS**2, order=2, mutant=2 * STEPS**2).verdict == "cannot tell"


def test_limits():
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        one = extrapolated(STEPS, Estimate(1 + 2 * STEPS + 0.01 * rng.normal(size=3), np.full(3, 0.01)))
        found.append((one.value - 1) / one.error)
    assert np.mean(np.abs(found) > 2) < 0.0455 + 3 * np.sqrt(0.0455 * 0.9545 / 400)
    assert extrapolated(STEPS, Estimate(1 + 2 * STEPS, 0 * STEPS)).value == pytest.approx(1, abs=1e-14)
    bent = extrapolated(STEPS, Estimate(1 + 2 * STEPS + STEPS**2, 0 * STEPS))
    assert abs(bent.value - 1) < 3 * bent.error
    four = np.append(STEPS, 0.0125)
    curved = extrapolated(four, Estimate(1 + 2 * four**2 + four**4, 0 * four), order=2, terms=2)
    assert curved.value == pytest.approx(1, abs=1e-13)


def test_limits_of_several_numbers_at_once():
    values = np.stack([1 + STEPS, 2 - STEPS], axis=1)
    assert extrapolated(STEPS, Estimate(values, 0 * values)).value == pytest.approx([1, 2], abs=1e-13)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: judge_equality("x", np.ones(3), np.ones(2), mutant=np.ones(3), operations=1), "prediction"),
        (lambda: judge_convergence("x", STEPS[:2], STEPS[:2], order=1, mutant=STEPS[:2]), "steps"),
        (lambda: extrapolated(STEPS, Estimate(np.ones(2), np.ones(2))), "steps"),
        (lambda: extrapolated(STEPS, Estimate(np.ones(3), np.ones(3)), terms=2), "terms"),
    ],
)
def test_refusals_name_the_argument(call, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        call()

"""Samples against densities that are known up to normalization."""

import numpy as np
import pytest

from validation import judge_density

INFINITE = (0, np.inf)


def gamma(shape):
    return lambda x: (shape - 1) * np.log(x) - x


def test_densities_with_integrable_ends():
    rng = np.random.default_rng(0)
    assert (
        judge_density("x", rng.gamma(0.3, 1, 5000), gamma(0.3), mutant=gamma(0.4), support=INFINITE).verdict == "holds"
    )
    assert judge_density("x", rng.gamma(0.3, 1, 5000), gamma(0.4), mutant=gamma(1), support=INFINITE).verdict == "fails"
    assert judge_density("x", -rng.gamma(0.3, 1, 5000), lambda x: gamma(0.3)(-x), mutant=lambda x: gamma(1)(-x),
                         support=(-np.inf, 0)).verdict == "holds"  # fmt: skip
    wide = lambda x: -(x**2) / 4  # noqa: E731
    assert judge_density("x", rng.normal(size=5000), lambda x: -(x**2) / 2, mutant=wide).verdict == "holds"
    assert judge_density("x", rng.normal(size=5000), wide, mutant=lambda x: -(x**2) / 2).verdict == "fails"


@pytest.mark.slow
def test_rarity():
    rng, right = np.random.default_rng(1), lambda x: -0.5 * np.log(x) + np.log1p(-x)
    found = [
        judge_density("x", rng.beta(0.5, 2, 300), right, mutant=np.zeros_like, support=(0, 1)).z for _ in range(500)
    ]
    assert np.mean(np.array(found) > 2) < 0.0455 + 3 * np.sqrt(0.0455 * 0.9545 / 500)


def test_samples_along_a_path_count_for_what_they_are_worth():
    """A common part in each path: taken for independent, the right density would be rejected in most cases."""
    rng, found = np.random.default_rng(2), []
    for _ in range(200):
        samples = np.sqrt(0.5) * (rng.normal(size=(40, 1)) + rng.normal(size=(40, 50)))
        found.append(judge_density("x", samples, lambda x: -(x**2) / 2, mutant=lambda x: -((x - 2) ** 2) / 2))
    assert np.mean([one.z > 3 for one in found]) < 0.02 and np.mean([one.mutant_z > 5 for one in found]) == 1


@pytest.mark.parametrize(
    "samples, density, support, name",
    [
        (np.ones(3), gamma(1), INFINITE, "samples"),
        (np.array([np.nan] * 9), gamma(1), INFINITE, "samples"),
        (np.ones(9), lambda x: -1.5 * np.log(x), INFINITE, "log_density"),
        (np.ones(9), gamma(1), (1, 0), "support"),
    ],
)
def test_refusals_name_the_argument(samples, density, support, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        judge_density("x", samples, density, mutant=gamma(2), support=support)

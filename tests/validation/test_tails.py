"""Power-law tails: Kesten's root for SGD on a regression with one weight, and the tail of real training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from oracles import squared_error

from dynamics import train
from equations import SGD, Objective
from validation import hill, judge_number, tail_index, tail_scan


@pytest.mark.parametrize(
    ("rate", "batch_size", "index"), [(1.0, 1, 1.09), (0.5, 1, 2.90), (1.0, 4, 3.50), (0.2, 1, 8.30)]
)
def test_the_root_for_gaussian_inputs(rate, batch_size, index):
    """E|1 - rate chi^2_S/S|^beta = 1, by quadrature; the estimate 2S/rate - S is approximate (1, 3, 4, 9)."""
    squares = np.linspace(0, 15, 200_001)[1:] ** 2
    weights = np.sqrt(squares) * scipy.stats.chi2.pdf(squares * batch_size, batch_size)
    assert abs(tail_index(1 - rate * squares, weights) - index) < 0.005


def test_the_root_in_closed_form():
    assert abs(tail_index([2.0, 0.5], [1 / 3, 2 / 3]) - 1) < 1e-12  # 2/3 + 1/3
    assert abs(tail_index([-3.0, 0.0], [1 / 9, 8 / 9]) - 2) < 1e-12
    # Roots below one: E|A|^(1/2) = 1 at 4 with 1/3 and 1/4 with 2/3, E|A|^(1/4) = 1 at 16 and 1/16.
    assert abs(tail_index([4.0, 0.25], [1 / 3, 2 / 3]) - 0.5) < 1e-12
    assert abs(tail_index([16.0, 1 / 16], [1 / 3, 2 / 3]) - 0.25) < 1e-12
    assert tail_index([0.9, -0.5]) == float("inf")
    for wrong in ([2.0, 0.6], [np.nan], [], [[0.5]]):
        with pytest.raises(ValueError, match="Argument `multipliers`"):
            tail_index(wrong)
    with pytest.raises(ValueError, match="Argument `weights`"):
        tail_index([0.5, 2.0], [1.0])


def test_hill_on_a_pareto_distribution():
    samples = np.random.default_rng(0).pareto(3.0, size=20_000) + 1
    estimate = hill(samples, 500)
    assert abs(estimate.value - 3) < 4 * estimate.error and 0.1 < estimate.error < 0.2
    for name, call in (("largest", lambda: hill(samples, 1)), ("samples", lambda: hill(np.zeros(9), 3)),
                       ("samples", lambda: hill(np.ones(9), 3))):  # fmt: skip
        with pytest.raises(ValueError, match=f"Argument `{name}`"):
            call()


def test_a_plateau_is_found_where_the_bias_ends():
    """Of Student's t: the exponent is its degrees of freedom; Hill's from a hundredth of the samples is the mutant."""
    samples = np.random.default_rng(0).standard_t(3, size=400_000)
    found, far = tail_scan(samples), hill(samples, 20_000)
    assert found.verdict == "plateau" and str(found).startswith("plateau: ")
    assert abs(found.exponent.value - 3) < 3 * found.exponent.error and found.largest > 200
    assert abs(far.value - 3) > 5 * far.error
    place = int(np.argmin(np.abs(found.counts - 2048)))
    assert found.estimates.value[place] == pytest.approx(hill(samples, int(found.counts[place])).value)


def test_the_error_of_a_plateau_is_its_spread():
    generator = np.random.default_rng(1)
    scans = [tail_scan(generator.standard_t(3, size=100_000)) for _ in range(40)]
    z = np.array([(one.exponent.value - 3) / one.exponent.error for one in scans if one.verdict == "plateau"])
    assert len(z) > 30 and abs(z.mean()) < 0.7 and 0.7 < z.std() < 1.4
    assert all(abs(one.trends[one.counts <= 8 * one.largest]).max() < 2.5 for one in scans if one.largest)


def test_no_plateau_without_a_power_law():
    generator = np.random.default_rng(2)
    for samples in (generator.normal(size=200_000), generator.exponential(size=200_000), generator.pareto(3.0, 500)):
        found = tail_scan(samples)
        assert found.verdict == "cannot tell" and np.isnan(found.exponent.value) and found.largest == 0
    for wrong in (np.ones(100), np.arange(9), np.full(100, np.nan)):
        with pytest.raises(ValueError, match="Argument `samples`"):
            tail_scan(wrong)


@pytest.mark.slow
def test_the_bias_of_two_million_samples():
    """Kesten's recursion at a rate of one half: 2.905; thirty thousand samples of two million say 2.71."""
    generator, weights = np.random.default_rng(0), np.zeros(2_000_000)
    for _ in range(200):
        x = generator.normal(size=weights.size)
        weights = (1 - 0.5 * x**2) * weights + 0.5 * x * generator.normal(size=weights.size)
    found, far = tail_scan(weights), hill(weights, 30_000)
    print(found, far)
    assert judge_number("exponent", found.exponent, 2.9045, mutant=far.value).z < 3
    assert abs(far.value - 2.9045) > 5 * far.error


@pytest.mark.slow
def test_the_tail_of_training_is_that_of_kesten():
    """20 000 runs on 400 examples, whose own root is taken; that of half the learning rate, or of pairs, is rejected."""
    size, rate, paths, steps = 400, 0.5, 20_000, 300
    x = scipy.stats.norm.ppf((np.arange(size) + 0.5) / size)
    y = np.random.default_rng(0).permutation(x)
    run = train(SGD(rate, 1), Objective(squared_error, (x[:, None], y)), jnp.zeros(1), steps=steps, key=jax.random.key(0),
                paths=paths, save_every=steps)  # fmt: skip
    estimate = hill(run.final, 200)
    roots = [tail_index(1 - rate * x**2), tail_index(1 - rate / 2 * x**2),
             tail_index((1 - rate * (x[:, None] ** 2 + x**2) / 2).ravel())]  # fmt: skip
    off = np.abs(estimate.value - np.array(roots)) / estimate.error
    print(f"\ntail index {estimate.value:.2f} +- {estimate.error:.2f}; root {roots[0]:.2f} ({off[0]:.1f} s.e.), "
          f"at half the rate {roots[1]:.2f} ({off[1]:.0f}), with batches of two {roots[2]:.2f} ({off[2]:.0f})")  # fmt: skip
    assert off[0] < 4 < min(off[1:])

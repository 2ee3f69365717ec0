"""First passages of a path that forgets in every step, geometric, and of an Ornstein-Uhlenbeck process, by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from dynamics import first_passage, solve
from equations import SGD, Isotropic, Objective
from validation import judge_number

QUADRATIC = Objective(lambda w, e: w**2 / 2 + 0 * e, jnp.zeros(1))
WHITE = SGD(1.0, noise_model=Isotropic(1.0))  # w' = -xi
LEVEL = 2.0
CHANCE = scipy.stats.norm.sf(LEVEL)


def passages(**more):
    options = dict(observable=lambda w: w, level=LEVEL, steps=48, key=jax.random.key(0), paths=2000, segment=16) | more
    return first_passage(WHITE, QUADRATIC, jnp.array(0.0), **options)


@pytest.mark.slow
def test_the_mean_is_known_although_most_paths_have_not_passed():
    """The mean over those that have is the mutant."""
    found = passages()
    assert 0.2 < found.censored / 2000 < 0.5 and found.failed == 0 and found.steady < 3 and found.time_per_step == 1.0
    naive = found.times[found.crossed].mean()
    assert judge_number("mean time", found.mean, 1 / CHANCE, mutant=naive).verdict == "holds"
    assert np.array_equal(found.crossed, np.isfinite(found.times)) and found.times[found.crossed].max() <= 48
    assert str(found).startswith(f"{found.crossed.sum()} of 2000 paths passed in 48 steps (0 failed)")


@pytest.mark.slow
def test_below_and_after():
    """By symmetry, on other records; the first ten steps left out change nothing for what forgets."""
    found = passages(below=True, level=-LEVEL, after=10, save_every=2, key=jax.random.key(1))
    twice = found.mean.value, found.mean.error
    # Every other step is looked at: the chance is that of one step in two.
    assert abs(twice[0] - 2 / CHANCE) < 3 * twice[1] and found.exposure.max() == 38
    assert np.all(found.times[found.crossed] % 2 == 0)


@pytest.mark.slow
def test_it_ends_when_all_have_passed():
    found = passages(level=-3.0, steps=160)
    assert found.censored == 0 and found.steps <= 32
    at_once = passages(level=0.0, paths=4)
    assert np.all(at_once.times == 0) and np.isnan(at_once.mean.value)


@pytest.mark.slow
def test_of_the_equation():
    """dw = -w dt + s sqrt(eta) dW from 0 to the level: 1/D int_0^a e^{u^2/2v} int_-inf^u e^{-x^2/2v}, seen every eta."""
    eta, scale, level = 0.01, 4.0, 0.6
    variance = eta * scale**2 / 2
    seen = level + 0.5826 * scale * eta  # s sqrt(eta) sqrt(dt) with dt = eta
    inner = lambda u: np.exp(u**2 / (2 * variance)) * scipy.special.ndtr(u / variance**0.5)  # noqa: E731
    exact = [scipy.integrate.quad(inner, 0, end)[0] * np.sqrt(2 * np.pi * variance) / variance for end in (seen, level)]
    found = first_passage(SGD(eta, noise_model=Isotropic(scale)), QUADRATIC, jnp.array(0.0), observable=lambda w: w,
                          level=level, steps=16_000, key=jax.random.key(0), paths=2000, run=solve)  # fmt: skip
    assert found.censored < 20
    times = np.minimum(found.times, 16_000) * found.time_per_step
    z = [(times.mean() - value) / (times.std() / len(times) ** 0.5) for value in exact]
    print(z, exact, times.mean())
    assert abs(z[0]) < 3 and abs(z[1]) > 3


def test_refusals():
    for name, wrong in (("segment", dict(segment=7)), ("observable", dict(observable=2)), ("run", dict(run=max)),
                        ("after", dict(after=-1)), ("event", dict(event=3)), ("below", dict(below=2)),
                        ("level", dict(level="high")), ("observable", dict(observable=lambda w: jnp.ones(2)))):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=f"Argument `{name}`"):
            passages(**wrong)

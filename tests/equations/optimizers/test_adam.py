"""Adam with 1 - b1 ~ eta and 1 - b2 ~ eta: variance of the parameters, noise of the second moment, start.

Far from the minimum the second moment's noise, 2 g delta + ..., nearly cancels that of the first, and the variance of the
parameters is many times smaller than without it; the loss shows nothing of this.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changed import changed
from mutants.adam import FromZero, WithoutNoise, WithoutShift

from dynamics import solve, train
from equations import Adam, Objective

TIME, PATHS, BATCH = 2.0, 12_000, 2
RATES = (0.05, 0.025, 0.0125)
START = np.array([3.0, -3.0])


def quadratic(w, example):
    """Noise both multiplicative (the curvatures differ) and additive (the centers do)."""
    curvature, center = example
    return 0.5 * jnp.sum(curvature * (w - center) ** 2)


def problem(seed=0, examples=16):
    rng = np.random.default_rng(seed)
    return Objective(quadratic, (rng.uniform(0.5, 1.5, (examples, 2)), rng.normal(size=(examples, 2))))


PROBLEM = problem()


def adam(cls, eta, batch_size=BATCH, rate1=2.0, rate2=2.0):
    """1 - b1 = rate1 eta, 1 - b2 = rate2 eta, by the equation's own scaling from eta = .1."""
    base = cls(learning_rate=0.1, batch_size=batch_size, b1=1 - 0.1 * rate1, b2=1 - 0.1 * rate2)
    return base.scaling_limit().rescaled(eta / 0.1)


def moments(flow, eta, lost=0):
    """Var/eta of each parameter, its standard error, and the mean; at most `lost` paths may have failed."""
    assert np.sum(~flow.ok) <= lost
    final = np.asarray(flow.final)[np.asarray(flow.ok)]
    squares = (final - final.mean(0)) ** 2 / eta
    return squares.mean(0), squares.std(0) / len(final) ** 0.5, final.mean(0)


def equation(cls, eta, substeps=1, lost=0):
    steps = round(TIME / eta)
    return moments(solve(adam(cls, eta), PROBLEM, START, steps=steps, key=jax.random.key(0), paths=PATHS,
                         save_every=steps, substeps=substeps), eta, lost)  # fmt: skip


def discrete(eta, noise, objective=PROBLEM):
    steps = round(TIME / eta)
    return moments(train(adam(Adam, eta), objective, START, steps=steps, key=jax.random.key(1), paths=PATHS,
                         save_every=steps, noise=noise), eta)  # fmt: skip


def gap(one, other):
    """(Var one)/(Var other) - 1 of each parameter, and its standard error."""
    ratio = one[0] / other[0]
    return ratio - 1, ratio * np.hypot(one[1] / one[0], other[1] / other[0])


def verdict(deviation, error):
    """The check: every parameter's variance within 10 %, to 4 standard errors beyond doubt. True, False or None."""
    assert np.all(error < 0.03 * (1 + deviation))
    if np.any(np.abs(deviation) - 4 * error > 0.1):
        return False
    return True if np.all(np.abs(deviation) < 0.1) else None


@functools.cache
def gaussian(eta):
    """The discrete algorithm on Gaussian gradients."""
    return discrete(eta, "gaussian")


# The laws hold every single step of both sides exactly, so that one learning rate is enough for the runs.
@pytest.mark.slow
@pytest.mark.parametrize("rates", [RATES[:1], RATES])
def test_variance_as_the_learning_rate_falls(rates):
    found = {eta: gap(equation(Adam, eta), gaussian(eta)) for eta in rates}
    for eta, (deviation, error) in found.items():
        print(f"\neta={eta}: Var/eta {gaussian(eta)[0]}, equation off by {deviation} +- {error}")
    assert all(verdict(*found[eta]) for eta in rates)
    # The deviation is a model error: it falls with the learning rate.
    first, last = found[rates[0]], found[rates[-1]]
    assert np.abs(last[0]).max() < np.abs(first[0]).max() + 4 * np.hypot(first[1], last[1]).max()


@pytest.mark.slow  # the law kick_moments rejects both, exactly
@pytest.mark.parametrize("mutant", [WithoutNoise, WithoutShift])
@pytest.mark.filterwarnings("ignore:The solver is unstable")  # the second fails now and then, as it should not
def test_mutants_are_rejected_by_the_variance(mutant):
    deviation, error = gap(equation(mutant, RATES[1], lost=10), gaussian(RATES[1]))
    print(f"\n{mutant.__name__}: Var/eta off by {deviation}, {np.abs(deviation) / error} s.e.")
    assert verdict(deviation, error) is False


@pytest.mark.slow
@pytest.mark.parametrize("substeps", [2, 4])
def test_variance_does_not_depend_on_the_solver(substeps):
    eta = RATES[1]
    deviation, error = gap(equation(Adam, eta, substeps), gaussian(eta))
    print(f"\nsubsteps={substeps}: off by {deviation} +- {error}")
    assert verdict(deviation, error)


@pytest.mark.slow
def test_gap_to_real_batches():
    """Real batches have third and higher cumulants, which enter the noise of the squared gradient at leading order.

    No Gaussian noise has them: the gap is a property of the model, and it does not fall with the learning rate.
    """
    gaps = {eta: gap(discrete(eta, "minibatch"), gaussian(eta)) for eta in RATES[:2]}
    for eta, (deviation, error) in gaps.items():
        print(f"\neta={eta}: real batches off by {deviation} +- {error} from Gaussian gradients")
    (before, _), (deviation, error) = gaps.values()
    print(before)
    assert np.all(deviation + 4 * error < -0.2) and np.all(deviation < 0.8 * before)


@pytest.mark.slow
def test_no_gap_where_batches_have_gaussian_cumulants():
    """Six centers (-1, 0, 0, 0, 0, 1) sqrt(3) have the moments of a normal variable up to the fifth."""
    eta = RATES[1]
    centers = np.sqrt(3.0) * np.array([-1.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    objective = Objective(quadratic, (np.ones((6, 2)), 1.5 * np.stack([centers, centers], axis=1)))
    deviation, error = gap(discrete(eta, "minibatch", objective), discrete(eta, "gaussian", objective))
    print(f"\nreal batches with Gaussian cumulants: off by {deviation} +- {error}")
    assert np.all(np.abs(deviation) < 4 * error)


@functools.cache
def lowest(cls):
    """The subclass whose parameters carry the lowest second moment that any kick has left."""

    def kicked(s, t, state, signal, noise, dt):
        kick = s.kick(t, state, signal, noise, dt)
        after = jnp.minimum(state.params["lowest"], jnp.min(state.nu["w"] + kick.nu["w"]))
        return eqx.tree_at(lambda kick: kick.params["lowest"], kick, after - state.params["lowest"])

    class Lowest(cls):
        splitting = changed(kick=kicked)

    return Lowest


class Unbounded(Adam):
    """Mutant: Adam without the bound that keeps the second moment positive where a step is cut into parts."""

    splitting = changed(clip_noise=lambda s, state, even, odd, dt: odd)


def of_weights(params, example):
    return quadratic(params["w"], example)


def lowest_second_moments(cls, b1, b2, substeps, batch_size=1):
    flow = solve(
        lowest(cls)(learning_rate=0.05, batch_size=batch_size, b1=b1, b2=b2),
        Objective(of_weights, PROBLEM.data),
        {"w": jnp.array([1.0, 0.0]), "lowest": jnp.array(1e6)}, steps=60, key=jax.random.key(2), paths=1000,
        save_every=60, substeps=substeps,
    )  # fmt: skip
    return np.asarray(flow.final["lowest"]), np.asarray(flow.ok)


# test_laws has all kicks over halves and sixteenths of a step from one state, and rejects Adam without the bound.
@pytest.mark.slow
@pytest.mark.parametrize(
    "b1, b2, substeps",
    [(0.9, 0.999, 1), (0.9, 0.999, 4), (0.8, 0.6, 4)],
)
@pytest.mark.filterwarnings("ignore:Argument `params`")  # a record that rides along has no gradient,
@pytest.mark.filterwarnings("ignore:The solver is unstable")  # and its kicks are no leapfrog's
def test_second_moment_stays_positive(b1, b2, substeps):
    low, ok = lowest_second_moments(Adam, b1, b2, substeps)
    print(f"\nb2={b2}, substeps={substeps}: lowest second moment {low.min():.2e}")
    assert np.all(ok) and np.all(low > 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Argument `params`", "ignore:The solver is unstable")
def test_without_the_bound_it_does_not():
    """Its square root is then no number, and the path fails."""
    low, ok = lowest_second_moments(Unbounded, 0.9, 0.999, substeps=2)
    print(f"\nwithout the bound, substeps=2: {np.mean(~ok):.1%} of the paths fail")
    assert not np.all(ok)


def start_errors(cls, rates, rate1, rate2):
    """Equation minus algorithm without noise, at one time: exact but for a solver of fifth order."""
    errors = []
    for eta in rates:
        steps = round(TIME / eta)
        rule = adam(cls, eta, None, rate1, rate2)
        flow = solve(rule, PROBLEM, START, steps=steps, save_every=steps, substeps=4)
        run = train(rule, PROBLEM, START, steps=steps, save_every=steps)
        errors.append(np.linalg.norm(np.asarray(flow.final - run.final)))
    return np.array(errors)


@pytest.mark.slow  # the law of the order sees it in a shorter run
@pytest.mark.parametrize("rate1, rate2", [(1.0, 1.0), (2.0, 0.5)])
def test_the_start_keeps_weak_order_one(rate1, rate2):
    rates = (0.02, 0.01, 0.005)
    slopes = {}
    for cls in (Adam, FromZero):
        errors = start_errors(cls, rates, rate1, rate2)
        slopes[cls] = np.log2(errors[:-1] / errors[1:])
        print(f"\n{cls.__name__}, 1 - b1 = {rate1} eta, 1 - b2 = {rate2} eta: errors {errors}, slopes {slopes[cls]}")
    assert np.all(np.abs(slopes[Adam] - 1) < 0.2)
    assert np.all(slopes[FromZero] < slopes[Adam] - 0.08)
    assert np.all(slopes[FromZero] < 0.85)

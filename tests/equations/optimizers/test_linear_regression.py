"""Linear regression: SGD and its equation, each against its own closed-form mean and covariance, and told apart."""

import jax.numpy as jnp
import numpy as np
import pytest
from oracles import LinearRegression, squared_error, within

from dynamics import solve, train
from equations import SGD, Objective

ETA, BATCH, STEPS, SAVE_EVERY, PATHS = 0.1, 4, 24, 4, 10_000
OBSERVE = {"w": lambda w: w}
PROBLEM = LinearRegression()


def closed_form(kind, sampling):
    step = {"equation": PROBLEM.sde_map, "discrete": PROBLEM.sgd_map}[kind](ETA, BATCH, sampling)
    return PROBLEM.trace(step, STEPS, SAVE_EVERY)


def distances(samples, truth):
    """At every record after the first, the largest deviation of mean or covariance, in units of 4 standard errors."""
    return np.array([within(samples[:, k], truth[0][k], truth[1][k]) for k in range(1, samples.shape[1])])


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
@pytest.mark.parametrize("kind", ["equation", "discrete"])
def test_moments_at_every_record(kind, sampling, key):
    # eta * sharpness is .25: at every record the two closed forms differ by more than 10 standard errors, and the solver
    # from its own by a small part of that (test_solver_moments).
    run = {"equation": solve, "discrete": train}[kind]
    other = {"equation": "discrete", "discrete": "equation"}[kind]
    flow = run(
        SGD(learning_rate=ETA, batch_size=BATCH, sampling=sampling), PROBLEM.objective, PROBLEM.start, steps=STEPS,
        key=key, paths=PATHS, observe=OBSERVE, save_every=SAVE_EVERY,
    )  # fmt: skip
    samples = np.asarray(flow.observables["w"])
    own = distances(samples, closed_form(kind, sampling))
    wrong = distances(samples, closed_form(other, sampling))
    print(f"\n{kind}, {sampling}: from its own closed form {4 * own.max():.1f} s.e. at most, from the other's "
          f"{4 * wrong.min():.1f} at least")  # fmt: skip
    assert np.all(own < 1)
    assert np.all(wrong > 1)


@pytest.mark.parametrize("kind", ["equation", "discrete"])
def test_samplings_are_told_apart(kind, key):
    """Independent subsets have the factor (N - B)/(N - 1): with half the examples in a batch, about a half."""
    problem = LinearRegression(examples=16)
    run = {"equation": solve, "discrete": train}[kind]
    step = {"equation": problem.sde_map, "discrete": problem.sgd_map}[kind]
    flow = run(SGD(ETA, 8, "without_replacement"), problem.objective, problem.start, steps=20, key=key, paths=4000,
               observe=OBSERVE, save_every=20)  # fmt: skip
    samples = np.asarray(flow.observables["w"])
    assert np.all(distances(samples, problem.trace(step(ETA, 8, "without_replacement"), 20, 20)) < 1)
    assert np.all(distances(samples, problem.trace(step(ETA, 8), 20, 20)) > 4)


@pytest.mark.slow
def test_shuffled_epochs_are_noise_free_at_leading_order(key):
    """tr Cov / eta at epoch ends falls as eta^2 in training at a fixed time, while the equation has no noise at all."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(12, 2))
    objective = Objective(squared_error, (x, x @ np.array([1.0, -1.0]) + rng.normal(size=12)))
    sgd = SGD(learning_rate=0.2 / np.linalg.eigvalsh(x.T @ x / 12)[-1], batch_size=4, sampling="shuffled")
    rates, spreads, errors = [], [], []
    for halvings in range(3):
        equation = sgd.scaling_limit().rescaled(0.5**halvings)
        steps = 12 * 2**halvings  # epochs have three steps
        run = train(equation, objective, jnp.zeros(2), steps=steps, key=key, paths=4000, observe={}, save_every=steps)
        centered = np.asarray(run.final) - np.asarray(run.final).mean(0)
        squares = (centered**2).sum(1) / float(equation.learning_rate)
        rates.append(float(equation.learning_rate))
        spreads.append(squares.mean())
        errors.append(squares.std() / len(squares) ** 0.5)
    # The noise of independent batches, for comparison: far above.
    independent = train(SGD(rates[-1], 4), objective, jnp.zeros(2), steps=steps, key=key, paths=4000, observe={},
                        save_every=steps)  # fmt: skip
    assert np.var(np.asarray(independent.final), axis=0).sum() / rates[-1] > 10 * spreads[-1]
    flow = solve(sgd, objective, jnp.zeros(2), steps=12, paths=3, observe={}, save_every=12)  # without a key
    assert np.ptp(np.asarray(flow.final), axis=0).max() == 0
    slopes = np.diff(np.log(spreads)) / np.diff(np.log(rates))
    relative = np.array(errors) / spreads
    slope_errors = np.hypot(relative[1:], relative[:-1]) / np.log(2)
    print(f"\nshuffled, tr Cov/eta at eta {np.round(rates, 4)}: {np.array(spreads)} +- {np.array(errors)}")
    print(f"slopes {slopes} +- {slope_errors}")
    assert np.all(np.abs(slopes - 2) < (0.4, 0.2))  # from above, and closer at the smaller rates
    assert slopes[1] < slopes[0]

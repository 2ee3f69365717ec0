"""The measured forces against discrete runs: the right one leaves an error O(eta^2), a wrong one O(eta)."""

import itertools

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from oracles import LinearRegression

from dynamics import solve
from equations import SGD, Diagonal, Momentum, Objective, modified, scheduled
from equations._signals.base import is_parameter
from validation import corrected, orders
from validation._commands.digits import cross_entropy, digits_problem
from validation._irreversibility.result import VECTORS

KEY = jax.random.key(0)
RATES, TIME = np.array([0.1, 0.05, 0.025, 0.0125]), 2.4
PROBLEM = LinearRegression(examples=6, dimension=2)
START = np.append(PROBLEM.start, 1.0)


@eqx.filter_jit
def drift_matrix(equation):
    """The drift on (w, 1): it is affine in w."""
    drift = lambda w: equation.drift(jnp.zeros(()), w, PROBLEM.objective)  # noqa: E731
    w = jnp.asarray(PROBLEM.start)
    jacobian = jax.jacfwd(drift)(w)
    rows = jnp.concatenate([jacobian, (drift(w) - jacobian @ w)[:, None]], axis=1)
    return jnp.concatenate([rows, jnp.zeros((1, 3))])


def step_matrix(eta, gradient_matrix):
    return np.eye(3) - eta * gradient_matrix


def single(index):
    """The gradient of one example as a matrix on (w, 1)."""
    x, y, matrix = PROBLEM.x[index], PROBLEM.y[index], np.zeros((3, 3))
    matrix[:2, :2], matrix[:2, 2] = np.outer(x, x), -x * y
    return matrix


def epoch_matrix(eta):
    """The mean of an epoch of three batches of two over all orders of the six examples, exactly."""
    total = np.zeros((3, 3))
    permutations = list(itertools.permutations(range(6)))
    for order in permutations:
        epoch = np.eye(3)
        for place in range(0, 6, 2):
            epoch = step_matrix(eta, (single(order[place]) + single(order[place + 1])) / 2) @ epoch
        total += epoch
    return total / len(permutations)


def slope(equation, discrete=None):
    """Of the error of the mean at TIME, in the last of three halvings. `discrete(eta)`: matrix and number of steps."""
    errors = []
    for eta in RATES:
        matrix, steps = (step_matrix(eta, PROBLEM.mean_matrix), 1) if discrete is None else discrete(eta)
        generator = np.asarray(drift_matrix(equation.scaling_limit().rescaled(eta / float(equation.learning_rate))))
        flow = scipy.linalg.expm(TIME * generator) @ START
        run = np.linalg.matrix_power(matrix, round(TIME / eta / steps)) @ START
        errors.append(np.linalg.norm(flow - run))
    return float(np.log2(errors[-2] / errors[-1]))


@pytest.mark.parametrize("force", VECTORS)
def test_each_force_makes_the_full_batch_run_second_order(force):
    plain, better = slope(SGD(0.1)), slope(corrected(SGD(0.1), force))
    print(f"\n{force}: slope {better:.3f}, the equation alone {plain:.3f}")
    assert abs(plain - 1) < 0.15 and abs(better - 2) < 0.15


@pytest.mark.slow
def test_ito_and_stratonovich():
    """Independent batches. Mutant: -eta grad phi in the Itô drift."""
    sgd, force = SGD(0.1, 2), "time_asymmetry"
    assert corrected(sgd, force).scaling_limit().claimed_order("mean") == 2  # what `orders` judges by
    slopes = {
        "the equation alone": slope(sgd),
        "Itô, full-batch force": slope(corrected(sgd, force)),
        "Stratonovich, minibatch force": slope(corrected(sgd, force, batches="minibatch", reading="stratonovich")),
        "mutant: Itô, minibatch force": slope(corrected(sgd, force, batches="minibatch")),
        "mutant: Stratonovich, full-batch force": slope(corrected(sgd, force, reading="stratonovich")),
    }
    print("\n" + "\n".join(f"{name}: slope {value:.3f}" for name, value in slopes.items()))
    for value, expected in zip(slopes.values(), (1, 2, 2, 1, 1), strict=True):
        assert abs(value - expected) < 0.15


def test_the_minibatch_force_on_linear_regression():
    """The mean over batches of the backward error: an example's share of a step is eta/B. Mutant: examples at eta."""
    eta, batch = 0.1, 2
    sgd, w = SGD(eta, batch), np.asarray(PROBLEM.start)

    def force(index, eta):
        """(a step - Runge and Kutta's)/eta^2 with a linear gradient."""
        x, y = PROBLEM.x[index], PROBLEM.y[index]
        h, gradient = x.T @ x / len(x), x.T @ (x @ w - y) / len(x)
        return -(h / 2 - eta * h @ h / 6 + eta**2 * h @ h @ h / 24) @ gradient

    def over_batches(share):
        whole, single = force(np.arange(6), eta), np.mean([force([i], share) for i in range(6)], axis=0)
        return whole + (single - whole) / batch

    drifts = [drift_matrix(e) @ START for e in (corrected(sgd, batches="minibatch"), sgd)]
    measured = (np.asarray(drifts[0]) - np.asarray(drifts[1]))[:2] / eta
    right, mutant = over_batches(eta / batch), over_batches(eta)
    print(f"\n{measured}, expected {right}, mutant {mutant}")
    np.testing.assert_allclose(measured, right, rtol=1e-9)
    assert np.linalg.norm(mutant - right) > 1e-3 * np.linalg.norm(right)


@pytest.mark.slow
def test_orders_knows_the_claim():
    """Order 2 of the mean; `orders` rejects the mutant, -eta grad phi in the Itô drift, which has order 1."""
    mutant = corrected(SGD(0.1, 2), "time_asymmetry", batches="minibatch")
    report = orders(mutant, PROBLEM.objective, PROBLEM.start, time=1.2, learning_rates=[0.1, 0.05, 0.025])
    print(f"\n{report}")
    assert report.verdict["parameters"]["mean"] == "fails"


@pytest.mark.slow
def test_shuffled_epochs():
    """At epoch ends the minibatch force is the drift. Mutant: that of the full batch."""
    sgd, force, epoch = SGD(0.1, 2, "shuffled"), "time_asymmetry", lambda eta: (epoch_matrix(eta), 3)
    right = slope(corrected(sgd, force, batches="minibatch"), epoch)
    alone, mutant = slope(sgd, epoch), slope(corrected(sgd, force), epoch)
    print(f"\nminibatch force {right:.3f}, the equation alone {alone:.3f}, mutant: full-batch force {mutant:.3f}")
    assert abs(right - 2) < 0.15 and abs(alone - 1) < 0.15 and abs(mutant - 1) < 0.15


@pytest.mark.slow
def test_it_can_be_solved():
    """With Euler's steps, whose mean is a power of a matrix: within 4 standard errors, exactly without noise."""
    for equation, paths in ((corrected(SGD(0.1)), 1), (corrected(SGD(0.1, 2), "time_asymmetry"), 2000)):
        flow = solve(equation, PROBLEM.objective, PROBLEM.start, steps=8, key=KEY, paths=paths, solver=dfx.Euler())
        truth = (np.linalg.matrix_power(np.eye(3) + 0.1 * np.asarray(drift_matrix(equation)), 8) @ START)[:2]
        final = np.asarray(flow.final)
        error = final.std(axis=0, ddof=1) / paths**0.5 if paths > 1 else 1e-13
        assert np.all(np.abs(final.mean(axis=0) - truth) < 4 * error)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="Argument `equation` must be without memory"):
        corrected(Momentum(0.1))
    with pytest.raises(ValueError, match="Argument `equation` must be without memory"):
        corrected(scheduled(SGD(0.1), lambda step: 1.0 / (1.0 + step)))
    for equation in (corrected(SGD(0.1)), modified(SGD(0.1))):
        with pytest.raises(ValueError, match="Argument `equation` must be a leading equation, of order 1"):
            corrected(equation)
    with pytest.raises(
        ValueError, match="Argument `reading` must be 'ito' unless the noise has the columns of minibatches"
    ):
        corrected(SGD(0.1, 2, noise_model=Diagonal()), reading="stratonovich")
    with pytest.raises(TypeError, match="Argument `objective` must be a signal"):
        solve(corrected(SGD(0.1)), None, PROBLEM.start, steps=1)
    with pytest.raises(ValueError, match="Argument `batch_size` must be at most the number of examples, 6"):
        solve(corrected(SGD(0.1, 7, "without_replacement")), PROBLEM.objective, PROBLEM.start, steps=1, key=KEY)
    with pytest.raises(ValueError, match="Argument `force` must be one of"):
        corrected(SGD(0.1), "entropy_production")
    with pytest.raises(ValueError, match="Argument `reading` must be one of"):
        corrected(SGD(0.1), reading="Ito")
    with pytest.raises(ValueError, match="Argument `batches` must be one of"):
        corrected(SGD(0.1), batches="all")


# Digits


def digits(examples, hidden, key=KEY):
    """The first so many digits and a small tanh network, in float64."""
    objective, network, _ = digits_problem(key, hidden)
    wide = lambda leaf: leaf.astype(jnp.float64) if is_parameter(leaf) else leaf  # noqa: E731
    data = jax.tree.map(lambda leaf: wide(leaf[:examples]), objective.data)
    return Objective(cross_entropy, data), jax.tree.map(wide, network)


def flat(network):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(eqx.filter(network, is_parameter))])


def last(report):
    local = report.local_slopes["w"]["mean"]
    return local.value[-1], local.error[-1]


@pytest.mark.slow
def test_both_readings_are_one_equation_on_digits():
    """The drifts of the two right forms differ by O(eta^2), without any sampling. Mutants: the other two, by O(eta)."""
    objective, network = digits(256, 16)
    theta, static = eqx.partition(network, is_parameter)
    sgd, force = SGD(0.1, 32), "time_asymmetry"

    @eqx.filter_jit
    def drift(equation):
        return flat(equation.drift(jnp.zeros(()), theta, objective.bind(static)))

    ito, factors = corrected(sgd, force), 0.5 ** np.arange(4)
    print()
    for name, equation, expected in (
        ("Stratonovich, minibatch force", corrected(sgd, force, batches="minibatch", reading="stratonovich"), 2),
        ("mutant: Itô, minibatch force", corrected(sgd, force, batches="minibatch"), 1),
        ("mutant: Stratonovich, full-batch force", corrected(sgd, force, reading="stratonovich"), 1),
        ("mutant: the equation alone", sgd, 1),
    ):
        errors = [
            float(jnp.linalg.norm(drift(equation.scaling_limit().rescaled(f)) - drift(ito.scaling_limit().rescaled(f))))
            for f in factors
        ]
        slope = np.log2(errors[-2] / errors[-1])
        print(f"{name}: {errors}, slope {slope:.4f}")
        assert abs(slope - expected) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("force", VECTORS)
def test_digits_full_batch(force):
    objective, network = digits(1797, 16)
    report = orders(
        corrected(SGD(0.4), force),
        objective,
        network,
        time=3.2,
        learning_rates=[0.2, 0.1, 0.05, 0.025],
        observe={"w": flat},
    )
    print(f"\n{force}\n{report}")
    assert abs(last(report)[0] - 2) < 0.15 and report.verdict["w"]["mean"] == "holds"


@pytest.mark.slow
def test_digits_shuffled_epochs():
    """Epochs of four batches of 4 of 16 digits. Mutant: the full-batch force."""
    objective, network = digits(16, 3)
    sgd, force = SGD(0.1, 4, "shuffled"), "time_asymmetry"
    slopes = {}
    for name, equation in (
        ("minibatch force", corrected(sgd, force, batches="minibatch")),
        ("mutant: full-batch force", corrected(sgd, force)),
    ):
        report = orders(
            equation, objective, network, time=3.2, learning_rates=[0.16, 0.08, 0.04], observe={"w": flat}, key=KEY,
            paths=768,
        )  # fmt: skip
        slopes[name] = last(report)
        print(f"\n{name}: slope {slopes[name][0]:.3f} +- {slopes[name][1]:.3f}\n{report}")
    for (slope, error), expected in zip(slopes.values(), (2, 1), strict=True):
        assert abs(slope - expected) < 0.15 and error < 0.05


@pytest.mark.slow
def test_digits_independent_batches():
    """Of 8 of 16 digits, errors path by path on common Gaussian noise. Mutant: -eta grad phi in the Itô drift.

    The Stratonovich form is this equation up to O(eta^2), as `test_both_readings_are_one_equation_on_digits` says.
    """
    objective, network = digits(16, 3)
    sgd, force = SGD(0.16, 8), "time_asymmetry"
    slopes = {}
    for name, equation, paths in (
        ("Itô, full-batch force", corrected(sgd, force), 2048),
        ("mutant: Itô, minibatch force", corrected(sgd, force, batches="minibatch"), 512),
    ):
        report = orders(
            equation, objective, network, time=0.8, learning_rates=[0.16, 0.08, 0.04], observe={"w": flat}, key=KEY,
            paths=paths,
        )  # fmt: skip
        slopes[name] = last(report)
        print(f"\n{name}: slope {slopes[name][0]:.3f} +- {slopes[name][1]:.3f}\n{report}")
    for (slope, error), expected in zip(slopes.values(), (2, 1), strict=True):
        assert abs(slope - expected) < 0.15 and error < 0.1
    assert 2 - slopes["mutant: Itô, minibatch force"][0] > 8 * slopes["mutant: Itô, minibatch force"][1]

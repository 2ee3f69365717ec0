"""SAM: what it descends, exact moments of algorithm and equation, the norm by draws, and what it goes together with."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import laws
import numpy as np
import optax
import pytest
import scipy.linalg
from marks import some
from mutants.sam import FullBatchDrift
from registry import AHEAD

from dynamics import solve, train
from dynamics.internal import Training
from equations import (
    SAM,
    SGD,
    AbstractSeveralGradients,
    Diagonal,
    Isotropic,
    LabelNoise,
    Objective,
    decayed,
    modified,
    scheduled,
    volumized,
)
from equations.internal import split
from validation import irreversibility, orders

INPUTS, TARGETS = np.array([1.2, -0.7, 0.4, 0.9]), np.array([0.5, 1.0, -0.8, 0.2])
BATCH, ZERO = 2, jnp.zeros(())
BATCHES = list(itertools.product(range(len(INPUTS)), repeat=BATCH))
START, TIME = 1.5, 2.0


def squared(w, example):
    return 0.5 * (example[0] * w - example[1]) ** 2


LINE = Objective(squared, (INPUTS, TARGETS))


def sam(factor=1.0, kind=SAM, **options):
    """Without the norm, at `factor` times a learning rate, the ascent moved along."""
    equation = kind(0.1, BATCH, **{"rho": 0.3, "normalized": False} | options)
    return equation.scaling_limit().rescaled(factor)


# ---------------------------------------------------------------------------------------------------------------------
# What it descends


@pytest.mark.parametrize("normalized", [True, False])
def test_the_full_batch_climbs_first(normalized):
    equation = SAM(0.05, rho=0.3, normalized=normalized)
    gradient = laws.OBJECTIVE.gradient(laws.PARAMS)
    size = jnp.linalg.norm(laws.flat(gradient)) if normalized else 1.0
    there = jax.tree.map(lambda p, g: p + 0.3 * g / size, laws.PARAMS, gradient)
    np.testing.assert_allclose(
        laws.flat(equation.drift(ZERO, laws.PARAMS, laws.OBJECTIVE)),
        -laws.flat(laws.OBJECTIVE.gradient(there)),
        rtol=1e-13,
    )


@eqx.filter_jit
def drift_of(equation, params, objective):
    return equation.drift(ZERO, params, objective)


def sharpened(objective, rho):
    """-grad [L + (rho/2) E|g_B|^2] by all batches, at a PyTree of parameters."""
    size = len(jax.tree.leaves(objective.data)[0])
    batches = jnp.asarray(list(itertools.product(range(size), repeat=BATCH)))

    def value(params):
        norms = jax.vmap(lambda b: jnp.sum(laws.flat(objective.take(b).gradient(params)) ** 2))(batches)
        return objective.value(params) + rho / 2 * jnp.mean(norms)

    return jax.jit(lambda params: -laws.flat(jax.grad(value)(params)))


@pytest.mark.slow
def test_minibatches_descend_the_mean_square_of_their_gradients():
    """Exactly where the gradient is linear; else to first order in rho."""
    w = jnp.asarray(START)
    found = laws.flat(drift_of(sam(), w, LINE))
    np.testing.assert_allclose(found, sharpened(LINE, 0.3)(w), rtol=1e-13)
    still = laws.flat(drift_of(sam(kind=FullBatchDrift), w, LINE))
    assert np.abs(still - found) > 0.01 * np.abs(found)
    off = []
    for rho in (0.1, 0.05, 0.025):
        drift = drift_of(SAM(0.05, BATCH, rho=rho, normalized=False), laws.PARAMS, laws.OBJECTIVE)
        off.append(np.linalg.norm(laws.flat(drift) - sharpened(laws.OBJECTIVE, rho)(laws.PARAMS)))
    assert np.all(np.abs(np.log2(np.divide(off[:-1], off[1:])) - 2) < 0.15)


# ---------------------------------------------------------------------------------------------------------------------
# The order, by moments that close: on a line E x and E x^2 of the algorithm and of the equation do


@eqx.filter_jit
def read(equation):
    """Drift and variance of the diffusion at -1, 0 and 1, over which the one is linear and the other quadratic."""

    def at(x):
        root = equation.diffusion(ZERO, x, LINE)
        columns = jax.jacrev(root.mv)(laws.zeros(root.in_structure()))
        return equation.drift(ZERO, x, LINE), sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(columns))

    return jax.vmap(at)(jnp.array([-1.0, 0.0, 1.0]))


def polynomials(equation):
    drift, variance = (np.asarray(values) for values in read(equation))
    half = lambda values: (values[2] - values[0]) / 2  # noqa: E731
    return (drift[1], half(drift)), (variance[1], half(variance), (variance[2] + variance[0]) / 2 - variance[1])


def of_equation(equation):
    """Mean and variance after `TIME`."""
    (a, b), (c, d, e) = polynomials(equation)
    return moments(scipy.linalg.expm(TIME * np.array([[0, 0, 0], [a, b, 0], [c, 2 * a + d, 2 * b + e]])))


def moments(matrix):
    one, mean, square = matrix @ [1, START, START**2]
    return np.array([mean, square - mean**2])


def step(pairs):
    """Of the moments (1, E x, E x^2), where x becomes A x + D for equally likely (A, D)."""
    rows = [[[1, 0, 0], [d, a, 0], [d * d, 2 * a * d, a * a]] for a, d in pairs]
    return np.mean(rows, axis=0)


def of_batches(equation):
    """The same of the algorithm on real batches."""
    eta, rho, pairs = float(equation.learning_rate), float(equation.rho), []
    for batch in map(list, BATCHES):
        h, c = np.mean(INPUTS[batch] ** 2), np.mean(INPUTS[batch] * TARGETS[batch])
        pairs.append((1 - eta * h * (1 + rho * h), eta * c * (1 + rho * h)))
    return moments(np.linalg.matrix_power(step(pairs), round(TIME / eta)))


def of_weights(equation):
    """The same of the algorithm under Gaussian weights of the same covariance."""
    eta, ((a, b), (c, d, e)) = float(equation.learning_rate), polynomials(sam_like(equation))
    matrix = step([(1 + eta * b, eta * a)])
    matrix[2] += eta * np.array([c, d, e])
    return moments(np.linalg.matrix_power(matrix, round(TIME / eta)))


def sam_like(equation):
    return SAM(**{field.name: getattr(equation, field.name) for field in dataclasses.fields(equation)})


def slopes(algorithm, first=0, **options):
    """Of the errors of mean and variance/step."""
    errors = []
    for k in range(first, first + 4):
        equation = sam(2.0**-k, **options)
        errors.append(np.abs(algorithm(equation) - of_equation(equation)) / [1, float(equation.learning_rate)])
    return np.log2(errors[0] / np.array(errors[-1])) / 3


class NoiseOfSGD(SAM):
    """The noise of the first gradient alone."""

    def diffusion(self, t, state, signal):
        return SGD(self.learning_rate, self.batch_size).diffusion(t, state, signal)


@pytest.mark.slow
def test_order_one_in_mean_and_variance():
    """Of real batches at rho ~ eta; at rho ~ sqrt(eta) of the mean, and of the variance under Gaussian weights.

    The third cumulants of batches are in the variance at first order in rho, so that its slope falls to 1/2.
    """
    assert np.all(np.abs(slopes(of_batches, first=2, scaling="linear") - 1) < 0.15)
    assert np.all(np.abs(slopes(of_weights, first=2) - 1) < 0.15)
    mean, variance = slopes(of_batches, first=2)
    assert abs(mean - 1) < 0.15 and variance < 1
    limit = sam().scaling_limit()
    assert [limit.claimed_order(m) for m in ("mean", "variance/eta")] == [1, 0.5]


@pytest.mark.parametrize(("mutant", "place"), [(FullBatchDrift, 0), (NoiseOfSGD, 1)])
def test_a_mutant_has_order_one_half(mutant, place):
    found = slopes(of_weights, first=2, kind=mutant)
    assert found[place] < 0.7


@pytest.mark.slow
def test_the_default_solver_has_the_moments_of_the_equation():
    """Also with half the steps, where a kick takes a pair of draws."""
    equation = sam()
    mean, variance = of_equation(equation)
    for substeps in (1, 2):
        run = solve(
            equation, LINE, jnp.asarray(START), steps=20, save_every=20, key=jax.random.key(0), paths=20_000,
            substeps=substeps,
        )  # fmt: skip
        last = np.asarray(run.final)
        error = last.std() / len(last) ** 0.5
        assert abs(last.mean() - mean) < 4 * error
        assert abs(last.var() - variance) < 4 * ((last - last.mean()) ** 2).std() / len(last) ** 0.5


def test_the_series_knows_the_mean_of_batches():
    """b - (eta/2) b' b with b the mean over minibatches, which is linear here."""
    equation, w = sam(), jnp.asarray(START)
    (a, b), _ = polynomials(equation)
    series = modified(equation)
    drift = eqx.filter_jit(lambda w: series.drift(ZERO, series.init(w), LINE).params)(w)
    np.testing.assert_allclose(drift, (a + b * START) * (1 - 0.1 / 2 * b), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("normalized", [True, False])
def test_the_full_batch_has_order_two_modified(normalized):
    equation = modified(SAM(0.4, rho=0.3, normalized=normalized, scaling="linear"))
    report = orders(
        equation, laws.OBJECTIVE, laws.PARAMS, time=3.2, learning_rates=[0.4, 0.2, 0.1, 0.05], observe=laws.VECTOR
    )
    assert abs(report.slope["params"]["mean"] - 2) < 0.15


# ---------------------------------------------------------------------------------------------------------------------
# The norm


PLANE = Objective(
    lambda w, e: 0.5 * (jnp.tanh(jnp.dot(e[0], w)) - e[1]) ** 2,
    (np.random.default_rng(0).normal(size=(4, 2)), np.random.default_rng(1).normal(size=4)),
)
HERE = jnp.array([0.4, -0.3])
SUBSETS = list(itertools.permutations(range(4), BATCH))


def test_the_norm_is_that_of_optax():
    """Step by step, as Optax's opaque SAM has it."""
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
    theirs, ours = AHEAD(optax.sgd(0.05), climb, opaque_mode=True), SAM(0.05, rho=0.1).twin()
    gradient = jax.jit(lambda w: PLANE.gradient(w))
    found = []
    for twin in (theirs, ours):
        params, memory = HERE, twin.init(HERE)
        for _ in range(3):
            grad_fn = lambda p, index: gradient(p)  # noqa: E731
            updates, memory = twin.update(gradient(params), memory, params, grad_fn=grad_fn)
            params = optax.apply_updates(params, updates)
        found.append(params)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)


def enumerated(equation):
    """The velocities of all batches, equally likely."""
    batches = jnp.asarray(BATCHES if equation.sampling == "with_replacement" else SUBSETS)
    return np.asarray(jax.vmap(lambda b: equation.velocity(ZERO, HERE, PLANE.take(b).gradient))(batches))


@eqx.filter_jit
def kicked(equation, share):
    """The velocities of many kicks over part of a step, scaled to those of a whole one."""
    splitting, dt = split(equation), equation.learning_rate / share
    structure = splitting.noise(HERE, PLANE, share)
    leaves, treedef = jax.tree.flatten(structure)

    def one(key):
        keys = jax.random.split(key, len(leaves))
        normals = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
        return splitting.kick(ZERO, HERE, PLANE, jax.tree.unflatten(treedef, normals), dt) / dt

    kicks = jax.vmap(one)(jax.random.split(jax.random.key(1), laws.SAMPLES))
    return kicks + splitting.flow(ZERO, HERE, PLANE)


@pytest.mark.slow
@pytest.mark.parametrize("share", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sampling", some(["with_replacement", "without_replacement"], ["with_replacement"]))
def test_kicks_under_the_norm_are_those_of_real_batches(sampling, share):
    """In mean and covariance, over a step and over half of one; the flow of the full batch alone has another mean."""
    equation = SAM(0.05, BATCH, sampling, rho=0.5)
    found, wanted = np.asarray(kicked(equation, share)), enumerated(equation)
    mean = wanted.mean(0)
    away = found - mean
    laws.sampled("mean", away, 0.0)
    laws.sampled("covariance", away[:, :, None] * away[:, None, :] / share, np.cov(wanted.T, bias=True))
    still = dataclasses.replace(equation, batch_size=None).drift(ZERO, HERE, PLANE)
    assert np.linalg.norm(still - mean) > 0.05 * np.linalg.norm(mean)


class GaussianWeights(SAM):
    """Under the norm, weights of the examples that are those of no batch."""

    sampled = False


@pytest.mark.slow
def test_gaussian_weights_have_another_mean_under_the_norm():
    equation = GaussianWeights(0.05, BATCH, rho=0.5)
    with pytest.raises(AssertionError, match="mean: off"):
        laws.sampled("mean", np.asarray(kicked(equation, 1)) - enumerated(equation).mean(0), 0.0)


@pytest.mark.slow
def test_the_drift_under_the_norm_has_a_stated_error():
    equation = SAM(0.05, BATCH, rho=0.5)
    truth = enumerated(equation).mean(0)
    errors = []
    for draws in (256, 1024):
        mean, error = dataclasses.replace(equation, draws=draws).sampled_drift(ZERO, HERE, PLANE)
        assert np.all(np.abs(mean - truth) < 4 * np.asarray(error))
        errors.append(np.linalg.norm(error))
    assert 0.4 < errors[1] / errors[0] < 0.6
    np.testing.assert_array_equal(equation.drift(ZERO, HERE, PLANE), equation.sampled_drift(ZERO, HERE, PLANE)[0])


def test_the_diffusion_under_the_norm_is_refused():
    equation = SAM(0.05, BATCH)
    with pytest.raises(ValueError, match="`normalized` must be False for the diffusion"):
        equation.diffusion(ZERO, jnp.asarray(0.4), LINE)
    with pytest.raises(ValueError, match="`equation` must be smooth in the gradient"):
        modified(equation)


def test_nowhere_is_up_at_rest():
    bowl = Objective(lambda w, x: 0.5 * jnp.sum(w**2) * x, np.ones(2))
    drift = lambda w: SAM(0.1).drift(ZERO, w, bowl)  # noqa: E731
    value, slope = jax.jvp(drift, (jnp.zeros(2),), (jnp.ones(2),))
    assert np.all(np.asarray(value) == 0) and np.all(np.isfinite(slope))


# ---------------------------------------------------------------------------------------------------------------------
# What it costs


def operations(part, equation):
    """Of a compiled step on a network, in floating-point numbers."""
    network, images, labels = laws.classification()
    params, static = eqx.partition(network, eqx.is_inexact_array)
    signal = Objective(laws.cross_entropy, (images, labels)).bind(static)
    return jax.jit(lambda p: part(equation, p, signal)).lower(params).compile().cost_analysis()["flops"]


def fused(equation, params, signal):
    normals = jnp.ones(signal.size)
    return split(equation).euler(ZERO, params, signal, normals, equation.learning_rate)


def trained(equation, params, signal):
    run = Training.of(equation, signal, params, jax.random.key(0), "minibatch")
    return run.step(jnp.zeros((), int), run.init(params), None)[0]


@pytest.mark.slow
@pytest.mark.parametrize("part", [fused, trained])
def test_a_step_is_two_gradients(part):
    one = operations(part, SGD(0.05, 64))
    for normalized in (True, False):
        assert operations(part, SAM(0.05, 64, normalized=normalized)) / one < 2.1


# ---------------------------------------------------------------------------------------------------------------------
# Together with others


@pytest.mark.parametrize("noise", [Isotropic(0.3), LabelNoise(0.3)])
def test_what_is_injected_is_the_same_at_both_places(noise):
    """The Euler step is that of the algorithm, on the full batch with noise of a model."""
    equation = SAM(0.1, rho=0.3, normalized=False, noise_model=noise)
    normals = jax.tree.map(lambda leaf: 0.7 * jnp.ones(leaf.shape), split(equation).noise(jnp.ones(()), LINE, 1))
    gradient = lambda w: equation.gradient_noise.draw(equation.batches(LINE), w, normals)  # noqa: E731
    moved = split(equation).euler(ZERO, jnp.ones(()), LINE, normals, equation.learning_rate)
    np.testing.assert_allclose(moved, -0.1 * gradient(1.0 + 0.3 * gradient(jnp.ones(()))), rtol=1e-12)


COSINE = optax.cosine_decay_schedule(1.0, 8)
WRAPPED = {
    "decayed": lambda e: decayed(e, 0.1),
    "scheduled": lambda e: scheduled(e, COSINE),
    "volumized": lambda e: volumized(e, 5.0, 0.9),
}


def shrunk(w, rate=0.1, decay=0.0):
    """A step on the full batch."""
    gradient = LINE.gradient
    return w - rate * gradient(w + 0.3 * gradient(w)) - 0.1 * decay * w


STEPPED = {
    "decayed": lambda w: shrunk(shrunk(w, decay=0.1), decay=0.1),
    "scheduled": lambda w: shrunk(shrunk(w), rate=0.1 * COSINE(1)),
    "volumized": lambda w: shrunk(shrunk(w)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_hand_on_the_second_gradient(name):
    run = train(WRAPPED[name](SAM(0.1, rho=0.3, normalized=False)), LINE, jnp.asarray(START), steps=2)
    np.testing.assert_allclose(run.final[0], STEPPED[name](jnp.asarray(START)), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRAPPED)
def test_equations_in_wrappers_come_near_their_algorithms(name):
    found = []
    for equation in (SAM(0.01, rho=2.0, normalized=False), SGD(0.01)):
        both = (run(WRAPPED[name](equation), LINE, jnp.asarray(START), steps=8, save_every=8) for run in (solve, train))
        found.append([float(np.ravel(run.final)[0]) for run in both])
    (flow, run), (_, plain) = found
    assert abs(flow - run) < 0.3 * abs(run - plain)


class Twice(AbstractSeveralGradients):
    """A rule of a user's, whose twin is Optax's own."""

    def velocity(self, t, state, gradient):
        return -gradient(state + 0.3 * gradient(state))

    def twin(self):
        return AHEAD(optax.sgd(self.learning_rate), optax.sgd(0.3), opaque_mode=True)


@pytest.mark.parametrize("run", [train, pytest.param(solve, marks=pytest.mark.slow)])
def test_a_rule_of_ones_own(run):
    own, ours = (
        run(e, LINE, jnp.asarray(START), key=jax.random.key(0), steps=4, paths=3) for e in (Twice(0.1, BATCH), sam())
    )
    np.testing.assert_allclose(own.final, ours.final, rtol=1e-12)


class Linear(Twice):
    linear = True


DIAGONAL = SAM(0.1, BATCH, noise_model=Diagonal())
REFUSED = {
    "noise of no batch": (
        lambda: solve(DIAGONAL, PLANE, HERE, steps=2, key=jax.random.key(0)),
        "`noise_model` must be of",
    ),
    "irreversibility": (lambda: irreversibility(sam(), LINE, jnp.asarray(START)), "take one gradient of a batch"),
    "adiabatic": (lambda: modified(sam(), memory="adiabatic"), "`memory` must be 'dynamic' for SAM"),
    "shuffled": (lambda: solve(sam(sampling="shuffled"), LINE, jnp.asarray(START), steps=2), "`sampling` must be"),
    "shuffled epochs": (
        lambda: solve(modified(sam(sampling="shuffled")), LINE, jnp.asarray(START), steps=2),
        "`sampling` must be",
    ),
    "linear": (lambda: solve(Linear(0.1), LINE, jnp.asarray(START), steps=2), "`linear` of Linear must not be True"),
    "no second gradient": (lambda: sam().twin().update(1.0, optax.EmptyState(), 1.0), "`grad_fn` must be given"),
    "scaling": (lambda: sam(scaling="fixed"), "Argument `scaling` must be"),
    "rho": (lambda: sam(rho=-0.1), "Argument `rho` must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_shuffled_epochs_are_run():
    """Two batches that are the data set, of which both gradients are one's own."""
    run = train(sam(sampling="shuffled"), LINE, jnp.asarray(START), steps=2, key=jax.random.key(0), paths=8)
    found = set(np.round(np.asarray(run.final), 10).tolist())
    wanted = set()
    for order in itertools.permutations(range(4)):
        w = jnp.asarray(START)
        for batch in (order[:2], order[2:]):
            gradient = LINE.take(jnp.asarray(batch)).gradient
            w = w - 0.1 * gradient(w + 0.3 * gradient(w))
        wanted.add(round(float(w), 10))
    assert len(found) > 1 and found <= wanted

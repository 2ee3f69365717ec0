"""Losses that draw numbers: drift, noise and algorithm of dropout on a line, against all masks in closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dropout import KEEP, X, Y, loss, ridge
from jax.flatten_util import ravel_pytree
from marks import some
from mutants.loss import NoKeys, NotSubtracted, OneKey

from dynamics import train
from equations import (
    SAM,
    SGD,
    Adam,
    Batches,
    Isotropic,
    LabelNoise,
    LossNoise,
    Objective,
    SignSGD,
    noise_operator,
    regularized,
)
from equations._counts import put
from equations._noise.loss import Fresh
from equations.internal import normals_of, split, with_loss_noise

SETS, NORMALS, PATHS = 600, 4000, 4000
W, ZERO, SIZE, KEY = jnp.array([0.9, -0.4]), jnp.zeros(()), len(X), jax.random.key(3)
MASKS = np.array(list(itertools.product([0, 1], repeat=2)))
CHANCES = np.prod(np.where(MASKS, KEEP, 1 - KEEP), axis=1)
SETTINGS = {
    "with": (2, "with_replacement"),
    "without": (2, "without_replacement"),
    "full": (None, "with_replacement"),
    "shuffled": (2, "shuffled"),
    "more": (7, "with_replacement"),  # than there are examples
}


def objective(**options):
    return Objective(loss, (X, Y), random=True, **options)


EXACT, SAMPLED = objective(mean=ridge), objective(draws=2)


def masked():
    """The gradients of all examples under all masks, `(N, masks, 2)`."""
    inputs = MASKS * X[:, None] / KEEP
    return -(Y[:, None] - inputs @ np.asarray(W))[..., None] * inputs


def moments():
    """Mean, covariance of the examples' means, and mean of the examples' own covariances."""
    gradients = masked()
    means = np.einsum("m,nmi->ni", CHANCES, gradients)
    away = gradients - means[:, None]
    own = np.einsum("m,nmi,nmj->ij", CHANCES, away, away) / SIZE
    return means.mean(0), np.cov(means.T, bias=True), own


MEAN, BETWEEN, WITHIN = moments()


def covariance(setting):
    """Of the gradient of a batch, or what of it does not cancel over an epoch."""
    size = SETTINGS[setting][0] or SIZE
    factor = {"with": 1.0, "more": 1.0, "without": (SIZE - size) / (SIZE - 1), "full": 0.0, "shuffled": 0.0}[setting]
    return factor / size * BETWEEN + WITHIN / size


def off(samples, expected):
    """How many standard errors the mean of `samples` lies from what is expected, the most in any component."""
    error = np.std(samples, axis=0, ddof=1) / np.sqrt(len(samples))
    with np.errstate(divide="ignore"):
        return np.max(np.abs(np.mean(samples, axis=0) - expected) / error)


def squares(samples):
    away = samples - np.mean(samples, axis=0)
    return away[:, :, None] * away[:, None, :]


# ---------------------------------------------------------------------------------------------------------------------
# The mean


@pytest.mark.slow
def test_the_given_mean_is_the_ridge():
    drift = SGD(0.1, 2).drift(ZERO, W, EXACT)
    decay = (1 - KEEP) / KEEP * np.mean(X**2, axis=0) * W
    np.testing.assert_allclose(-drift, MEAN, rtol=1e-12)
    np.testing.assert_allclose(MEAN, -((Y - X @ W) @ X) / SIZE + decay, rtol=1e-12)
    value = np.mean((Y - X @ W) ** 2) / 2 + np.dot(decay, W) / 2
    np.testing.assert_allclose(EXACT.value(W), value, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [16, pytest.param(200, marks=pytest.mark.slow)])
def test_a_sampled_mean_and_its_stated_error(draws):
    signal = objective(draws=draws)
    drift, error = signal.gradient(W), np.sqrt(np.diag(WITHIN) / (SIZE * draws))
    assert np.max(np.abs(drift - MEAN) / error) < 4
    np.testing.assert_allclose(signal.gradient_error(W), error, rtol=2 / draws**0.5)  # a variance by so few
    assert not np.any(EXACT.gradient_error(W))
    np.testing.assert_allclose(signal.value(W), EXACT.value(W), rtol=0.3)


@pytest.mark.slow
def test_an_example_keeps_its_keys():
    order = jnp.array([2, 0, 2])
    some = SAMPLED.take(order)
    each = [SAMPLED.take(order[i : i + 1]).gradient(W) for i in range(3)]
    np.testing.assert_allclose(some.gradient(W), sum(each) / 3, rtol=1e-12)
    np.testing.assert_allclose(some.take(jnp.array([1])).gradient(W), each[1], rtol=1e-12)
    penalized = regularized(SAMPLED, lambda w: 0.0 * jnp.sum(w)).bind(None).take(order)
    np.testing.assert_allclose(penalized.gradient(W), some.gradient(W), rtol=1e-12)
    shifted = some.with_data((some.data[0], some.data[1] + 1.0))
    inputs = SAMPLED.drawn().take(jnp.array([4, 5, 0, 1, 4, 5])).gradient(W)
    np.testing.assert_allclose(inputs, some.gradient(W), rtol=1e-12)  # both keys of 2, 0 and 2
    assert shifted.examples.key is some.examples.key


# ---------------------------------------------------------------------------------------------------------------------
# The covariance


def batches(signal, setting):
    return Batches(signal, *SETTINGS[setting])


def of_root(noise, signal, setting, numbers):
    """The covariance of the model by these fixed keys of the examples."""
    root = noise.root(batches(put(signal, _keys=numbers), setting), W)
    zeros, unravel = ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), root.in_structure()))
    columns = jax.vmap(lambda unit: root.mv(unravel(unit)))(jnp.eye(zeros.size))
    return columns.T @ columns


def over_sets(noise, setting, signal=SAMPLED):
    numbers = jnp.arange(SETS * SIZE).reshape(SETS, SIZE)
    return np.asarray(jax.jit(jax.vmap(lambda one: of_root(noise, signal, setting, one)))(numbers))


@pytest.mark.parametrize("setting", some(SETTINGS, ("with", "full")))
def test_two_fixed_keys_are_right_on_average(setting):
    """What sampling adds to the covariance of the means is subtracted."""
    samples = over_sets(LossNoise(), setting)
    assert off(samples, covariance(setting)) < 4
    for mutant in (NoKeys(), *([NotSubtracted()] if setting in ("with", "without") else [])):
        assert off(over_sets(mutant, setting), covariance(setting)) > 6, mutant


def test_two_fixed_keys_beside_a_given_mean():
    assert off(over_sets(LossNoise(), "with", EXACT), covariance("with")) < 4


def of_kicks(noise, signal, setting):
    """Draws of the noise of a kick, `(NORMALS, 2)`."""
    of = batches(signal, setting)
    structure = noise.kicked(of, W)

    def one(key):
        return noise.delta(of, W, normals_of(structure, key))

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), NORMALS)))


@pytest.mark.parametrize("setting", some(SETTINGS, ("with", "full", "more")))
def test_kicks_draw_fresh_keys(setting):
    samples = of_kicks(LossNoise(), EXACT, setting)
    assert off(samples, 0.0) < 4 and off(squares(samples), covariance(setting)) < 4
    assert off(squares(samples), covariance(setting) - WITHIN / (SETTINGS[setting][0] or SIZE)) > 6


def test_what_a_kick_is_given():
    equation = with_loss_noise(SGD(0.1, 2), EXACT)
    noise = split(equation).noise(W, EXACT, 1)
    assert isinstance(noise["own"], Fresh) and noise["on"].shape == (SIZE,)
    assert split(with_loss_noise(SGD(0.1), EXACT)).noise(W, EXACT, 1)["own"].keys.shape == (SIZE, 2)
    assert with_loss_noise(equation, EXACT) is equation


@pytest.mark.slow
def test_parts_and_variances_are_those_of_the_root():
    of, noise = batches(SAMPLED, "without"), LossNoise()
    expected = of_root(noise, SAMPLED, "without", jnp.arange(SIZE))
    found = 0.0
    for count, deviation in noise.parts(of, W):
        away = jnp.stack([deviation(index) for index in jnp.arange(count)])
        found += away.T @ away / count
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(noise.variance(of, W), np.diag(expected), rtol=1e-10)


def test_label_noise_meets_the_masks():
    """Its covariance has the mean of h h^T over masks, which is not that of the masks' mean."""
    inputs = MASKS * X[:, None] / KEEP
    response = np.einsum("m,nmi,nmj->ij", CHANCES, inputs, inputs) / SIZE
    samples = over_sets(LossNoise(on=LabelNoise(0.5)), "with")
    assert off(samples, covariance("with") + 0.5**2 / 2 * response) < 4
    assert off(samples, covariance("with") + 0.5**2 / 2 * X.T @ X / SIZE) > 4


# ---------------------------------------------------------------------------------------------------------------------
# The algorithm


def steps_of(equation, signal=EXACT):
    """The gradients of first steps, `(PATHS, 2)`."""
    run = train(equation, signal, W, steps=1, key=jax.random.key(2), paths=PATHS)
    return (np.asarray(W) - np.asarray(run.final)) / float(equation.learning_rate)


@pytest.mark.slow
@pytest.mark.parametrize("setting", some(["with", "without", "full"], ("with", "full")))
def test_every_example_of_a_batch_has_a_key_of_its_own(setting):
    samples = steps_of(SGD(1.0, *SETTINGS[setting]))
    assert off(samples, MEAN) < 4 and off(squares(samples), covariance(setting)) < 4
    one_key = steps_of(SGD(1.0, *SETTINGS[setting], noise_model=OneKey()))
    assert off(squares(one_key), covariance(setting)) > 6


@pytest.mark.slow
def test_gaussian_gradients():
    signal = objective(draws=200)
    run = train(SGD(1.0, 2), signal, W, steps=1, key=jax.random.key(2), paths=PATHS, noise="gaussian")
    samples = np.asarray(W - run.final)
    expected = of_root(LossNoise(), signal, "with", jnp.arange(SIZE))
    assert off(squares(samples), expected) < 4
    np.testing.assert_allclose(expected, covariance("with"), rtol=0.2, atol=0.02)


@pytest.mark.slow
def test_both_gradients_of_a_step_have_the_same_keys():
    """Under keys of its own the second one would miss rho E_mask[A_mask g_mask], A_mask the Hessian of one mask."""
    inputs, gradients = MASKS * X[:, None] / KEEP, masked()
    both = np.einsum("m,nmi,nmj,nmj->ni", CHANCES, inputs, inputs, gradients)
    hessian = np.einsum("m,nmi,nmj->nij", CHANCES, inputs, inputs)
    apart = np.einsum("nij,nj->ni", hessian, np.einsum("m,nmi->ni", CHANCES, gradients))
    climb = 0.6 * (hessian.mean(0) @ MEAN + (both - apart).mean(0) / SIZE)  # of the full batch
    equation = SAM(1.0, rho=0.6, normalized=False)
    samples = steps_of(equation)
    assert off(samples, MEAN + climb) < 4
    assert off(samples, MEAN + 0.6 * hessian.mean(0) @ MEAN) > 6

    def drift(numbers):
        return with_loss_noise(equation, SAMPLED).drift(ZERO, W, put(SAMPLED, _keys=numbers))

    drifts = jax.jit(jax.vmap(drift))(jnp.arange(SETS * SIZE).reshape(SETS, SIZE))
    assert off(-np.asarray(drifts), MEAN + climb) < 4

    noisy = with_loss_noise(equation, EXACT)
    structure = split(noisy).noise(W, EXACT, 1)

    def kicked(key):
        return -split(noisy).euler(ZERO, W, EXACT, normals_of(structure, key), jnp.ones(()))

    assert off(np.asarray(jax.jit(jax.vmap(kicked))(jax.random.split(KEY, NORMALS))), MEAN + climb) < 4


# ---------------------------------------------------------------------------------------------------------------------
# Refused


def test_the_noise_of_the_loss_is_not_left_out():
    for equation in (SGD(0.1, 2), SGD(0.1), Adam(0.1), SignSGD(0.1)):
        with pytest.raises(ValueError, match="`noise_model` must hold the noise of a loss with `random` True"):
            equation.diffusion(ZERO, equation.init(W), EXACT)
    with pytest.raises(ValueError, match="`noise_model` must hold the noise of a loss"):
        Adam(0.1).drift(jnp.ones(()), Adam(0.1).init(W), EXACT)
    with pytest.raises(ValueError, match="`noise_model` must not hold a LossNoise"):
        train(SGD(0.1, noise_model=LossNoise()), Objective(ridge, (X, Y)), W, steps=1, key=jax.random.key(0))
    with pytest.raises(ValueError, match="Argument `signal` must not have a loss with `random` True"):
        noise_operator(EXACT, W, 2)
    direct = SGD(0.1, noise_model=Isotropic(0.1, on=LossNoise()))
    assert direct.diffusion(ZERO, W, EXACT) is not None


@pytest.mark.slow
def test_arguments():
    for options in ({"mean": ridge}, {"draws": 4}):
        with pytest.raises(ValueError, match=f"Argument `{next(iter(options))}` must be None unless `random` is True"):
            Objective(ridge, (X, Y), **options)
    with pytest.raises(ValueError, match="Argument `loss` must take a key, .*but .*ridge.* does not"):
        Objective(ridge, (X, Y), random=True)
    with pytest.raises(ValueError, match="Argument `draws`"):
        objective(draws=1)
    with pytest.raises(ValueError, match="Argument `key` must be a key"):
        train(SGD(0.1), EXACT, W, steps=1)

"""Runs of losses that draw numbers: moments of a full batch, going on, dropout networks, and what is told of their mean."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dropout import KEEP, X, Y, loss, ridge
from mutants.loss import NoKeys

from dynamics import solve, train
from equations import (
    SAM,
    SGD,
    AbstractSignal,
    Adam,
    Isotropic,
    Objective,
    modified,
    regularized,
    scheduled,
    stratonovich,
)
from equations.internal import steps_to_mean, warn_sampling, with_loss_noise
from validation import compare, corrected, irreversibility, orders
from validation._compare.table import sampled

ETA, STEPS, PATHS = 0.1, 12, 4000
W, KEY = jnp.array([0.9, -0.4]), jax.random.key(0)


EXACT = Objective(loss, (X, Y), random=True, mean=ridge)
SAMPLED = Objective(loss, (X, Y), random=True)


# ---------------------------------------------------------------------------------------------------------------------
# A full batch is random


def recursion():
    """Mean and covariance after the steps of full-batch SGD, exactly: the gradient is affine in w, by a random matrix."""
    masks = np.array([[a, b] for a in (0, 1) for b in (0, 1)])
    chances = np.prod(np.where(masks, KEEP, 1 - KEEP), axis=1)
    inputs = masks * X[:, None] / KEEP
    outer = np.concatenate([inputs, -np.broadcast_to(Y[:, None, None], (4, 4, 1))], axis=-1)
    gradients = np.einsum("nmi,nmj->nmij", inputs, outer)  # on (w, 1)
    means = np.einsum("m,nmij->nij", chances, gradients)
    away = gradients - means[:, None]
    step = np.eye(3) - ETA * np.concatenate([means.mean(0), np.zeros((1, 3))])
    z = np.append(W, 1.0)
    second = np.outer(z, z)
    for _ in range(STEPS):
        noise = np.einsum("m,nmij,jk,nmlk->il", chances, away, second, away) / len(X) ** 2
        second = step @ second @ step.T
        second[:2, :2] += ETA**2 * noise
    return second[:2, 2], second[:2, :2] - np.outer(second[:2, 2], second[:2, 2])


def off(final):
    """How many standard errors mean and covariance of an ensemble lie from the recursion."""
    mean, covariance = recursion()
    samples = np.asarray(final)
    away = samples - samples.mean(0)
    squares = away[:, :, None] * away[:, None, :]
    errors = [np.std(x, axis=0) / len(x) ** 0.5 for x in (samples, squares)]
    return np.max(np.abs(samples.mean(0) - mean) / errors[0]), np.max(np.abs(squares.mean(0) - covariance) / errors[1])


def ensemble(run, equation, **options):
    return run(equation, EXACT, W, steps=STEPS, key=KEY, paths=PATHS, save_every=STEPS, **options).final


@pytest.mark.slow
def test_a_full_batch_has_the_moments_of_its_recursion():
    """The algorithm, and the Euler step of the equation, whose moments are those of the algorithm."""
    assert max(off(ensemble(train, SGD(ETA)))) < 4
    assert max(off(ensemble(solve, SGD(ETA), solver=diffrax.Euler()))) < 4
    still = ensemble(solve, SGD(ETA, noise_model=NoKeys()), solver=diffrax.Euler())
    assert np.max(np.ptp(still, axis=0)) < 1e-12


@pytest.mark.slow
def test_the_default_solver():
    """Its moments are those of the equation, which the series of second order brings to the algorithm's."""
    mean, covariance = recursion()
    final = ensemble(solve, modified(SGD(ETA)))
    np.testing.assert_allclose(np.mean(final, axis=0), mean, atol=5e-3)
    np.testing.assert_allclose(np.cov(np.asarray(final).T), covariance, rtol=0.1, atol=2e-4)


@pytest.mark.slow
def test_orders_sees_it():
    result = orders(SGD(ETA), EXACT, W, learning_rates=[0.1, 0.05, 0.025], time=1.0)
    assert result.verdict["parameters"]["variance/eta"] == "holds"
    assert abs(result.slope["parameters"]["variance/eta"] - 1) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("batch", [2, None])
def test_compare_says_that_it_holds(batch):
    result = compare(SGD(0.02, batch), EXACT, W, steps=20, key=KEY, paths=1000, save_every=20)
    for moment in result.moments["loss"].values():
        error = moment.model_error
        assert np.abs(error.value[-1]) < 4 * error.error[-1]
    missed = compare(SGD(0.02, batch, noise_model=NoKeys()), EXACT, W, steps=20, key=KEY, paths=1000, save_every=20)
    error = missed.moments["loss"]["variance"].model_error
    assert np.abs(error.value[-1]) > 6 * error.error[-1]


# ---------------------------------------------------------------------------------------------------------------------
# All that runs


@pytest.mark.slow
@pytest.mark.parametrize("run", [train, pytest.param(solve, marks=pytest.mark.slow)])
def test_going_on(run):
    equation = SGD(ETA, 2)
    options = dict(key=KEY, paths=2, save_every=4)
    whole = run(equation, SAMPLED, W, steps=8, **options)
    half = run(equation, SAMPLED, W, steps=4, **options)
    rest = run(equation, SAMPLED, start=half, steps=4, save_every=4)
    np.testing.assert_array_equal(rest.final, whole.final)
    assert (run is solve) == (dict(whole.details).get("draws") == "16")
    assert np.ptp(np.asarray(whole.final), axis=0).min() > 0


class Net(eqx.Module):
    first: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __call__(self, x, key):
        return self.last(self.dropout(jax.nn.tanh(self.first(x)), key=key))[0]


def of_net(net, example, key):
    return 0.5 * (net(example[0], key) - example[1]) ** 2


NET = Net(eqx.nn.Linear(2, 3, key=KEY), eqx.nn.Dropout(0.5), eqx.nn.Linear(3, 1, key=KEY))
DROPOUT = Objective(of_net, (X, Y), random=True, draws=64)


@pytest.mark.slow
@pytest.mark.parametrize("run", [train, pytest.param(solve, marks=pytest.mark.slow)])
def test_dropout_as_users_write_it(run):
    fit = run(SGD(ETA, 2), DROPOUT, NET, steps=2, key=KEY, paths=2)
    assert bool(fit.ok.all()) and fit.final.first.weight.shape == (2, 3, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "equation",
    [
        Adam(0.05, 2),
        SAM(0.05, 2),
        SAM(0.05),
        SGD(0.05, noise_model=Isotropic(0.1)),
        scheduled(SGD(0.05, 2), lambda k: 1.0),
    ],
)
def test_other_algorithms(equation):
    result = compare(equation, DROPOUT, NET, steps=4, key=KEY, paths=200, save_every=4)
    error = result.moments["loss"]["mean"].model_error
    assert np.all(np.isfinite(error.value)) and np.abs(error.value[-1]) < 0.1


@pytest.mark.slow
def test_the_stratonovich_form_and_single_precision():
    path = solve(
        stratonovich(SGD(ETA, 2)), SAMPLED, W, steps=2, key=KEY, paths=2, solver=diffrax.EulerHeun()
    )  # fmt: skip
    assert bool(path.ok.all())
    single = Objective(loss, (X.astype(np.float32), Y.astype(np.float32)), random=True)
    for run in (train, solve):
        fit = run(SGD(ETA, 2), single, W.astype(jnp.float32), steps=2, key=KEY, paths=2)
        assert fit.final.dtype == jnp.float32 and bool(fit.ok.all())


# ---------------------------------------------------------------------------------------------------------------------
# What is told


def detached(w, example):
    return jax.lax.stop_gradient(ridge(w, example))


WRONG = {
    "without what dropout adds": lambda w, example: 0.5 * (example[1] - jnp.dot(w, example[0])) ** 2,
    "another constant": lambda w, example: 0.5 * ridge(w, example),
    "detached": detached,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_mean_that_is_not_its_own(name):
    signal = Objective(loss, (X, Y), random=True, mean=WRONG[name])
    with pytest.warns(UserWarning, match="Argument `mean` must be the loss averaged over its keys, but over 1024 keys"):
        train(SGD(ETA), signal, 3 * W, steps=1, key=KEY)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0.5, 0.8])
@pytest.mark.parametrize("start", [(0.0, 0.0), (0.3, -0.2)])
def test_a_mean_that_is_its_own_at_the_start_alone(keep, start):
    """The ridge is nothing at zero, and little where the rest of the loss is large: it is seen away from there."""

    def dropped(w, example, key):
        kept = jax.random.bernoulli(key, keep, example[0].shape)
        return 0.5 * (5 + example[1] - jnp.dot(w, jnp.where(kept, example[0] / keep, 0.0))) ** 2

    def plain(w, example):
        return 0.5 * (5 + example[1] - jnp.dot(w, example[0])) ** 2

    def right(w, example):
        return plain(w, example) + 0.5 * (1 - keep) / keep * jnp.sum(w**2 * example[0] ** 2)

    with pytest.warns(UserWarning, match="Argument `mean` must be .* at parameters drawn around these"):
        train(SGD(1e-3), Objective(dropped, (X, Y), random=True, mean=plain), jnp.asarray(start), steps=1, key=KEY)
    train(SGD(1e-3), Objective(dropped, (X, Y), random=True, mean=right), jnp.asarray(start), steps=1, key=KEY)


@pytest.mark.parametrize("number", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("run", [train, solve])
def test_a_mean_that_is_no_number(run, number):
    """A loss that is none either is told of as any other."""
    signal = Objective(loss, (X, Y), random=True, mean=lambda w, example: number * jnp.sum(w**2))
    with pytest.raises(ValueError, match="Argument `mean` must be the loss averaged over its keys, but over 1024 keys"):
        run(SGD(ETA), signal, W, steps=1, key=KEY)


def rare(w, example, key):
    """A thousandth of the keys has it all."""
    return jnp.where(jax.random.bernoulli(key, 1e-3), 1e3, 0.0) * ridge(w, example)


@pytest.mark.slow
def test_a_rare_event_is_no_wrong_mean():
    train(SGD(ETA), Objective(rare, (X, Y), random=True, mean=ridge), W, steps=1, key=KEY)
    penalized = regularized(EXACT, lambda w: jnp.sum(w**2))
    train(SGD(ETA), penalized, W, steps=1, key=KEY)


def test_too_few_draws():
    few = Objective(loss, (X, Y), random=True, draws=2)
    with pytest.warns(UserWarning, match="Argument `draws` must be larger than 2: .*as far in .* steps"):
        warn_sampling(with_loss_noise(SGD(ETA, 4), few), few, W)
    for equation in (SGD(ETA, 2), SGD(ETA, 4, noise_model=Isotropic(1.0))):
        warn_sampling(with_loss_noise(equation, SAMPLED), SAMPLED, W)
    warn_sampling(with_loss_noise(SGD(ETA, 4), EXACT), EXACT, W)


@pytest.mark.slow
def test_steps_to_draws():
    """R times the examples of a step's count: (1/B) (C + V) over V/(N R)."""
    batch, size, gradients = 2, len(X), jax.vmap(lambda i: SAMPLED.take(i[None]).gradient(W))(jnp.arange(4))
    between = np.sum(np.var(gradients, axis=0))
    within = size * 16 * np.sum(np.square(SAMPLED.gradient_error(W)))
    noise = between / batch + (1 / batch - (1 - 1 / size) / (16 * batch)) * within
    found = steps_to_mean(with_loss_noise(SGD(ETA, batch), SAMPLED), SAMPLED, W)
    np.testing.assert_allclose(found, noise * size * 16 / within, rtol=1e-6)
    (line,) = sampled({"draws": "16", "steps_to_draws": "25"}, 100)
    assert "16 keys of each example: in 100 steps" in line and "by 2 standard deviations of the paths" in line


class Around(AbstractSignal):
    """A user's signal that does not know of keys."""

    signal: AbstractSignal

    @property
    def data(self):
        return self.signal.data

    def surrogate(self, active, frozen, example):
        return 2 * self.signal.surrogate(active, frozen, example)


def test_refused():
    with pytest.raises(ValueError, match="Argument `objective` must hand on the keys of the random loss inside Around"):
        train(SGD(ETA), Around(EXACT), W, steps=1, key=KEY)
    with pytest.raises(ValueError, match="Argument `objective` must hand on the keys of the random loss"):
        train(SGD(ETA), regularized(Around(EXACT), lambda w: 0.0), W, steps=1, key=KEY)
    for call in (
        lambda: irreversibility(SGD(ETA, 2), EXACT, W, key=KEY),
        lambda: solve(corrected(SGD(ETA, 2)), EXACT, W, steps=1, key=KEY),
    ):
        with pytest.raises(ValueError, match="no noise but that of its minibatches"):
            call()
    with pytest.raises(ValueError, match="`sampling` must not be 'shuffled' for the modified equation of a loss"):
        solve(modified(SGD(ETA, 2, "shuffled")), EXACT, W, steps=1, key=KEY)
    with pytest.raises(ValueError, match="Argument `key` must be a key"):
        solve(SGD(ETA), EXACT, W, steps=1)

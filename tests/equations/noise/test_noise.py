"""The noise of an equation has the covariance of real minibatches: every batch there is, counted, not sampled."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from dynamics import train
from equations import SGD, Objective, noise_operator
from equations._noise.batches import noise_weights

EXAMPLES = 5
RNG = np.random.default_rng(0)
PARAMS = {"layer": ({"w": jnp.asarray(RNG.normal(size=(2, 3))), "b": jnp.asarray(RNG.normal(size=2))},),
          "scale": jnp.asarray(0.7)}  # fmt: skip
DATA = {"x": RNG.normal(size=(EXAMPLES, 3)), "y": RNG.normal(size=EXAMPLES)}


def loss(params, example):
    (layer,) = params["layer"]
    hidden = jnp.tanh(layer["w"] @ example["x"] + layer["b"])
    return 0.5 * (params["scale"] * jnp.sum(hidden) - example["y"]) ** 2


OBJECTIVE = Objective(loss, DATA)


def per_example():
    """The gradient of each example by itself, shape (N, P), without the weighted gradient."""
    examples = [{name: leaf[i] for name, leaf in DATA.items()} for i in range(EXAMPLES)]
    return np.array([ravel_pytree(jax.grad(loss)(PARAMS, example))[0] for example in examples])


def batches(batch_size, sampling):
    """All equally likely batches."""
    if sampling == "with_replacement":
        return list(itertools.product(range(EXAMPLES), repeat=batch_size))
    return list(itertools.combinations(range(EXAMPLES), batch_size))


def empirical(batch_size, sampling):
    gradients = per_example()
    means = np.array([gradients[list(batch)].mean(0) for batch in batches(batch_size, sampling)])
    return np.cov(means.T, bias=True)


def columns(operator):
    """The operator as a matrix (P, N): its response to unit normals."""
    (struct,) = jax.tree.leaves(operator.in_structure())
    units = jnp.eye(struct.shape[0], dtype=struct.dtype)
    return np.asarray(jax.vmap(lambda unit: ravel_pytree(operator.mv(unit))[0])(units)).T


def disagreement(covariance, batch_size, sampling):
    """The largest entry of the difference from the empirical covariance."""
    return np.max(np.abs(covariance - empirical(batch_size, sampling)))


BATCHES = [("with_replacement", 1), ("with_replacement", 2), ("with_replacement", 4), ("without_replacement", 1),
         ("without_replacement", 2), ("without_replacement", 4), ("without_replacement", 5)]  # fmt: skip


@pytest.mark.parametrize(("sampling", "batch_size"), BATCHES)
def test_covariance_is_that_of_all_minibatches(sampling, batch_size):
    root = columns(noise_operator(OBJECTIVE, PARAMS, batch_size, sampling))
    assert disagreement(root @ root.T, batch_size, sampling) < 1e-12
    if batch_size < EXAMPLES:  # a check of something: leaves correlate, and entries are far above the tolerance
        sizes = [leaf.size for leaf in jax.tree.leaves(PARAMS)]
        across = (root @ root.T)[: sizes[0], sizes[0] :]
        assert np.abs(across).max() > 1e-3


def test_the_mean_of_all_minibatches_is_the_full_gradient():
    full = ravel_pytree(OBJECTIVE.gradient(PARAMS))[0]
    np.testing.assert_allclose(per_example().mean(0), full, atol=1e-12)


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_mutants_are_rejected(sampling):
    """By the check above: one Brownian motion per leaf, the factor of the batch size or of the sampling lost."""
    root = columns(noise_operator(OBJECTIVE, PARAMS, 2, sampling))
    covariance = root @ root.T
    assert disagreement(covariance, 2, sampling) < 1e-12
    leaf = np.repeat(np.arange(3), [leaf.size for leaf in jax.tree.leaves(PARAMS)])
    per_leaf = np.where(leaf[:, None] == leaf, covariance, 0.0)  # independent draws: nothing across leaves
    assert disagreement(per_leaf, 2, sampling) > 1e-2
    assert disagreement(2 * covariance, 2, sampling) > 1e-2
    other = {"with_replacement": "without_replacement", "without_replacement": "with_replacement"}[sampling]
    swapped = columns(noise_operator(OBJECTIVE, PARAMS, 2, other))
    assert disagreement(swapped @ swapped.T, 2, sampling) > 1e-2


def test_shuffled_epochs_have_no_noise_at_leading_order():
    """Over an epoch of disjoint batches at fixed parameters the gradients add up to the same, in any order."""
    gradients = per_example()[:4]
    sums = [
        sum(gradients[list(order[i : i + 2])].mean(0) for i in (0, 2)) for order in itertools.permutations(range(4))
    ]
    assert np.ptp(sums, axis=0).max() < 1e-12
    assert not np.any(columns(noise_operator(OBJECTIVE, PARAMS, 2, "shuffled")))


def test_one_example_has_no_noise():
    """0/0 in (N - B)/(N - 1) where there is nothing to sample."""
    for sampling in ("with_replacement", "without_replacement", "shuffled"):
        assert not np.any(noise_weights(jnp.ones(1), 1, sampling))


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_weights_sum_to_zero(sampling):
    """So that the mean gradient itself never adds noise, and an example's constant shift none either."""
    weights = noise_weights(jax.random.normal(jax.random.key(0), (EXAMPLES,)), 2, sampling)
    assert abs(float(jnp.sum(weights))) < 1e-15 < float(jnp.abs(weights).max())


@pytest.mark.slow
def test_gaussian_training_has_the_covariance_of_its_sampling():
    """From the step of the full gradient, one without replacement is sqrt((N - B)/(N - 1)) as far as one with it."""

    def step(sampling, batch_size):
        run = train(SGD(0.1, batch_size, sampling), OBJECTIVE, PARAMS, steps=1, key=jax.random.key(0), noise="gaussian")
        return np.asarray(ravel_pytree(run.final)[0])

    full = np.asarray(ravel_pytree(train(SGD(0.1), OBJECTIVE, PARAMS, steps=1).final)[0])
    np.testing.assert_allclose(step("without_replacement", EXAMPLES), full, rtol=0, atol=1e-14)
    for batch_size in (2, 4):
        apart, independent = (
            step(sampling, batch_size) - full for sampling in ("without_replacement", "with_replacement")
        )
        assert np.abs(independent).max() > 1e-2
        np.testing.assert_allclose(apart, ((EXAMPLES - batch_size) / (EXAMPLES - 1)) ** 0.5 * independent, rtol=1e-9)


def test_float32_stays_float32():
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (PARAMS, DATA))
    operator = noise_operator(Objective(loss, single[1]), single[0], 2)
    assert operator.in_structure().dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(operator.out_structure())} == {jnp.dtype("float32")}

"""Schedules inside Optax optimizers that take labels and masks like the user's parameters have their times too."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import solve, train
from equations import Objective, from_optax

CASES = [
    (
        "times",
        "instance",
        "a schedule beside masked decay, whose factory takes no invented parameters",
        "test_times[mask]",
    ),
    ("times", "brother", "a schedule after transformations by label", "test_times[labels]"),
    ("times", "brother", "a schedule for one label alone: said, not guessed", "test_one_rate_for_all_or_a_word"),
]

PARAMS = {"a": jnp.ones(1), "b": jnp.ones(1)}
OBJECTIVE = Objective(lambda p, x: 0.5 * jnp.sum((p["a"] - x) ** 2 + (p["b"] - x) ** 2), jnp.array([[1.0], [-1.0]]))
LABELS = {"a": "x", "b": "y"}
RATES = 0.05 * np.array([1.0, 1.0, 0.5, 0.5])


def halved(rate):
    return optax.piecewise_constant_schedule(rate, {2: 0.5})


def mask(learning_rate):
    decay = optax.add_decayed_weights(0.1, mask={"a": True, "b": False})
    return optax.chain(decay, optax.sgd(halved(learning_rate)))


def labels(learning_rate):
    inner = optax.multi_transform({"x": optax.scale(1.0), "y": optax.trace(0.5)}, LABELS)
    return optax.chain(inner, optax.scale_by_learning_rate(halved(learning_rate)))


def one(learning_rate):
    return optax.multi_transform({"x": optax.sgd(halved(learning_rate)), "y": optax.sgd(learning_rate)}, LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("factory", [mask, labels])
def test_times(factory):
    for run in (solve, train):
        result = run(from_optax(factory, 0.05), OBJECTIVE, PARAMS, steps=4)
        np.testing.assert_allclose(result.times, np.append(0, np.cumsum(RATES)), rtol=1e-6)


def test_one_rate_for_all_or_a_word():
    with pytest.warns(UserWarning, match="sums of `learning_rate`"):
        result = train(from_optax(one, 0.05), OBJECTIVE, PARAMS, steps=4)
    np.testing.assert_allclose(result.times, 0.05 * np.arange(5))

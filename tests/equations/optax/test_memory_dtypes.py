"""Optimizers that keep their memory in another dtype than the parameters."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some

from dynamics import solve
from equations import Objective, from_optax

CASES = [
    ("memory of another dtype", "instance", "adam with mu_dtype=bfloat16", "test_solve_runs[bfloat16]"),
    (
        "memory of another dtype",
        "instance",
        "a schedule in inject_hyperparams under x64",
        "test_solve_runs[injected]",
    ),
    ("memory of another dtype", "brother", "momentum with accumulator_dtype=float32", "test_solve_runs[float32]"),
    ("memory of another dtype", "brother", "float64 memory of float32 parameters", "test_solve_runs[float64]"),
    ("memory of another dtype", "brother", "injected hyperparameters change nothing", "test_injected_is_the_plain_one"),
]

DATA = jnp.array([1.0, -1.0, 0.5])
START, STEPS = np.array([1.0, 0.4]), 12
SCHEDULE = optax.linear_schedule(0.1, 0.02, STEPS)


def injected(learning_rate):
    return optax.inject_hyperparams(optax.sgd)(learning_rate=lambda step: learning_rate * SCHEDULE(step) / 0.1)


# The factory, the one with memory in the parameters' dtype, the dtype of the parameters.
RULES = {
    "bfloat16": (lambda learning_rate: optax.adam(learning_rate, mu_dtype=jnp.bfloat16), optax.adam, jnp.float64),
    "injected": (injected, lambda learning_rate: optax.sgd(lambda step: learning_rate * SCHEDULE(step) / 0.1), jnp.float64),
    "float32": (
        lambda learning_rate: optax.sgd(learning_rate, momentum=0.9, accumulator_dtype=jnp.float32),
        lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
        jnp.float64,
    ),
    "float64": (
        lambda learning_rate: optax.sgd(learning_rate, momentum=0.9, accumulator_dtype=jnp.float64),
        lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
        jnp.float32,
    ),
}  # fmt: skip


def end(factory, dtype):
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), DATA.astype(dtype))
    return np.asarray(solve(from_optax(factory, 0.05), objective, jnp.asarray(START, dtype), steps=STEPS).final[0])


@pytest.mark.parametrize("name", some(RULES, ["bfloat16"]))
def test_solve_runs(name):
    """Within the rounding of the memory as the rule whose memory has the dtype of the parameters."""
    factory, plain, dtype = RULES[name]
    rounding = float(jnp.finfo(jnp.bfloat16 if name == "bfloat16" else jnp.float32).eps)
    given, expected = end(factory, dtype), end(plain, dtype)
    assert given.dtype == dtype
    np.testing.assert_allclose(given, expected, atol=10 * rounding * np.abs(expected - START).max())


def test_injected_is_the_plain_one():
    """The recorded hyperparameters have no part in the motion."""
    flow = end(lambda learning_rate: optax.inject_hyperparams(optax.sgd)(learning_rate=learning_rate), jnp.float64)
    exact = jnp.mean(DATA) + (START - jnp.mean(DATA)) * np.exp(-0.05 * STEPS)
    np.testing.assert_allclose(flow, exact, rtol=1e-6)

"""What a function returns without being compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equations import SGD, Adam, Momentum
from equations.internal import filled_value

PARAMS = {"a": jnp.arange(3.0), "b": jnp.ones((2, 2))}


def init(equation, params):
    return equation.init(params)


@pytest.mark.parametrize("equation", [SGD(0.1), Momentum(0.1), Adam(0.1)], ids=["sgd", "momentum", "adam"])
def test_a_state_with_an_empty_memory(equation):
    found, right = filled_value(init, equation, PARAMS), equation.init(PARAMS)
    assert jax.tree.structure(found) == jax.tree.structure(right)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    other = filled_value(init, equation, jax.tree.map(lambda leaf: leaf + 1, PARAMS))  # remembered, on other numbers
    np.testing.assert_array_equal(equation.params(other)["a"], PARAMS["a"] + 1)


@pytest.mark.parametrize(
    "function",
    [lambda x: x + 1, lambda x: jnp.sum(x), lambda x: x.astype(jnp.float32), lambda x: x[::-1], lambda x: -x],
)
def test_what_is_computed_is_not_made_up(function):
    assert filled_value(function, jnp.arange(3.0)) is None


def test_constants():
    def constants(x):
        return x, jnp.full((2,), 0.5), jnp.zeros(x.shape, jnp.int32), jnp.ones_like(x), jnp.asarray(2.0)

    for ours, theirs in zip(filled_value(constants, jnp.arange(3.0)), constants(jnp.arange(3.0)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)

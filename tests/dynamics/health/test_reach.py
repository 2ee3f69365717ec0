"""What of a state is its memory, and whether it is empty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve
from dynamics._health.reach import is_empty, memory_of
from equations import SGD, Adam, Momentum, Objective, averaged, scheduled
from equations.internal import filled_value

X = jax.random.normal(jax.random.key(1), (40, 3))
OBJECTIVE = Objective(lambda w, e: 0.5 * (e[0] @ w - e[1]) ** 2, (X, X @ jnp.ones(3)))


def begin(rule, params):
    return rule.init(params)


@pytest.mark.parametrize(
    ("rule", "number"),
    [
        (SGD(0.1, 2), 0),
        (Momentum(0.1, 2), 1),
        (Adam(0.1, 2), 2),
        (averaged(SGD(0.1, 2)), 1),
        (averaged(Adam(0.1, 2), decay="polyak"), 3),
        (averaged(scheduled(Adam(0.1, 2), lambda k: 1.0)), 3),
    ],
    ids=["sgd", "momentum", "adam", "average", "polyak", "scheduled"],
)
def test_a_memory_is_told_by_its_place(rule, number):
    """Not by the array that is there: an average begins as that of the parameters."""
    params = {"a": jnp.ones(3), "b": jnp.ones((2, 2))}
    start = filled_value(begin, rule, params)
    other = jax.tree.map(np.array, start)  # as at the end of a run, where all arrays are their own
    for state in (start, other):
        assert [leaf.shape for leaf in memory_of(rule, state)] == [(3,), (2, 2)] * number
    leaves = [np.ones(3), np.ones((2, 2))]
    assert all(is_empty(np.asarray(leaf), leaves) for leaf in memory_of(rule, start))


def test_what_is_not_empty():
    params = [np.ones(3), np.zeros(2)]
    assert is_empty(np.ones(3), params) and is_empty(np.zeros((2, 2)), params)
    assert not is_empty(np.array([1.0, 1.0, 0.0]), params) and not is_empty(np.ones(2), params)


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.99, "polyak"])
def test_an_average_around_a_first_step_of_the_algorithm(decay):
    rule = Adam(0.01, 4)
    run, other = (
        solve(one, OBJECTIVE, jnp.zeros(3), steps=5, key=jax.random.key(0)) for one in (averaged(rule, decay), rule)
    )
    np.testing.assert_allclose(run.final, other.final, rtol=1e-12)

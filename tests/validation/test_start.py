"""Measurements that begin where a run ended."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import stationary, train
from equations import SGD, Adam, Momentum, Objective
from validation import compare, irreversibility, orders

OBJECTIVE = Objective(lambda w, x: jnp.sum((w - x) ** 2) / 2, jnp.linspace(-1, 1, 8).reshape(4, 2))
W0, KEY = jnp.array([2.0, -1.0]), jax.random.key(0)


@pytest.fixture(scope="module")
def half():
    return train(Adam(0.05, 2), OBJECTIVE, W0, steps=4, key=KEY, paths=3)


@pytest.mark.slow
def test_compare(half):
    """Both sides begin with the memory that the run had; the algorithm goes on to the bit."""
    found = compare(Adam(0.05, 2), OBJECTIVE, start=half, steps=2, observe={"nu": lambda w, state: state.nu})
    on = train(Adam(0.05, 2), OBJECTIVE, start=half, steps=2)
    np.testing.assert_array_equal(found.run.final, on.final)
    np.testing.assert_array_equal(found.steps, [4, 5, 6])
    for side in (found.flow, found.run, found.refined):
        np.testing.assert_array_equal(side.observables["nu"][:, 0], half.final_state.nu)


@pytest.mark.slow
def test_parameters():
    rule = SGD(0.05)
    half = train(rule, OBJECTIVE, W0, steps=4)
    end = half.final[0]
    there = irreversibility(rule, OBJECTIVE, start=half)
    np.testing.assert_array_equal(there.phi, irreversibility(rule, OBJECTIVE, end).phi)
    rates = dict(time=0.4, learning_rates=[0.1, 0.05, 0.025])
    a, b = orders(rule, OBJECTIVE, start=half, **rates), orders(rule, OBJECTIVE, end, **rates)
    assert a.slope == b.slope
    noisy = SGD(0.05, 2)
    found, expected = stationary(noisy, OBJECTIVE, start=half), stationary(noisy, OBJECTIVE, end)
    np.testing.assert_array_equal(found.mean, expected.mean)


def test_refused(half):
    with pytest.raises(ValueError, match="Argument `start` must be of a run of one path .* it has 3"):
        irreversibility(SGD(0.05, 2), OBJECTIVE, start=half)
    with pytest.raises(ValueError, match="Argument `params` must be left out"):
        compare(Adam(0.05, 2), OBJECTIVE, W0, start=half, steps=2)
    with pytest.raises(ValueError, match="Argument `observe` must hold functions of the parameters alone"):
        train(Unknown(0.05), OBJECTIVE, W0, steps=2, observe={"m": lambda w, state: state[1]})


class Unknown(Momentum):
    """Whose state is another one than its algorithm's."""

    def init(self, params):
        return params, params

    def params(self, state):
        return state[0]

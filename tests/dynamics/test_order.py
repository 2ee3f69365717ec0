"""Batches in an order that the user gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import minibatches, train
from equations import SGD, LabelNoise, Objective, Population

X = jnp.arange(1.0, 7.0) / 6
LOSS = Objective(lambda w, e: (w * e - 1) ** 2 / 2, X)
CYCLE = jnp.arange(6).reshape(3, 2)
START, RATE = jnp.array(0.3), 0.5


def by_hand(order, steps, w=0.3):
    for t in range(steps):
        x = np.asarray(X)[np.asarray(order)[t % len(order)]]
        w = w - RATE * np.mean(x * (w * x - 1))
    return w


def test_cyclic_batches_are_those_of_a_loop():
    """The mutant, from the last batch to the first, ends elsewhere. Nothing is drawn, so no key is needed."""
    run = train(SGD(RATE, 2), LOSS, START, steps=20, order=CYCLE, paths=3, observe={"w": lambda w: w})
    assert np.allclose(run.final, by_hand(CYCLE, 20), rtol=1e-14) and run.observables["w"].shape == (3, 21)
    assert abs(by_hand(CYCLE[::-1], 20) - by_hand(CYCLE, 20)) > 1e-3


def test_an_order_goes_on():
    half = train(SGD(RATE, 2, sampling="shuffled"), LOSS, START, steps=10, order=CYCLE)
    rest = train(SGD(RATE, 2, sampling="shuffled"), LOSS, steps=10, order=CYCLE, start=half)
    assert float(rest.final[0]) == float(train(SGD(RATE, 2), LOSS, START, steps=20, order=CYCLE).final[0])


def test_a_script_of_what_was_drawn_repeats_the_run(key):
    sgd = SGD(RATE, 2)
    drawn = train(sgd, LOSS, START, steps=12, key=key)
    again = train(sgd, LOSS, START, steps=12, order=minibatches(sgd, LOSS, steps=12, key=key))
    assert float(drawn.final[0]) == float(again.final[0])


@pytest.mark.slow
def test_what_is_injected_is_drawn_still(key):
    pair = Objective(lambda w, e: (w * e[0] - e[1]) ** 2 / 2, (X, jnp.ones(6)))
    noisy = SGD(RATE, 2, noise_model=LabelNoise(0.3))
    run = train(noisy, pair, START, steps=6, order=CYCLE, key=key, paths=2)
    assert run.final[0] != run.final[1]


def test_refusals(key):
    for wrong in (
        jnp.arange(6),
        jnp.array([[0, 6]]),
        jnp.array([[0.0, 1.0]]),
        jnp.array([[-1, 0]]),
        jnp.zeros((0, 2), int),
    ):
        with pytest.raises(ValueError, match="Argument `order`"):
            train(SGD(RATE, 2), LOSS, START, steps=2, order=wrong)
    with pytest.raises(ValueError, match="Argument `order`"):
        train(SGD(RATE), LOSS, START, steps=2, order=CYCLE)
    with pytest.raises(ValueError, match="Argument `order`"):
        train(SGD(RATE, 2), LOSS, START, steps=2, order=CYCLE, noise="gaussian", key=key)
    endless = Objective(lambda w, e: (w - e) ** 2, Population(jax.random.normal))
    with pytest.raises(ValueError, match="Argument `order`"):
        train(SGD(RATE, 2), endless, START, steps=2, order=CYCLE)

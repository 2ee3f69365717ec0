"""Gradients that are accumulated over batches: the same algorithm and the same equation with a larger batch."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some
from oracles import LinearRegression

from dynamics import minibatches, train
from equations import SAM, SGD, Adam, Momentum, accumulated, averaged, from_optax, scheduled

PROBLEM = LinearRegression(examples=12)
OBJECTIVE, START = PROBLEM.objective, jnp.asarray(PROBLEM.start)
HALVED = optax.exponential_decay(1.0, 3, 0.5)
# By default Optax accumulates in float32, where it knows this argument.
NAME = "accumulator_dtype"
IN_DOUBLE = {NAME: jnp.float64} if NAME in inspect.signature(optax.MultiSteps).parameters else {}
RULES = {
    "sgd": (SGD(0.05, 2), optax.sgd(0.05)),
    "adam": (Adam(0.05, 2), optax.adam(0.05)),
    "scheduled": (scheduled(SGD(0.05, 2), HALVED), optax.chain(optax.sgd(0.05), optax.scale_by_schedule(HALVED))),
    "averaged": (averaged(SGD(0.05, 2)), optax.sgd(0.05)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", some(RULES, ["scheduled"]))
def test_updates_are_those_of_optax(name, every=3, updates=6):
    """On the same examples, as so many small batches, `optax.MultiSteps` comes to the same weights with every update."""
    rule, optimizer = RULES[name]
    gathered, options = accumulated(rule, every=every), dict(steps=updates, key=jax.random.key(0))
    run = train(gathered, OBJECTIVE, START, observe={"w": lambda w: w}, **options)
    small = minibatches(gathered, OBJECTIVE, **options).reshape(-1, rule.batch_size)
    multi = optax.MultiSteps(optimizer, every, **IN_DOUBLE)
    params, memory, record = START, multi.init(START), [START]
    for indices in small:
        with jax.numpy_dtype_promotion("standard"):
            step, memory = multi.update(OBJECTIVE.take(indices).gradient(params), memory, params)
            params = optax.apply_updates(params, step)
        record.append(params)
    np.testing.assert_allclose(run.observables["w"][0], record[::every], rtol=0, atol=1e-12)


@pytest.mark.slow
def test_the_law_of_a_gradient():
    """Mean and covariance over all ways to draw it, summed out: those of the equation's batches. Mutant: one batch of B."""
    few = LinearRegression(examples=3).objective
    rule = accumulated(SGD(0.05, 1), every=3)
    draws = jnp.asarray(list(itertools.product(range(3), repeat=3)))
    one = jax.vmap(lambda index: few.take(index[None]).gradient(START))
    gathered = jax.vmap(lambda draw: jnp.mean(one(draw), axis=0))(draws)
    single = one(jnp.arange(3))
    np.testing.assert_allclose(jnp.mean(gathered, axis=0), few.gradient(START), rtol=1e-12)
    wanted = rule.batches(few).factor * np.cov(single.T, bias=True)
    np.testing.assert_allclose(np.cov(gathered.T, bias=True), wanted, rtol=1e-10, atol=1e-14)
    root = rule.gradient_noise.root(rule.batches(few), START)
    columns = jax.vmap(root.mv)(jnp.eye(3))
    np.testing.assert_allclose(columns.T @ columns, wanted, rtol=1e-10, atol=1e-14)
    assert rule.batch_size == 3 and not np.allclose(SGD(0.05, 1).batches(few).factor, rule.batches(few).factor)


REFUSED = {
    "full batch": (lambda: accumulated(SGD(0.1), 2), ValueError, "`equation` must have a batch size"),
    "subsets": (lambda: accumulated(SGD(0.1, 2, "without_replacement"), 2), ValueError, "`equation` must draw"),
    "epochs": (lambda: accumulated(Momentum(0.1, 2, "shuffled"), 2), ValueError, "`equation` must draw"),
    "several": (lambda: accumulated(SAM(0.1, 2), 2), ValueError, "`equation` must take one gradient"),
    "none": (lambda: accumulated(SGD(0.1, 2), 0), ValueError, "`every` must be an integer"),
    "real": (lambda: accumulated(SGD(0.1, 2), 1.5), TypeError, "`every` must be an integer"),
    "optimizer": (lambda: accumulated(optax.sgd(0.1), 2), TypeError, "`equation` must be an equations.AbstractEquation"),
    "multi_steps": (
        lambda: from_optax(lambda learning_rate: optax.MultiSteps(optax.sgd(learning_rate), 4), 0.1, 2),
        ValueError, r"equations.accumulated\(..., every=k\)",
    ),
    "gathering": (
        lambda: from_optax(lambda learning_rate: optax.MultiSteps(optax.sgd(1.0), 4).gradient_transformation(), 1, 2),
        ValueError, r"batch_size=8.*equations.accumulated\(..., every=4\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    call, error, words = REFUSED[kind]
    with pytest.raises(error, match=words):
        call()

"""Factories of Optax optimizers that leave out, square or clip the learning rate, or leave out a hyperparameter."""

import warnings

import jax.numpy as jnp
import optax
import pytest

from dynamics import solve, train
from equations import Objective, decayed, from_optax
from equations._optax.ignored import check_uses, ignored_numbers, misused_rate
from validation import orders

CASES = [
    ("numbers that a factory leaves out", "instance", "lambda learning_rate: optax.sgd(.05), 0.01", "test_rates[fixed]"),
    ("numbers that a factory leaves out", "brother", "a rate that is squared", "test_rates[squared]"),
    ("numbers that a factory leaves out", "brother", "a root of the rate", "test_rates[root]"),
    ("numbers that a factory leaves out", "brother", "a rate that is clipped", "test_rates[clipped]"),
    ("numbers that a factory leaves out", "brother", "a global rate in adam", "test_rates[global]"),
    ("numbers that a factory leaves out", "brother", "a fixed rate in inject_hyperparams", "test_rates[injected]"),
    ("numbers that a factory leaves out", "brother", "a fixed rate for one label", "test_rates[label]"),
    ("numbers that a factory leaves out", "brother", "masked, which hands gradients on", "test_rates[masked]"),
    ("numbers that a factory leaves out", "brother", "a rate that is clipped below another one", "test_clipped_by_value"),
    ("numbers that a factory leaves out", "instance", "momentum", "test_hyperparameters[momentum]"),
    ("numbers that a factory leaves out", "brother", "a weight decay in **kwargs", "test_hyperparameters[decay]"),
    ("numbers that a factory leaves out", "brother", "solve, train, inside decayed", "test_both_sides"),
    ("numbers that a factory leaves out", "brother", "orders of a schedule that is fixed", "test_fixed_schedules"),
    ("rates that are used", "brother", "warm-up from 0, bounds on a step, decay beside the rate", "test_quiet"),
    ("rates that are used", "brother", "madgrad, whose step goes as the power 2/3", "test_madgrad"),
]  # fmt: skip

PARAMS = {"w": jnp.array([[1.0, -0.7], [0.3, 0.9]]), "b": jnp.array([0.5, -1.0])}
OBJECTIVE = Objective(lambda p, x: 0.5 * jnp.sum((p["w"] @ x + p["b"]) ** 2), jnp.array([[1.0, 0.5], [0.2, -1.0]]))
RATE = 0.05
INJECT = optax.inject_hyperparams(optax.sgd)


def labeled(learning_rate):
    return optax.partition({"a": optax.sgd(learning_rate), "b": optax.sgd(0.05)}, {"w": "a", "b": "b"})


RATES = {
    "fixed": lambda learning_rate: optax.sgd(0.05),
    "squared": lambda learning_rate: optax.sgd(learning_rate**2),
    "root": lambda learning_rate: optax.sgd(learning_rate**0.5),
    "clipped": lambda learning_rate: optax.sgd(jnp.minimum(learning_rate, 0.004)),
    "global": lambda learning_rate: optax.adam(RATE),
    "injected": lambda learning_rate: INJECT(learning_rate=0.05),
    "label": labeled,
    "masked": lambda learning_rate: optax.masked(optax.sgd(learning_rate), {"w": True, "b": False}),
}
TIMES = {"fixed": "1 times", "squared": "0.25 times", "root": "0.707 times", "clipped": "1 times"}


@pytest.mark.parametrize("name", RATES)
def test_rates(name):
    told = misused_rate(from_optax(RATES[name], 0.01), PARAMS)
    assert "`factory`" in told and "`params['b']`" in told and TIMES.get(name, "1 times") in told


def test_clipped_by_value():
    """Two learning rates of one structure, of which one is clipped."""
    for rate, count in ((0.002, 0), (0.01, 1)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            check_uses(from_optax(RATES["clipped"], rate), PARAMS)
        assert len(told) == count


@pytest.mark.parametrize("name", ["momentum", "decay"])
def test_hyperparameters(name):
    if name == "momentum":
        equation = from_optax(lambda learning_rate, momentum: optax.sgd(learning_rate), 0.01, momentum=0.9)
        used = from_optax(optax.sgd, 0.01, momentum=0.9)
    else:
        equation = from_optax(lambda learning_rate, **others: optax.sgd(learning_rate), 0.01, weight_decay=0.9)
        used = from_optax(optax.adamw, 0.01, weight_decay=0.9)
    (ignored,) = equation.hyperparameters
    assert ignored_numbers(equation, PARAMS) == (ignored,)
    assert ignored_numbers(used, PARAMS) == ()
    with pytest.warns(UserWarning, match=f"`factory` must use `{ignored}`"):
        check_uses(equation, PARAMS)


def test_both_sides():
    equation = decayed(from_optax(RATES["fixed"], 0.01), 0.1)
    for side, words in ((solve, "in proportion"), (train, "must use `learning_rate`")):
        with pytest.warns(UserWarning, match=f"`factory` must.*{words}|`factory` {words}") as told:
            side(equation, OBJECTIVE, PARAMS, steps=2)
        assert told[0].filename == __file__


def cosine(learning_rate):
    return optax.sgd(optax.cosine_decay_schedule(0.05, 20))


def test_fixed_schedules():
    """They have times of their own, but no other learning rates."""
    equation = from_optax(cosine, 0.05)
    assert misused_rate(equation, PARAMS) is None and ignored_numbers(equation, PARAMS) == ()
    with pytest.warns(UserWarning, match="in proportion"), pytest.raises(ValueError, match="`learning_rates`"):
        orders(equation, OBJECTIVE, PARAMS, time=0.1, learning_rates=[])


QUIET = {
    "warm": lambda learning_rate: optax.sgd(optax.linear_schedule(0.0, learning_rate, 10)),
    "bounded": lambda learning_rate: optax.chain(optax.sgd(learning_rate), optax.clip(0.01)),
    "decay": lambda learning_rate: optax.chain(optax.sgd(learning_rate), optax.add_decayed_weights(-0.01)),
    "injected": lambda learning_rate: INJECT(learning_rate=learning_rate),
}


@pytest.mark.slow
def test_quiet():
    for factory in QUIET.values():
        for rate in (0.05, 1e-3):
            equation = from_optax(factory, rate)
            assert misused_rate(equation, PARAMS) is None and ignored_numbers(equation, PARAMS) == ()


def test_madgrad():
    """A step that goes as a power between 1/2 and 3/2 of the rate is believed."""
    assert misused_rate(from_optax(optax.contrib.madgrad, 0.05), PARAMS) is None

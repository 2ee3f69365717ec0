"""Losses that ask for more than one example: the rest of its batch, a key, a state."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve, train
from equations import SGD, Objective, regularized

CASES = [
    ("losses beyond one example", "instance", "BatchNorm, whose axis is unbound", "test_refused[axis]"),
    ("losses beyond one example", "instance", "Dropout without a key", "test_refused[dropout]"),
    ("losses beyond one example", "brother", "BatchNorm without its state", "test_refused[state]"),
    ("losses beyond one example", "brother", "a loss with an argument for a key", "test_refused[argument]"),
    ("losses beyond one example", "brother", "a mean over an axis of the batch", "test_refused[mean]"),
    ("losses beyond one example", "brother", "a loss that returns its state", "test_returned_state"),
    ("losses beyond one example", "brother", "under a penalty", "test_under_a_penalty"),
    ("losses beyond one example", "brother", "inference mode, as the message says", "test_inference_mode"),
    ("losses beyond one example", "brother", "an inner function without its key, and other errors", "test_other_errors"),
]  # fmt: skip

X = np.random.default_rng(0).normal(size=(6, 3))
LINEAR = eqx.nn.Linear(3, 3, key=jax.random.key(0))


class Net(eqx.Module):
    linear: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __call__(self, x, key=None):
        return self.dropout(self.linear(x), key=key)


class Normed(eqx.Module):
    linear: eqx.nn.Linear
    norm: eqx.nn.BatchNorm

    def __call__(self, x, *state):
        return self.norm(self.linear(x), *state)[0]


NET = Net(LINEAR, eqx.nn.Dropout(0.5))
NORMED, STATE = eqx.nn.make_with_state(lambda: Normed(LINEAR, eqx.nn.BatchNorm(3, "batch", mode="ema")))()
BATCH, DROPOUT = r"\w+: .*BatchNorm mixes.*inference_mode", r"\w+: .*dropout needs a key.*random=True.*inference_mode"
AXIS = "NameError: .*psum, pmean and the like need the other examples"
BEYOND = {
    "axis": (lambda net, x: jnp.sum(net(x, jax.tree.map(lambda s: s, STATE)) ** 2), NORMED, BATCH),
    "state": (lambda net, x: jnp.sum(net(x) ** 2), NORMED, BATCH),
    "mean": (lambda net, x: jnp.sum(net(x) - jax.lax.pmean(x, "batch")), LINEAR, AXIS),
    "dropout": (lambda net, x: jnp.sum(net(x) ** 2), NET, DROPOUT),
    "argument": (lambda net, x, key: jnp.sum(net(x) ** 2), LINEAR, DROPOUT),
}


@pytest.mark.parametrize("name", BEYOND)
def test_refused(name):
    loss, params, reason = BEYOND[name]
    for run in (solve, train):
        with pytest.raises(
            ValueError, match=f"^Argument `loss` must be that of one example.*per example, but {reason}"
        ):
            run(SGD(0.1), Objective(loss, X), params, steps=1)


def test_returned_state():
    with pytest.raises(ValueError, match="one real floating-point number.*Losses are per example, and keep no state"):
        Objective(lambda net, x: (jnp.sum(net(x)), x), X).check(LINEAR)


def test_under_a_penalty():
    loss, params, reason = BEYOND["dropout"]
    with pytest.raises(ValueError, match=f"Argument `objective` must be that of one example.*{reason}"):
        regularized(Objective(loss, X), lambda net: 0.0).check(params)


def test_inference_mode():
    still = Objective(BEYOND["dropout"][0], X)
    still.check(eqx.nn.inference_mode(NET))
    normed = Objective(BEYOND["axis"][0], X)
    normed.check(eqx.nn.inference_mode(NORMED))
    linear = jnp.mean(jax.vmap(lambda x: jnp.sum(LINEAR(x) ** 2))(jnp.asarray(X)))
    np.testing.assert_allclose(still.value(eqx.nn.inference_mode(NET)), linear, rtol=1e-12)


def inner(x, key):
    return x


def demanding(x):
    raise ValueError("this table requires a key column")


def test_other_errors():
    with pytest.raises(ValueError, match="Argument `loss` does not fit `params`.*missing 1 required.*'weights'"):
        Objective(lambda net, x, weights: 0.0, X).check(LINEAR)
    for loss in (lambda net, x: inner(x), lambda net, x: demanding(x)):
        with pytest.raises(ValueError, match="Argument `loss` does not fit `params`.*(key'|requires a key)"):
            Objective(loss, X).check(LINEAR)
    with pytest.raises(ValueError, match="Argument `loss` does not fit `params`.*KeyError"):
        Objective(lambda net, x: {}["key"], X).check(LINEAR)

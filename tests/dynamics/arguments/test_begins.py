"""Where a class says that its parameters are elsewhere than where it puts them."""

import jax
import jax.numpy as jnp
import pytest

from dynamics import solve, train
from equations import SGD, Adam, Momentum, Objective
from validation import compare

CASES = [
    ("init and params disagree", "instance", "a pair the wrong way round", "test_refused[pair]"),
    ("init and params disagree", "instance", "init gives twice the parameters", "test_refused[twice]"),
    ("init and params disagree", "brother", "params reads the memory of Adam", "test_refused[memory]"),
    ("init and params disagree", "brother", "params adds to what init keeps", "test_refused[more]"),
    ("init and params disagree", "brother", "the same parameters in another form pass", "test_passes"),
]


class Pair(Momentum):
    def init(self, params):
        return jax.tree.map(jnp.zeros_like, params), params

    def params(self, state):
        return state[0]


class Twice(SGD):
    def init(self, params):
        return 2 * params


class Memory(Adam):
    def params(self, state):
        return state.mu


class More(SGD):
    def params(self, state):
        return state + 1e-3


class There(SGD):
    """A state twice the parameters, which are half of it."""

    def init(self, params):
        return 2 * params

    def params(self, state):
        return state / 2


OBJECTIVE = Objective(lambda w, x: jnp.sum((w - x) ** 2), jnp.arange(4.0))
WRONG = {"pair": Pair, "twice": Twice, "memory": Memory, "more": More}


@pytest.mark.parametrize("name", WRONG)
def test_refused(name):
    kind = WRONG[name]
    for run in (solve, train, compare):
        with pytest.raises(ValueError, match=f"{kind.__name__}.params gives other parameters than"):
            run(kind(0.1), OBJECTIVE, jnp.array(1.0), steps=2)


def test_passes():
    assert solve(There(0.1), OBJECTIVE, jnp.array(1.0), steps=2).ok.all()

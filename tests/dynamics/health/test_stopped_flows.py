"""Stability of flows whose derivatives, as JAX takes them, are those of something else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from warned import solved

from dynamics import Strang
from dynamics._health import health as _health
from equations import SGD, AbstractDynamics, Momentum, Objective

CASES = [
    ("stability of a stopped flow", "instance", "a temporal difference of rate 10", "test_told[solve]"),
    ("stability of a stopped flow", "instance", "the same with 'auto'", "test_auto"),
    ("stability of a stopped flow", "brother", "the flow of a splitting under noise", "test_told[strang]"),
    ("stability of a stopped flow", "brother", "the leapfrog step of momentum", "test_told[leapfrog]"),
    ("stability of a stopped flow", "brother", "a rounded weight by custom_vjp", "test_told[custom_vjp]"),
    ("stability of a stopped flow", "brother", "a dynamics that stops its own gradient", "test_told[dynamics]"),
    ("stability of a stopped flow", "brother", "a target that is stable, and kinks", "test_silent"),
    ("stability of a stopped flow", "brother", "a mutant that trusts JAX's derivative", "test_mutant"),
]

stop = jax.lax.stop_gradient
DATA = np.linspace(-1, 1, 4)
STOPPED = Objective(lambda w, r: 0.5 * (r - 9 * stop(w) - w) ** 2, DATA)
ONE = jnp.ones(())


@jax.custom_vjp
def slowly(w):
    return 10 * w


slowly.defvjp(lambda w: (slowly(w), None), lambda _, error: (error,))  # the rule calls the function again


class Stopping(AbstractDynamics):
    def drift(self, t, y, signal):
        return -9 * stop(y) - y


RUNS = {
    "solve": (SGD(0.5), STOPPED, {}),
    "strang": (SGD(0.5, 1), STOPPED, {"key": jax.random.key(0)}),
    "leapfrog": (Momentum(0.5), STOPPED, {"solver": Strang()}),
    "custom_vjp": (SGD(0.5), Objective(lambda w, r: 0.5 * (r - slowly(w)) ** 2, DATA), {}),
    "dynamics": (Stopping(), None, {"dt": 0.5}),
}


def messages(equation, objective, **settings):
    return solved(equation, objective, ONE, **{"steps": 20, "save_every": 20} | settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_told(name):
    equation, objective, settings = RUNS[name]
    _, said = messages(equation, objective, **settings)
    assert said and "solver is unstable" in said[0], said  # where noise is small only near the mean, that is said too
    if name in ("solve", "dynamics"):
        assert "the stiffest rate is 5," in said[0]


def test_auto():
    found, said = messages(SGD(0.5), STOPPED, substeps="auto")
    assert not said and int(dict(found.details)["substeps"]) == 2 and abs(found.final[0]) < 1e-6


def test_silent():
    """JAX's derivative says -10 where the flow has -1, and the other way round."""
    slow = Objective(lambda w, r: 0.5 * (r + 9 * stop(w) - 10 * w) ** 2 / 10, DATA)
    assert not messages(SGD(3.0), slow)[1]
    kinks = Objective(lambda w, r: jax.nn.relu(w - r) + jax.nn.relu(r - w) + (w - r) ** 2 / 2, DATA)
    assert not messages(SGD(0.4), kinks)[1]


def test_mutant(monkeypatch):
    monkeypatch.setattr(_health, "flow_is_misleading", lambda *args: False)
    assert not messages(SGD(0.5), STOPPED)[1]

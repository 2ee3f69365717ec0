"""Every place of a path that holds what is counted is needed: records, the start, half flows that part."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from schedules import ETA, PIECEWISE, STEPS, STILL, VECTOR, cosine_of, rates_of

from dynamics import solve
from dynamics._paths import path as path_module
from equations import SGD, GradientSplitting, modified, scheduled

CASES = [
    ("held everywhere", "instance", "a record's half flow under a smooth schedule", "test_records_are_held"),
    ("held everywhere", "brother", "a start that counts", "test_the_start_is_held"),
    ("held everywhere", "brother", "a series is not one factor of all rates", "test_a_series_is_not_one_factor"),
]

COSINE = cosine_of(1.0, STEPS)


def ran(rule, objective, start, save_every=2):
    return solve(rule, objective, start, steps=STEPS, save_every=save_every, key=jax.random.key(0),
                 observe={"w": jnp.sum})  # fmt: skip


def test_records_are_held(monkeypatch):
    """exp(-sum of rates) at every record, where half a flow is owing."""
    wanted = np.exp(-np.append(0, np.cumsum(rates_of(COSINE)))[::2])
    rule = scheduled(SGD(ETA, 1), COSINE)
    np.testing.assert_allclose(ran(rule, STILL, jnp.asarray(1.0)).observables["w"][0], wanted, rtol=1e-5)
    held, complete = path_module.held, path_module.Path._complete

    def unheld(self, state, begin, end):
        path_module.held = lambda terms, tau: terms
        try:
            return complete(self, state, begin, end)
        finally:
            path_module.held = held

    monkeypatch.setattr(path_module.Path, "_complete", unheld)
    found = ran(rule, VECTOR, jnp.ones(1)).observables["w"][0]
    assert np.max(np.abs(found / wanted - 1)) > 3e-4


class Halves(SGD):
    """Step k goes 2^-k as far; the first is taken at once. Not held it does not move."""

    _step: Array | None = eqx.field(default=None, kw_only=True)

    def held(self, low, high=None):
        return eqx.tree_at(lambda e: e._step, self, low, is_leaf=lambda leaf: leaf is None)

    def velocity(self, t, state, gradient):
        return -gradient * (0.0 if self._step is None else 0.5 ** self._step.astype(float))

    def splitting(self):
        return StartsAtOnce(self)


class StartsAtOnce(GradientSplitting):
    def start(self, state, signal, noise):
        velocity = self.dynamics.velocity(0.0, state, signal.gradient(state))
        return state + self.dynamics.learning_rate * velocity


def test_the_start_is_held():
    last = ran(Halves(ETA), STILL, jnp.asarray(1.0)).final[0]
    rates = ETA * 0.5 ** np.arange(STEPS)
    wanted = (1 - rates[0]) * np.exp(-rates[1:].sum())
    np.testing.assert_allclose(last, wanted, rtol=1e-8)
    assert abs(np.exp(-rates[1:].sum()) / wanted - 1) > 1e-2  # what a start that is not held would give


def test_a_series_is_not_one_factor(monkeypatch):
    rule, rates = modified(scheduled(SGD(ETA, 1), PIECEWISE)), rates_of(PIECEWISE)
    wanted = np.exp(-np.sum(rates + rates**2 / 2))
    np.testing.assert_allclose(ran(rule, STILL, jnp.asarray(1.0), STEPS).final[0], wanted, rtol=1e-4)
    monkeypatch.setattr(path_module, "scales_all", lambda dynamics, state: True)
    assert abs(ran(rule, VECTOR, jnp.ones(1), STEPS).final[0][0] / wanted - 1) > 1e-3

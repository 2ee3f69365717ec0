"""The doubled map is the algorithm itself, for any twin."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import EQUATIONS

from equations import SGD, Adam, Momentum, Objective, RodFlow, RodState, decayed, from_optax, scheduled
from equations.internal import TwinState, add_scaled

DATA = jnp.linspace(-1.0, 1.0, 6)
OBJECTIVE = Objective(lambda w, e: jnp.sum(jnp.cos(w + e)) + 0.1 * jnp.sum(w**4), DATA)
RULES = {
    "sgd": SGD(0.3),
    "heavy ball": Momentum(0.1, momentum=0.7),
    "nesterov": Momentum(0.1, momentum=0.7, nesterov=True),
    "adam": Adam(0.1),
    "decayed": decayed(SGD(0.2), 0.3),
    "scheduled": scheduled(SGD(0.2), optax.cosine_decay_schedule(1.0, 20)),
    "optax": from_optax(lambda learning_rate: optax.rmsprop(learning_rate, momentum=0.5, initial_scale=1.0), 0.1),
}


def state_of(rod, key):
    """A center with a positive memory, and a rod of parameters and memory that leaves it so."""
    center = rod.equation.init(jnp.array([0.4, -0.7, 0.2]))
    averages = rod.equation.averages(center.params)

    def moved(leaf, average, scale, place):
        noise = jax.random.uniform(jax.random.fold_in(key, place), leaf.shape, leaf.dtype)
        return leaf + scale * (0.5 + noise) if average else leaf * 0

    def filled(scale, base):
        leaves, treedef = jax.tree.flatten(center)
        marks = jax.tree.leaves(averages)
        return jax.tree.unflatten(
            treedef, [moved(base(x), m, scale, i) for i, (x, m) in enumerate(zip(leaves, marks, strict=True))]
        )

    return RodState(filled(0.5, lambda x: x), filled(0.1, jnp.zeros_like))


def step_of(rod, state):
    """One step of the twin."""
    increment = rod.equation
    rate = increment.velocity(jnp.zeros(()), state, rod.gradient_of(OBJECTIVE, state))
    return add_scaled(state, (increment.learning_rate, rate))


def distance(rod, state):
    """Of both iterates that one Euler step of the flow tells from those of the twin."""
    eta, rates = rod.learning_rate, rod.drift(jnp.zeros(()), state, OBJECTIVE)
    new = add_scaled(state, (eta, rates))
    off = 0.0
    for sign in (1.0, -1.0):
        there = step_of(rod, add_scaled(state.center, (sign, state.rod)))
        ours = add_scaled(new.center, (-sign, new.rod))
        off = max(
            off,
            *(
                float(jnp.max(jnp.abs(a - b)))
                for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(ours), strict=True)
            ),
        )
    return off


class Centered(RodFlow):
    """The gradient at the center only."""

    def doubled(self, t, state, signal):
        rates = super().doubled(t, state, signal)
        return RodState(self.rate(t, state.center, signal), rates.rod)


class Turned(RodFlow):
    """+s' in place of -s'."""

    def doubled(self, t, state, signal):
        rates = super().doubled(t, state, signal)
        eta = self.learning_rate
        return RodState(rates.center, jax.tree.map(lambda s, r: -(r + 2 * s / eta), state.rod, rates.rod))


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_one_euler_step_is_the_algorithm(name, key):
    rod = RodFlow(RULES[name], seed_scale=0)
    assert distance(rod, state_of(rod, key)) < 1e-12


@pytest.mark.parametrize("mutant", [Centered, Turned])
def test_mutants_are_not(mutant, key):
    rod = mutant(RULES["heavy ball"], seed_scale=0)
    assert distance(rod, state_of(rod, key)) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, e in EQUATIONS.items() if e.equation.series().maker is None])
def test_of_every_algorithm(name, key):
    equation = EQUATIONS[name].equation
    rod = RodFlow(dataclasses.replace(equation, batch_size=None), seed_scale=0)
    assert distance(rod, state_of(rod, key)) < 1e-10


def test_without_a_seed_nothing_alternates_and_the_flow_is_that_of_the_increments():
    rod = RodFlow(SGD(0.3), seed_scale=0)
    state = rod.init(jnp.array([0.4, -0.7, 0.2]))
    rates = rod.drift(jnp.zeros(()), state, OBJECTIVE)
    np.testing.assert_allclose(rates.center.params, -OBJECTIVE.gradient(state.center.params), atol=1e-7)
    assert not np.any(np.asarray(rates.rod.params)) and not rod.random
    assert isinstance(state.center, TwinState)


@pytest.mark.slow
def test_a_tiny_rod_keeps_the_digits_of_its_growth():
    """The difference of the gradients at both ends of a rod of 1e-14 has two digits; the secant further out has all."""
    rod, center = RodFlow(SGD(0.3)), jnp.array([0.4, -0.7, 0.2])
    hessian = jax.jacfwd(OBJECTIVE.gradient)(center)
    direction = jnp.array([0.6, 0.0, 0.8])
    begin = rod.init(center)
    state = RodState(begin.center, TwinState(1e-14 * direction, begin.rod.memory))
    rate = rod.drift(jnp.zeros(()), state, OBJECTIVE).rod.params
    np.testing.assert_allclose(rate / 1e-14, hessian @ direction - 2 * direction / 0.3, rtol=1e-7)

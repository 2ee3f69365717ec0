"""A velocity runs, as Python, a few times in a first call and never in a warm one; what follows of it is decided once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import equations._base
import equations._forwarder
import equations._velocity
from dynamics import solve, train
from equations import SAM, AbstractEquation, AbstractSeveralGradients, Adam, Objective, decayed, modified, scheduled
from equations.internal import velocity_of
from validation import compare, irreversibility, orders

CASES = [
    ("runs of a velocity", "instance", "an affine rule without noise", "test_runs_of_a_velocity[affine-quiet]"),
    ("runs of a velocity", "instance", "an affine rule with noise", "test_runs_of_a_velocity[affine-noisy]"),
    ("runs of a velocity", "instance", "a nonlinear rule without noise", "test_runs_of_a_velocity[nonlinear-quiet]"),
    ("runs of a velocity", "instance", "a nonlinear rule with noise", "test_runs_of_a_velocity[nonlinear-noisy]"),
    ("runs of a velocity", "brother", "of several gradients", "test_runs_of_a_velocity[several-noisy]"),
    ("runs of a velocity", "brother", "inside a schedule", "test_runs_of_a_velocity[scheduled-noisy]"),
    ("runs of a velocity", "instance", "by `irreversibility`", "test_other_doors[irreversibility-affine-noisy]"),
    ("runs of a velocity", "brother", "by that of a wrapper", "test_other_doors[irreversibility-scheduled-noisy]"),
    ("runs of a velocity", "brother", "by `orders` with exact moments", "test_other_doors[orders-affine-noisy]"),
    ("runs of a velocity", "brother", "by `orders` without noise", "test_other_doors[orders-nonlinear-quiet]"),
    ("runs of a velocity", "brother", "by a series over epochs", "test_epochs_of_a_modified_rule"),
    ("runs of a velocity", "brother", "in two wrappers, once for both", "test_a_rule_in_two_wrappers"),
    ("runs of a velocity", "brother", "a forwarder that asks the rule itself", "test_mutant_of_a_forwarder"),
    ("runs of a velocity", "brother", "by `train`, which has no use for it", "test_train_does_not_run_it"),
    ("runs of a velocity", "brother", "a mutant that asks the rule itself", "test_mutant_that_asks_the_rule"),
    ("facts decided once", "instance", "affinity in `compare`, and so in `solve`", "test_compare_decides_once"),
    ("facts decided once", "brother", "under `modified`, of rule and twin", "test_modified_decides_of_both"),
    ("facts decided once", "brother", "another learning rate is no other rule", "test_another_number[rate]"),
    ("facts decided once", "brother", "what an observable returns", "test_an_observable_is_not_traced_again"),
    ("facts decided once", "brother", "another number of steps is no other rule", "test_another_number[steps]"),
]

DATA = np.random.default_rng(0).normal(size=(6, 2))
OBSERVE = {"w": lambda w: w[0]}


def counted(kind):
    """An equation of a class made for the call, of which nothing is remembered, and its count."""
    runs = []

    class Affine(AbstractEquation):
        def velocity(self, t, state, gradient):
            runs.append(t)
            return jax.tree.map(lambda g: -2.0 * g, gradient)

        def twin(self):
            return optax.sgd(2.0 * self.learning_rate)

    class Nonlinear(Adam):
        def velocity(self, t, state, gradient):
            runs.append(t)
            return super().velocity(t, state, gradient)

    class Several(AbstractSeveralGradients):
        def velocity(self, t, state, gradient):
            runs.append(t)
            return jax.tree.map(jnp.negative, gradient(jax.tree.map(jnp.add, state, gradient(state))))

        def twin(self):
            return SAM(self.learning_rate, rho=1.0, normalized=False).twin()

    rule, noise = kind.split("-")
    batch_size = 3 if noise == "noisy" else None
    equation = {"nonlinear": Nonlinear, "several": Several}.get(rule, Affine)(0.02, batch_size)
    return scheduled(equation, optax.cosine_decay_schedule(1.0, 8)) if rule == "scheduled" else equation, runs


def run(door, equation, loss, steps=4):
    more = {"steps": steps, "save_every": 4, "observe": OBSERVE} | ({"paths": 4} if door is compare else {})
    if door is irreversibility:
        more = {"probes": 2}
    elif door is orders:
        more = {"time": 0.08, "learning_rates": [0.02, 0.01, 0.005], "observe": OBSERVE}
    return door(equation, Objective(loss, DATA), jnp.ones(2), key=jax.random.key(0), **more)


def count(door, equation, runs):
    """Runs of the velocity in a first call and in the second, of a loss made for these."""
    found = []

    def loss(w, x):
        return 0.5 * jnp.sum((w - x) ** 2)

    for _ in range(2):
        runs.clear()
        run(door, equation, loss)
        found.append(len(runs))
    return found


@pytest.mark.parametrize(
    "kind",
    ["affine-quiet", "affine-noisy", "nonlinear-quiet", "nonlinear-noisy", "scheduled-noisy", "several-noisy"],
)
def test_runs_of_a_velocity(kind):
    first, warm = count(solve, *counted(kind))
    assert 1 <= first <= 4 and warm == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("door", "kind"),
    [
        (irreversibility, "affine-noisy"),
        pytest.param(irreversibility, "scheduled-noisy", marks=pytest.mark.slow),
        (orders, "affine-noisy"),
        (orders, "nonlinear-quiet"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_other_doors(door, kind):
    first, warm = count(door, *counted(kind))
    assert 1 <= first <= 4 and warm == 0


def test_epochs_of_a_modified_rule():
    equation, runs = counted("affine-noisy")
    shuffled = dataclasses.replace(equation, sampling="shuffled")
    assert 1 <= count(solve, modified(shuffled, order=2), runs)[0] <= 4


def wrapped_twice():
    """Runs of one rule by the velocity of a schedule around it, and then by that of a decay."""
    equation, runs = counted("affine-noisy")
    found = []
    for wrapped in (scheduled(equation, optax.cosine_decay_schedule(1.0, 8)), decayed(equation, 0.1)):
        runs.clear()
        jax.eval_shape(lambda y, e=wrapped: velocity_of(e, 0.0, y, y), jnp.ones(2))
        found.append(len(runs))
    return found


def test_a_rule_in_two_wrappers():
    assert wrapped_twice() == [1, 0]


def test_mutant_of_a_forwarder(monkeypatch):
    monkeypatch.setattr(equations._forwarder, "velocity_of", lambda equation, *args: equation.velocity(*args))
    assert wrapped_twice() == [1, 1]


@pytest.mark.parametrize("door", [solve, train])
def test_an_observable_is_not_traced_again(door):
    """Nor that of an Equinox module, whose bound method is another object in every call."""
    traces, loss = [], lambda w, x: traces.append(1) or 0.5 * jnp.sum((w - x) ** 2)
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), DATA)
    for _ in range(2):
        traces.clear()
        observe = {"loss": Objective(loss, DATA + len(traces)).value, **OBSERVE}
        door(Adam(0.02, 3), objective, jnp.ones(2), steps=4, save_every=4, key=jax.random.key(0), observe=observe)
    assert not traces


def test_train_does_not_run_it():
    assert max(count(train, *counted("affine-noisy"))) <= 1  # for a word on its affinity


def test_mutant_that_asks_the_rule(monkeypatch):
    for module in (equations._base, equations._splitting):
        monkeypatch.setattr(module, "velocity_of", lambda equation, *args: equation.velocity(*args))
    assert count(solve, *counted("affine-noisy"))[0] > 4


def test_compare_decides_once(monkeypatch):
    decided, is_affine = [], equations._velocity.is_affine

    def decide(*args):
        decided.append(args)
        return is_affine(*args)

    monkeypatch.setattr(equations._velocity, "is_affine", decide)
    first, warm = count(compare, *counted("affine-noisy"))
    assert 1 <= first <= 4 and warm == 0
    assert len(decided) == 1


def test_modified_decides_of_both(monkeypatch):
    """Wherever the counts of the twin are held."""
    decided, is_affine = [], equations._velocity.is_affine
    monkeypatch.setattr(equations._velocity, "is_affine", lambda *args: decided.append(args) or is_affine(*args))
    equation, _ = counted("affine-noisy")
    run(solve, modified(equation, order=2), loss)
    assert len(decided) == 2


def loss(w, x):
    return 0.5 * jnp.sum((w - x) ** 2)


@pytest.mark.parametrize("other", ["rate", "steps"])
def test_another_number(other):
    equation, runs = counted("affine-noisy")
    run(solve, equation, loss)
    runs.clear()
    run(solve, type(equation)(0.04 if other == "rate" else 0.02, 3), loss, 8 if other == "steps" else 4)
    assert not runs

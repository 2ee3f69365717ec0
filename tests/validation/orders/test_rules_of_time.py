"""An order sweep by sampling takes rules of the user's that read their time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics.internal import Method
from equations import AbstractEquation, Adam, Objective, decayed, modified
from validation import orders
from validation._orders import sampling

CASES = [
    ("a rule that reads its time", "instance", "Adam with an own velocity", "test_sampled[velocity]"),
    ("a rule that reads its time", "brother", "Adam with an own drift", "test_sampled[drift]"),
    ("a rule that reads its time", "brother", "an own rule with exp(-t)", "test_sampled[own]"),
    ("a rule that reads its time", "brother", "the same to the end", "test_an_own_rule"),
    ("a rule that reads its time", "brother", "the same modified", "test_sampled[modified]"),
    ("a rule that reads its time", "brother", "the same under weight decay", "test_sampled[decayed]"),
    ("a rule that reads its time", "brother", "one that jumps, of which is told", "test_a_jump_is_told"),
    ("a rule that reads its time", "brother", "the length of the sweep is handed down", "test_the_schedule_is_known"),
    ("a rule that reads its time", "brother", "a mutant without a schedule", "test_mutant"),
]  # fmt: skip
DATA = np.array([[-1.0], [1.0]])
OBJECTIVE = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2) + 0.1 * jnp.sum(w**4), DATA)
RUN = dict(time=0.08, learning_rates=[0.04, 0.02, 0.01], key=jax.random.key(0), paths=4)


class OfTime(AbstractEquation):
    """Gradient descent that slows down."""

    def factor(self, t):
        return jnp.exp(-t)

    def velocity(self, t, state, gradient):
        return -self.factor(t) * gradient

    def twin(self):
        return optax.chain(
            optax.sgd(self.learning_rate), optax.scale_by_schedule(lambda step: self.factor(step * self.learning_rate))
        )


class Jumping(OfTime):
    def factor(self, t):
        return jnp.where(t < 0.06, 1.0, 0.1)


class OwnVelocity(Adam):
    def velocity(self, t, state, gradient):
        return super().velocity(t, state, gradient)


class OwnDrift(Adam):
    def drift(self, t, state, signal):
        return super().drift(t, state, signal)


RULES = {
    "velocity": OwnVelocity(0.04, 1),
    "drift": OwnDrift(0.04, 1),
    "own": OfTime(0.04, 1),
    "modified": modified(OfTime(0.04, 1)),
    "decayed": decayed(OfTime(0.04, 1), 0.1),
}


class ReachedError(Exception):
    """The sweep has begun."""


def begun(monkeypatch, equation, **run):
    def reached(*args, **options):
        raise ReachedError

    monkeypatch.setattr(sampling, "ensemble", reached)
    with pytest.raises(ReachedError):
        orders(equation, OBJECTIVE, jnp.ones(1), **RUN | run)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_sampled(name, monkeypatch):
    begun(monkeypatch, RULES[name])


def test_an_own_rule():
    """To the end of the sweep."""
    report = orders(OfTime(0.04, 1), OBJECTIVE, jnp.ones(1), **RUN)
    assert report.method.startswith("sampling") and np.all(report.failed == 0)
    assert all(np.all(np.isfinite(sweep.errors.value)) for sweep in report.sweeps["parameters"].values())


def test_a_jump_is_told(monkeypatch):
    """Within the run, whose length is that of the sweep: at 0.06 of 0.08, in steps of 0.01."""
    with pytest.warns(UserWarning, match="Jumping.velocity jumps in time, first with training step 6"):
        begun(monkeypatch, Jumping(0.01, 1), learning_rates=[0.01, 0.005, 0.0025])
    begun(monkeypatch, Jumping(0.01, 1), learning_rates=[0.01, 0.005, 0.0025], time=0.05)


def test_the_schedule_is_known(monkeypatch):
    """At the first learning rate of the sweep, with the steps of the transient."""
    problems, make = [], Method.of

    def of(problem, *args, **options):
        problems.append(problem)
        return make(problem, *args, **options)

    monkeypatch.setattr(Method, "of", of)
    begun(monkeypatch, OfTime(0.02, 1), transient=0.04)
    (problem,) = problems
    np.testing.assert_allclose([problem.dt, problem.equation.learning_rate], 0.04)
    assert problem.steps == 3


def test_mutant(monkeypatch):
    """A problem without a schedule, as it comes from the check of the arguments."""
    monkeypatch.setattr(sampling, "_at", lambda sides, equation, steps: sides.problem)
    with pytest.raises(TypeError, match="not 'NoneType'"):
        orders(OfTime(0.04, 1), OBJECTIVE, jnp.ones(1), **RUN)

"""A velocity of one's own that counts training steps by itself is told of; one that is smooth in time is not."""

import jax.numpy as jnp
import pytest

from dynamics import solve
from dynamics._arguments.jumps import _first_jump
from equations import SGD, Objective, decayed

CASES = [
    ("own count", "instance", "velocity -where(t/eta < 4, 1, .1) g, read at .8629 and .8000", "test_a_jump[Stairs-4]"),
    ("own count", "brother", "a floor of the time, inside a wrapper", "test_a_jump[Floors-3]"),
    ("own count", "brother", "a smooth velocity", "test_smooth_in_time"),
]

OBJECTIVE = Objective(lambda w, e: 0.5 * jnp.sum((w - e) ** 2), jnp.array([1.0, -1.0]))


class Stairs(SGD):
    def velocity(self, t, state, gradient):
        return -jnp.where(t / self.learning_rate < 4, 1.0, 0.1) * gradient


class Floors(SGD):
    def velocity(self, t, state, gradient):
        return -gradient / (1 + jnp.floor(t / (3 * self.learning_rate)))


class Smooth(SGD):
    def velocity(self, t, state, gradient):
        return -jnp.cos(40 * t) * gradient


@pytest.mark.parametrize(("kind", "first"), [(Stairs, 4), (Floors, 3)], ids=["Stairs-4", "Floors-3"])
def test_a_jump(kind, first):
    equation = kind(0.05) if kind is Stairs else decayed(kind(0.05), 0.1)
    with pytest.warns(UserWarning, match=f"{kind.__name__}.velocity jumps in time, first with training step {first}"):
        solve(equation, OBJECTIVE, jnp.ones(1), steps=12, save_every=12)


def test_smooth_in_time():
    """None is told of; the same in steps, a mutant of it, is."""
    assert _first_jump(Smooth(0.05), jnp.ones(1), 100) is None
    assert _first_jump(Stairs(0.05), jnp.ones(1), 100) == 4

"""Empty tuples, which the loops of Diffrax's solvers cannot carry, are refused by name; and an equation of which no path is
left says so."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import solve, train
from equations import SGD, Objective, from_optax

CASES = [
    ("an empty tuple", "instance", "in the parameters", "test_refused[parameters]"),
    ("an empty tuple", "brother", "deep in the parameters, with noise", "test_refused[deep]"),
    ("an empty tuple", "brother", "as the memory of an optimizer", "test_refused[memory]"),
    ("an empty tuple", "brother", "other empty containers pass", "test_passes"),
    ("no path is left", "instance", "NovoGrad at its minimum", "test_no_path_is_left[novograd]"),
    ("no path is left", "brother", "gradient flow over a cliff", "test_no_path_is_left[cliff]"),
    ("no path is left", "brother", "every one of several noisy paths", "test_no_path_is_left[noisy]"),
    ("no path is left", "brother", "where the algorithm goes on", "test_the_algorithm_goes_on"),
]

EXAMPLES = jnp.array([1.0, -1.0])
OBJECTIVE = Objective(lambda p, e: (p["w"] - e) ** 2 / 2, EXAMPLES)


def stateless(learning_rate):
    return optax.GradientTransformation(
        lambda params: (), lambda g, state, params=None: (jax.tree.map(lambda x: -learning_rate * x, g), state)
    )


@pytest.mark.parametrize(
    "equation, params, words",
    [
        (SGD(0.02), {"w": jnp.array(1.0), "x": ()}, r"`params` .* they have one at `\['x'\]`"),
        (
            SGD(0.02, 1),
            {"w": jnp.array(1.0), "x": [(), jnp.array(2.0)]},
            r"`params` .* they have one at `\['x'\]\[0\]`",
        ),
        (from_optax(stateless, learning_rate=0.02), {"w": jnp.array(1.0)}, "`equation` .* its state has one"),
    ],
    ids=["parameters", "deep", "memory"],
)
def test_refused(equation, params, words):
    with pytest.raises(ValueError, match=f"Argument {words}"):
        solve(equation, OBJECTIVE, params, steps=3, key=jax.random.key(0) if equation.batch_size else None)


class Nothing(NamedTuple):
    pass


def test_passes():
    params = {"w": jnp.array(1.0), "x": [], "y": {}, "z": None, "n": Nothing()}
    found = solve(SGD(0.02), OBJECTIVE, params, steps=3).final["w"]
    np.testing.assert_allclose(found, np.exp(-0.06), rtol=1e-6)


CLIFF = Objective(lambda w, e: -(w**4) / 4 + 0 * e, EXAMPLES)
BOWL = Objective(lambda w, e: jnp.sum(jnp.array([1.0, 2.0, 0.5]) * (w - e) ** 2) / 2, jnp.zeros((2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "equation, objective, params, steps",
    [
        (from_optax(optax.novograd, learning_rate=0.02), BOWL, jnp.array([0.5, -0.5, 1.0]), 60),
        (SGD(0.1), CLIFF, jnp.array(2.0), 20),
        (SGD(0.1, 1), CLIFF, jnp.array(2.0), 20),
    ],
    ids=["novograd", "cliff", "noisy"],
)
def test_no_path_is_left(equation, objective, params, steps):
    noisy = equation.batch_size is not None
    with pytest.warns(UserWarning, match="All paths of the equation of .* failed, the first in training step"):
        found = solve(equation, objective, params, steps=steps, key=jax.random.key(0), paths=3 if noisy else 1)
    assert not np.any(found.ok)


def test_the_algorithm_goes_on():
    run = train(from_optax(optax.novograd, learning_rate=0.02), BOWL, jnp.array([0.5, -0.5, 1.0]), steps=60)
    assert np.all(run.ok)

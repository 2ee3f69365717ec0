"""Roots of a mean of squares less the square of the mean, which in parts of a step may fall below 0."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import solve, train
from equations import Objective, from_optax
from equations._jaxpr.roots import with_safe_roots

CASES = [
    ("moments about a mean by a difference", "instance", "rmsprop(centered=True), 2.7 % lost", "test_keeps_paths[rmsprop]"),
    ("moments about a mean by a difference", "brother", "a rule of one's own with sqrt", "test_keeps_paths[own]"),
    ("moments about a mean by a difference", "brother", "four substeps, 5 % lost", "test_keeps_paths[parts]"),
    ("moments about a mean by a difference", "brother", "a negative second moment stays NaN", "test_what_is_a_variance"),
]  # fmt: skip

key = jax.random.key
X = jax.random.normal(key(1), (40, 3))
Y = X @ jnp.array([1.0, -0.5, 0.2]) + 0.5 * jax.random.normal(key(2), (40,))
OBJECTIVE = Objective(lambda w, e: 0.5 * (jnp.dot(e[0], w) - e[1]) ** 2, (X, Y))


def own(learning_rate):
    """The same by hand, on one array."""

    def update(gradient, state, params=None):
        mean, square = 0.9 * state[0] + 0.1 * gradient, 0.9 * state[1] + 0.1 * gradient**2
        return -learning_rate * gradient / (jnp.sqrt(square - mean * mean) + 1e-4), (mean, square)

    return optax.GradientTransformation(lambda params: (jnp.zeros_like(params), jnp.zeros_like(params)), update)


def centered(learning_rate):
    return optax.rmsprop(learning_rate, decay=0.9, centered=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "parts"),
    [(centered, 1), (own, 1), (centered, 4)],
    ids=["rmsprop", "own", "parts"],
)
@pytest.mark.filterwarnings("ignore:The noise of a solver's step")
def test_keeps_paths(factory, parts):
    """And their mean is as near to the algorithm as the model is; .229 for .245."""
    given = (from_optax(factory, 0.01, 2), OBJECTIVE, jnp.zeros(3))
    run = solve(*given, steps=20, save_every=20, key=key(0), paths=512, substeps=parts)
    assert run.ok.all()
    twin = train(*given, steps=20, save_every=20, key=key(0), paths=512).final.mean(0)
    np.testing.assert_allclose(run.final.mean(0), twin, atol=0.03)


def test_what_is_a_variance():
    """A mutant of it: a second moment alone, whose root is not believed below 0."""
    root = lambda square, mean: jnp.sqrt(square - mean**2 + 1e-8)  # noqa: E731
    square, mean = jnp.asarray([1.25, 0.75]), jnp.ones(2)
    np.testing.assert_allclose(with_safe_roots(root, square, mean), [0.5, 0.5], rtol=1e-6)
    assert jnp.isnan(with_safe_roots(lambda square, mean: jnp.sqrt(square - mean), square, mean)[1])
    assert jnp.isnan(with_safe_roots(jax.lax.rsqrt, -square)).all()

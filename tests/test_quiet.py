"""No equation that is registered warns where it is right: what says something wrong is not believed where it is right."""

import warnings

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from marks import some
from registry import EQUATIONS, WITHOUT_SERIES

from dynamics import solve, train
from dynamics._health.strong_noise import LARGEST, changes
from equations import AbstractDynamics, Objective, modified
from equations.internal import split

CASES = [
    ("a false alarm", "brother", "every registered equation on a network, float32, solve and train", "test_networks"),
    ("a false alarm", "brother", "every registered equation with a series, modified", "test_modified"),
    ("a false alarm", "brother", "every registered equation on a quadratic, float64", "test_quadratics"),
    ("a false alarm", "brother", "a warning somewhere in a run", "test_a_warning_is_an_error"),
    ("a false alarm", "brother", "LaProp's kicks of parameters, which are rounding", "test_kicks_of_rounding"),
]
RNG = np.random.default_rng(0)
POINTS, VALUES = RNG.standard_normal((8, 2)), RNG.standard_normal(8)
WEIGHTS = {"inner": RNG.standard_normal((3, 2)), "outer": RNG.standard_normal(3) / 3**0.5}
FEW = ("momentum",)  # in test_laws SGD runs in float32, and all of them in float64
PLAIN = [name for name, entry in EQUATIONS.items() if split(entry.equation).smooth and name not in WITHOUT_SERIES]


def squared(w, e):
    return jnp.square(w["outer"] @ jnp.tanh(w["inner"] @ e[0]) - e[1]) / 2


def quadratic(w, e):
    return jnp.sum(jnp.square(w - e)) / 2


def quiet(side, equation, objective, params):
    """A short run in which a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = side(equation, objective, params, steps=4, save_every=4, key=jax.random.key(0))
    assert run.ok.all()


def network():
    """In float32."""
    single = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)  # noqa: E731
    return Objective(squared, single((POINTS, VALUES))), single(WEIGHTS)


@pytest.mark.parametrize("name", some(EQUATIONS, FEW))
def test_networks(name):
    for side in (solve, train):
        quiet(side, EQUATIONS[name].equation, *network())


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_modified(name):
    quiet(solve, modified(EQUATIONS[name].equation), *network())


@pytest.mark.slow
@pytest.mark.parametrize("name", EQUATIONS)
def test_quadratics(name):
    quiet(solve, EQUATIONS[name].equation, Objective(quadratic, POINTS[:4]), jnp.ones(2))


@pytest.mark.slow
def test_a_warning_is_an_error():
    with pytest.raises(UserWarning, match="substeps"):
        quiet(
            solve,
            EQUATIONS["sgd"].equation.scaling_limit().rescaled(60.0),
            Objective(quadratic, POINTS[:4]),
            jnp.ones(2),
        )


class Ripples(AbstractDynamics):
    """Noise that another kick changes altogether, however small it is."""

    size: float

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(self.size * jnp.cos(4 * state / self.size))


def test_kicks_of_rounding():
    """A kick below the last place of what it moves moves nothing; one above, a mutant of it, does."""
    found = [changes(Ripples(size), None, jnp.zeros(()), jnp.ones(3), jnp.ones(()))[0][0] for size in (1e-17, 1e-3)]
    assert found[0] == 0 and found[1] > LARGEST

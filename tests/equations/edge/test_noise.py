"""Minibatch noise beside the alternation: the stationary variance of training, for all curvatures up to the edge."""

import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve
from equations import SGD, Adam, EdgeFlow, Momentum, Objective, RodFlow
from equations._edge.rod_flow import RodSplitting

ETA, SPREAD = 0.5, 1.0
CURVATURES = np.array([0.2, 1.0, 2.0, 3.0, 3.6])  # eta lambda from .1 to 1.8


def loss(w, e):
    return jnp.sum(jnp.asarray(CURVATURES) * w**2 / 2 - e * w)


OBJECTIVE = Objective(loss, SPREAD * jnp.array([[1.0] * 5, [-1.0] * 5]))
EXACT = ETA**2 * SPREAD**2 / (1 - (1 - ETA * CURVATURES) ** 2)


def variance(rod, key):
    """Of center and alternation together, with its standard error over paths."""
    observe = {"square": lambda w, s: s.center.params**2 + s.rod.params**2}
    run = solve(rod, OBJECTIVE, jnp.zeros(5), steps=200, key=key, paths=64, observe=observe, save_every=5, substeps=8)
    paths = np.asarray(run.observables["square"])[:, 10:].mean(axis=1)
    return paths.mean(axis=0), paths.std(axis=0, ddof=1) / 8


class Half(RodFlow):
    """The noise parted in two halves, as that of a single step of the doubled map is."""

    def splitting(self):
        return _HalfSplitting(self, substeps=4)


class _HalfSplitting(RodSplitting):
    def kick(self, t, state, signal, noise, dt):
        kick = super().kick(t, state, signal, noise, dt)
        return type(kick)(*(type(part)(part.params / 2**0.5, part.memory) for part in (kick.center, kick.rod)))


@pytest.mark.slow
def test_the_variance_is_that_of_training(key):
    value, error = variance(RodFlow(SGD(ETA, batch_size=1)), key)
    assert np.all(np.abs(value - EXACT) < 4 * error)
    assert np.all(error < 0.12 * EXACT)


def test_half_of_the_noise_is_rejected(key):
    value, error = variance(Half(SGD(ETA, batch_size=1)), key)
    assert np.all(np.abs(value - EXACT) > 4 * error)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: RodFlow(Adam(0.01, batch_size=1)), "Argument `batch_size` must be None"),
        (lambda: EdgeFlow(SGD(0.1, batch_size=1)), "Argument `batch_size` must be None for an EdgeFlow"),
        (lambda: EdgeFlow(Momentum(0.1)), "Argument `equation` must be gradient descent"),
    ],
)
def test_what_has_no_noise_is_refused(make, words, key):
    with pytest.raises(ValueError, match=words):
        solve(make(), OBJECTIVE, jnp.zeros(5), steps=2, key=key, observe={})

"""Clipping of a batch's own gradient by its global norm: the equation has the mean of what is clipped, under the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import solve, train
from equations import Objective, from_optax

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
OBJECTIVE = Objective(lambda w, e: 0.5 * (e[0] @ w - e[1]) ** 2, (X, X @ np.ones(3) + 2 * RNG.normal(size=20)))


def clipping(learning_rate):
    return optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(learning_rate))


def moments(run, batch_size, paths, **options):
    equation = from_optax(clipping, learning_rate=0.05, batch_size=batch_size)
    report = run(equation, OBJECTIVE, jnp.zeros(3), steps=10, save_every=10, paths=paths, **options)
    final = np.asarray(report.final)
    squares = (final - final.mean(0)) ** 2
    return [(sample.mean(0), sample.std(0) / paths**0.5) for sample in (final, squares)]


def off(one, other):
    """The largest difference, in standard errors of it."""
    return np.max(np.abs(one[0] - other[0]) / np.hypot(one[1], other[1]))


@pytest.mark.slow
def test_the_mean_is_that_under_the_noise():
    """Within the model error of a run of 10 steps, here below the sampling error; the clipped mean gradient is far off."""
    equation, algorithm = (
        moments(run, 2, 2048, key=jax.random.key(seed), **options)
        for seed, (run, options) in enumerate([(solve, {}), (train, {"noise": "gaussian"})])
    )
    assert all(off(*pair) < 4 for pair in zip(equation, algorithm, strict=True))
    mutant = moments(solve, None, 2)[0]
    assert off(mutant, algorithm[0]) > 20


@pytest.mark.slow
def test_half_a_step_at_a_time():
    """Two draws of a kick have the moments of one."""
    whole, halves = (moments(solve, 2, 65536, key=jax.random.key(0), substeps=n) for n in (1, 2))
    assert all(off(*pair) < 4 for pair in zip(whole, halves, strict=True))

"""Strong noise in rules that divide by the root of a second moment, or take a sign."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some

from dynamics import solve
from dynamics._health import pair
from dynamics._health.reach import begins_regular
from equations import AdaGrad, Adam, AdamW, Lion, Objective, RMSProp, SignSGD, from_optax, scheduled
from equations.internal import split

CASES = [
    ("noise through a first moment", "instance", "Adam without a first moment, single examples", "test_told[adam]"),
    ("noise through a first moment", "brother", "AdamW", "test_told[adamw]"),
    ("noise through a first moment", "brother", "under a schedule", "test_told[scheduled]"),
    ("noise through a first moment", "brother", "far from finer steps", "test_far_from_finer_steps"),
    ("noise at the start of a rule with a memory", "instance", "AdaGrad at a saddle", "test_told[adagrad]"),
    ("noise at the start of a rule with a memory", "brother", "RMSProp from a second moment", "test_told[rmsprop]"),
    ("noise at the start of a rule with a memory", "brother", "a look at the end alone", "test_the_end_is_too_late"),
    ("noise that a bounded step averages", "brother", "Adam of a long memory", "test_passes[adam]"),
    ("noise that a bounded step averages", "brother", "SignSGD", "test_passes[sign]"),
    ("noise that a bounded step averages", "brother", "Lion", "test_passes[lion]"),
    ("noise that a bounded step averages", "brother", "an accumulator that is large", "test_passes[adagrad]"),
    ("noise that a bounded step averages", "brother", "near finer steps", "test_near_finer_steps"),
    ("noise after a first step from no memory", "brother", "Adam from Optax", "test_an_empty_memory_is_no_start"),
]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((16, 2)) * np.array([1, 0.5])
ROOT = RNG.standard_normal(2)
COMMON = Objective(lambda w, e: (e @ (w - ROOT)) ** 2 / 2, X)  # every example is zero at the root
SADDLE = Objective(lambda w, e: (3 * e - 1) * jnp.sum(w**2) / 2, np.resize([1.0, -1.0], 16))
NEAR, SMALL = jnp.asarray(ROOT) + 1, jnp.full(1, 0.1)
LONG = Adam(0.5, 1, b2=0.9)
TOLD = {
    "adam": (Adam(0.5, 1, b1=0.0, b2=0.99), COMMON, NEAR, "end"),
    "adamw": (AdamW(0.5, 1, b1=0.0, b2=0.99, weight_decay=0.01), COMMON, NEAR, "end"),
    "scheduled": (scheduled(Adam(1.0, 1, b1=0.0, b2=0.99), lambda step: 0.5 + 0 * step), COMMON, NEAR, "end"),
    "adagrad": (AdaGrad(0.5, 1), SADDLE, SMALL, "start"),
    "rmsprop": (RMSProp(0.5, 1, initial_scale=1.0), SADDLE, SMALL, "start"),
}
PASSES = {
    "adam": (LONG, SADDLE, SMALL),
    "sign": (SignSGD(0.5, 1), SADDLE, SMALL),
    "lion": (Lion(0.5, 1), SADDLE, SMALL),
    "adagrad": (AdaGrad(0.05, 1, initial_accumulator_value=10.0), COMMON, NEAR),
}


def run(equation, objective, params, key, paths=100, substeps=1):
    """The squares of the distances at the end, and the messages."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = solve(
            equation, objective, params, steps=60, save_every=60, key=key, paths=paths, substeps=substeps
        ).final  # fmt: skip
    root = jnp.asarray(ROOT) if objective is COMMON else 0.0
    return np.sum(np.square(found - root), axis=1), [str(one.message) for one in caught]


@pytest.mark.parametrize("name", some(TOLD, ("adam",)))
def test_told(name, key):
    *problem, place = TOLD[name]
    messages = run(*problem, key)[1]
    assert len(messages) == 1 and f"step is not small at the {place}" in messages[0], messages


@pytest.mark.parametrize("name", some(PASSES, ("adam",)))
def test_passes(name, key):
    assert not run(*PASSES[name], key)[1]


def test_an_empty_memory_is_no_start():
    """After a first step from there the second moment is one square, and kicks are large for some steps only."""

    def regular(rule):
        signal = COMMON.bind(None)
        start, rate = rule.init(NEAR), jnp.asarray(rule.learning_rate)
        normals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), split(rule).noise(start, signal, 1))
        return bool(begins_regular(rule, signal, start, split(rule).start(start, signal, normals), rate))

    assert not regular(from_optax(optax.adam, 0.01, 8))
    assert regular(AdaGrad(0.01, 8)) and regular(RMSProp(0.01, 8, initial_scale=1.0))


def logarithms(problem, key, paths):
    """The mean logarithm of the distance and its standard error, with one and with 16 substeps."""
    ends = [np.log(run(*problem, key, paths, substeps)[0]) / 2 for substeps in (1, 16)]
    return [(one.mean(), one.std() / paths**0.5) for one in ends]


@pytest.mark.slow
def test_the_end_is_too_late(monkeypatch, key):
    monkeypatch.setattr(pair, "begins_regular", lambda *args: jnp.zeros((), bool))
    jax.clear_caches()
    assert not run(*TOLD["adagrad"][:3], key)[1]
    jax.clear_caches()


@pytest.mark.slow
def test_far_from_finer_steps(key):
    (coarse, error), (fine, other) = logarithms(TOLD["adam"][:3], key, 600)
    assert coarse - fine > 2 + 4 * np.hypot(error, other)


@pytest.mark.slow
def test_near_finer_steps(key):
    for problem in (PASSES["adam"], (LONG, COMMON, NEAR)):
        (coarse, error), (fine, other) = logarithms(problem, key, 600)
        assert abs(coarse - fine) < 0.05 + 4 * np.hypot(error, other)

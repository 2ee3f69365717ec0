"""Random algorithms on random trees of parameters: the laws of structure hold, or a refusal names an argument."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equations import (
    SAM,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    AMSGrad,
    Diagonal,
    Isotropic,
    Langevin,
    LaProp,
    Lion,
    Minibatch,
    Momentum,
    NAdam,
    Objective,
    OptimisticGradient,
    RMSProp,
    SignSGD,
    averaged,
    clipped,
    decayed,
    modified,
    scheduled,
)
from equations.internal import split

SHAPES = [(), (1,), (3,), (2, 3), (1, 2, 2)]
FACTORS = st.floats(0, 0.999)
RATES = st.floats(1e-7, 3.0)
HYPERPARAMETERS = {
    SGD: {},
    Momentum: {"momentum": FACTORS, "nesterov": st.booleans()},
    Adam: {"b1": FACTORS, "b2": FACTORS, "eps": st.floats(1e-12, 1e-2)},
    AdamW: {"b1": FACTORS, "weight_decay": st.floats(0, 1)},
    NAdam: {"b2": FACTORS},
    AMSGrad: {"b1": FACTORS},
    AdaGrad: {"initial_accumulator_value": st.floats(0, 1)},
    RMSProp: {"decay": FACTORS, "centered": st.booleans()},
    LaProp: {"b1": FACTORS},
    SignSGD: {},
    Lion: {"b1": FACTORS, "b2": FACTORS},
    SAM: {"rho": st.floats(0, 1), "normalized": st.booleans()},
    OptimisticGradient: {},
    Langevin: {"temperature": st.floats(0, 2)},
}
WRAPPERS = {
    "scheduled": lambda e: scheduled(e, optax.cosine_decay_schedule(1.0, 10)),
    "stairs": lambda e: scheduled(e, optax.piecewise_constant_schedule(1.0, {3: 0.1})),
    "decayed": lambda e: decayed(e, 0.1),
    "clipped": lambda e: clipped(e, norm=1.0, noise=0.1),
    "averaged": lambda e: averaged(e, decay=0.9),
    "polyak": lambda e: averaged(e, decay="polyak"),
    "modified": lambda e: modified(e, order=2),
}
NOISE = [Minibatch(), Diagonal(), Isotropic(0.3)]


@st.composite
def algorithms(draw):
    """An algorithm with up to two wrappers about it, as a function without arguments, for it may refuse to be made."""
    kind = draw(st.sampled_from(list(HYPERPARAMETERS)))
    numbers = {name: draw(values) for name, values in HYPERPARAMETERS[kind].items()}
    numbers |= {"learning_rate": draw(RATES), "batch_size": draw(st.none() | st.integers(1, 6))}
    numbers["sampling"] = draw(st.sampled_from(["with_replacement", "without_replacement", "shuffled"]))
    numbers["noise_model"] = draw(st.sampled_from(NOISE))
    around = draw(st.lists(st.sampled_from(list(WRAPPERS)), max_size=2))

    def make():
        equation = kind(**numbers)
        for name in around:
            equation = WRAPPERS[name](equation)
        return equation

    return make, (kind.__name__, numbers, around)


def trees(dtype):
    leaves = st.builds(
        lambda shape, seed: jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype),
        st.sampled_from(SHAPES),
        st.integers(0, 99),
    )
    names = st.text("aβ_ ", min_size=1, max_size=3)
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(names, inner, min_size=1, max_size=3)
        ),
        max_leaves=5,
    )


@st.composite
def problems(draw):
    """An objective of one to six examples, and parameters of one dtype."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    data = jnp.asarray(np.random.default_rng(draw(st.integers(0, 9))).normal(size=draw(st.integers(1, 6))), dtype)

    def loss(params, example):
        return sum(jnp.sum((jnp.tanh(leaf) - example) ** 2) for leaf in jax.tree.leaves(params))

    return Objective(loss, data), draw(trees(dtype))


def types(tree):
    return jax.tree.structure(tree), [(leaf.shape, jnp.dtype(leaf.dtype)) for leaf in jax.tree.leaves(tree)]


def obeys(equation, objective, params):
    """Raises an AssertionError where a law of structure fails, and whatever the equation does."""
    equation.check(params, objective)
    state = jax.tree.map(jnp.asarray, equation.init(params))
    t, wanted = jnp.asarray(0.1, jax.tree.leaves(params)[0].dtype), types(state)
    assert eqx.tree_equal(equation.params(state), params)
    parts, seen = split(equation), equation.sees(objective)
    normals = parts.noise(state, seen, 1)
    still = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), normals)
    kick = lambda t, y, signal: parts.kick(t, y, signal, still, equation.learning_rate)  # noqa: E731
    for function in (equation.drift, parts.flow, kick):
        found = eqx.filter_eval_shape(function, t, state, seen)
        assert found is None or types(found) == wanted, f"{types(found)} in place of {wanted}"
    there = equation.scaling_limit().rescaled(0.5)
    back = there.scaling_limit().rescaled(2.0)
    for now, before in zip(
        *(jax.tree.leaves(eqx.filter(e, eqx.is_inexact_array)) for e in (back, equation)), strict=True
    ):
        np.testing.assert_allclose(now, before, rtol=1e-9, atol=1e-12)


def holds_or_says_why(algorithm, problem):
    make, said = algorithm
    try:
        obeys(make(), *problem)
    except (TypeError, ValueError) as error:
        assert re.match(r"Argument `\w+`", str(error)), (said, error)


QUIET = dict(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


@given(algorithms(), problems())
@settings(max_examples=20, **QUIET)
def test_a_few(algorithm, problem):
    holds_or_says_why(algorithm, problem)


@pytest.mark.slow
@given(algorithms(), problems())
@settings(max_examples=500, **QUIET)
def test_many(algorithm, problem):
    holds_or_says_why(algorithm, problem)


class Doubled(SGD):
    def init(self, params):
        return jax.tree.map(lambda leaf: 2 * leaf, params)


class Double(SGD):
    def drift(self, t, state, signal):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), super().drift(t, state, signal))


@pytest.mark.parametrize("mutant", [Doubled, Double])
def test_mutants(mutant):
    params = {"w": jnp.ones(2, jnp.float32)}
    with pytest.raises(AssertionError):
        obeys(mutant(0.1, 2), Objective(lambda p, e: jnp.sum((p["w"] - e) ** 2), jnp.ones(3, jnp.float32)), params)

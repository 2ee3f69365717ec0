"""Results under vmap, functions that work on numbers, arrays on a mesh: they work, or say what to do instead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dynamics import entropy_production, solve, stationary, train
from equations import SGD, Objective
from validation import compare, orders

CASES = [
    ("in a trace", "instance", "vmap(solve)(...).to_xarray()", "test_a_dataset_of_many_runs"),
    ("in a trace", "instance", "compare under vmap", "test_functions_of_numbers[vmap]"),
    ("in a trace", "brother", "orders and stationary under vmap, all under jit", "test_functions_of_numbers[jit]"),
    ("in a trace", "brother", "to_xarray inside of the trace; the entropy of a traced run", "test_inside"),
    ("explicit axes of a mesh", "instance", "parameters", "test_explicit_axes[params]"),
    ("explicit axes of a mesh", "brother", "data", "test_explicit_axes[data]"),
    ("explicit axes of a mesh", "brother", "traced parameters and data", "test_explicit_axes_in_a_trace"),
    ("explicit axes of a mesh", "brother", "automatic axes", "test_automatic_axes"),
]

KEY, W = jax.random.key(0), jnp.zeros(3)


def loss(w, x):
    return 0.5 * jnp.sum((w - x) ** 2)


DATA = np.arange(6.0).reshape(2, 3)
OBJECTIVE = Objective(loss, DATA)


@pytest.mark.slow
def test_a_dataset_of_many_runs():
    def run(rate):
        return train(SGD(rate), OBJECTIVE, W, steps=2, observe={"w": lambda w: w, "square": lambda w: jnp.sum(w**2)})

    rates = jnp.array([0.1, 0.2, 0.3])
    many = jax.vmap(run)(rates).to_xarray()
    assert many["w"].dims == ("vmap_0", "path", "step", "w_axis_0") and many["square"].dims == (
        "vmap_0",
        "path",
        "step",
    )
    assert many["ok"].shape == (3, 1) and many["time"].dims == ("vmap_0", "step")
    mean = DATA.mean(0)
    expected = mean * (1 - (1 - np.asarray(rates)[:, None, None]) ** np.arange(3)[:, None])
    np.testing.assert_allclose(many["w"][:, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(many["time"], np.asarray(rates)[:, None] * np.arange(3), rtol=1e-6)
    assert jax.vmap(jax.vmap(run))(rates[:2].reshape(1, 2)).to_xarray()["w"].dims[:2] == ("vmap_0", "vmap_1")


@pytest.mark.parametrize("transform", [jax.vmap, jax.jit])
def test_functions_of_numbers(transform):
    for name, call in (
        ("compare", lambda rate: compare(SGD(rate), OBJECTIVE, W, steps=2)),
        ("orders", lambda rate: orders(SGD(rate), OBJECTIVE, W, time=1.0, learning_rates=[0.1, 0.05, 0.02])),
        ("stationary", lambda rate: stationary(SGD(rate, 1), OBJECTIVE, W)),
    ):
        with pytest.raises(TypeError, match=f"Argument `equation` must hold numbers, since `{name}`"):
            transform(call)(jnp.full(2 if transform is jax.vmap else (), 0.1))
    with pytest.raises(TypeError, match="Argument `params` must hold numbers, since `compare`"):
        jax.vmap(lambda w: compare(SGD(0.1), OBJECTIVE, w, steps=2))(jnp.zeros((2, 3)))


def test_inside():
    equation = SGD(0.1, 1)

    def run(key):
        return train(equation, OBJECTIVE, W, steps=2, key=key, keep_states=True)

    with pytest.raises(TypeError, match="to_xarray` must be called outside"):
        jax.eval_shape(lambda key: run(key).to_xarray(), KEY)
    with pytest.raises(TypeError, match="Argument `trajectory` must hold numbers, since `entropy_production`"):
        jax.eval_shape(lambda key: entropy_production(equation, OBJECTIVE, run(key)), KEY)


def laid_out(array, kind):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(kind,))
    return jax.device_put(jnp.asarray(array), NamedSharding(mesh, PartitionSpec("x")))


@pytest.mark.parametrize("name", ["params", "data"])
def test_explicit_axes(name):
    array = laid_out(W if name == "params" else DATA, AxisType.Explicit)
    arguments = (OBJECTIVE, array) if name == "params" else (Objective(loss, array), W)
    for door in (solve, compare) if name == "params" else (solve, train, compare):
        with pytest.raises(
            ValueError, match=f"Argument `{name}` must be laid out .*AxisType.Auto.*'x' of the type Explicit"
        ):
            door(SGD(0.1), *arguments, steps=2)


def test_explicit_axes_in_a_trace():
    w, data = laid_out(W, AxisType.Explicit), laid_out(DATA, AxisType.Explicit)
    for name, call, array in (
        ("params", lambda w: solve(SGD(0.1), OBJECTIVE, w, steps=2).final, w),
        ("data", lambda data: train(SGD(0.1), Objective(loss, data), W, steps=2).final, data),
    ):
        with pytest.raises(ValueError, match=f"Argument `{name}` must be laid out"):
            jax.jit(call)(array)


def test_automatic_axes():
    found = train(SGD(0.1), Objective(loss, laid_out(DATA, AxisType.Auto)), laid_out(W, AxisType.Auto), steps=2).final
    np.testing.assert_allclose(found[0], DATA.mean(0) * (1 - 0.9**2), rtol=1e-12)

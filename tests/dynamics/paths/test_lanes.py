"""Loops with paths as the last axis give what loops with paths first give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics._paths.lanes as lanes
from dynamics._paths.lanes import are_few, loop_in_lanes, row

A = jnp.array([[1.0, 0.5], [0.25, 1.0]])


def step(given, t, state):
    (x, count), noise, rate = state, given["noise"], given["rate"]
    return x - rate * (A @ x) + row(noise, 0) * jnp.sin(t), count + 1


def loop(noise, start, stop, x):
    given = {"noise": noise, "rate": jnp.asarray(0.1), "name": "static"}
    return loop_in_lanes(step, given, start, stop, (x, jnp.zeros((), int)))


def plain(noise, start, stop, x):
    given, count = {"noise": noise, "rate": jnp.asarray(0.1)}, 0
    for t in np.arange(start, stop):
        x, count = step(given, t, (x, count))
    return x, count


def data(*paths):
    normals = jax.random.normal(jax.random.key(0), (*paths, 3, 2))
    return normals[..., :1, :], normals[..., 1, :]


@pytest.mark.parametrize("paths", [1, 5, 16, 40])
def test_any_number_of_paths(paths, monkeypatch):
    monkeypatch.setattr(lanes, "_LANES", 16)  # so that 40 go in three parts
    noise, x = data(paths)
    start, stop = jnp.asarray(2.0), jnp.asarray(6.0)
    found, count = jax.jit(jax.vmap(loop, (0, None, None, 0)))(noise, start, stop, x)
    for path in range(paths):
        np.testing.assert_allclose(found[path], plain(noise[path], 2, 6, x[path])[0], rtol=1e-13)
    np.testing.assert_array_equal(count, np.full(paths, 4))
    part, _ = jax.jit(jax.vmap(loop, (0, None, None, 0)))(noise[:3], start, stop, x[:3])
    np.testing.assert_array_equal(part, found[:3])


@pytest.mark.slow
def test_one_path_two_axes_and_clocks_of_their_own():
    noise, x = data(3, 4)
    start, stops = jnp.asarray(0.0), jnp.array([2.0, 3.0, 5.0])
    one, _ = loop(noise[0, 0], start, stops[0], x[0, 0])
    np.testing.assert_allclose(one, plain(noise[0, 0], 0, 2, x[0, 0])[0], rtol=1e-13)
    inner = jax.vmap(loop, (0, None, None, 0))
    found, count = jax.vmap(inner, (0, None, 0, 0))(noise, start, stops, x)
    apart, _ = jax.vmap(loop, (0, None, 0, 0))(noise[:, 0], start, stops, x[:, 0])
    for place, stop in enumerate((2, 3, 5)):
        truth = plain(noise[place, 0], 0, stop, x[place, 0])[0]
        np.testing.assert_allclose(found[place, 0], truth, rtol=1e-13)
        np.testing.assert_allclose(apart[place], truth, rtol=1e-13)
    np.testing.assert_array_equal(count[:, 0], [2, 3, 5])


def test_few_numbers():
    assert are_few(jnp.zeros(16), [jnp.zeros(8), jnp.zeros(8)]) and not are_few(jnp.zeros(2), jnp.zeros(17))

"""Fixed steps in a plain loop and in Diffrax's, and when a run may be differentiated."""

import functools
from collections.abc import Callable

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some

from dynamics import Strang, solve
from equations import SGD, Adam, Objective, scheduled
from equations.internal import under_trace

X = np.array([[-1.0, 0.5], [0.3, 1.0], [1.0, -0.2]])
W = jnp.array([0.4, -0.3])


def loss(w, x):
    return 0.25 * jnp.sum((w - x) ** 4)


RUN = dict(steps=6, save_every=3, key=jax.random.key(0), paths=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("equation", "solver", "adjoint"),
    [
        (SGD(0.05, 2), None, dfx.DirectAdjoint()),
        pytest.param(Adam(0.05, 2), Strang(), dfx.RecursiveCheckpointAdjoint(), marks=pytest.mark.slow),
        (SGD(0.05), dfx.Tsit5(), dfx.RecursiveCheckpointAdjoint()),
        pytest.param(
            scheduled(SGD(0.05, 2), lambda step: 1 / (1 + 0.1 * step)),
            dfx.Euler(),
            dfx.DirectAdjoint(),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["merged", "start", "runge_kutta", "euler"],
)
def test_both_loops_take_the_same_steps(equation, solver, adjoint):
    """With Diffrax's own, an adjoint given, and without."""
    objective, options = Objective(loss, X), RUN if equation.random else RUN | {"key": None, "paths": 1}
    plain, theirs = (solve(equation, objective, W, solver=solver, adjoint=a, **options) for a in (None, adjoint))
    np.testing.assert_allclose(plain.final, theirs.final, rtol=1e-13)
    assert plain.ok.all() and theirs.ok.all()


def shifted(a):
    """a in the loss: (w - a m) exp(-t) + a m, m the mean of the examples."""
    objective = Objective(lambda w, x: 0.5 * jnp.sum((w - a * x) ** 2), X)
    return jnp.sum(solve(SGD(0.1), objective, W, steps=2).final), X.mean(0).sum() * (1 - np.exp(-0.2))


def seen(a):
    values = solve(SGD(0.1), Objective(loss, X), W, steps=2, observe={"a": lambda w: a * w}).observables["a"]
    return jnp.sum(values), jnp.sum(values) / a


def slowed(a):
    """w exp(-sum of the rates)."""
    equation = scheduled(SGD(0.1), lambda step: a / (1 + step))
    end = jnp.sum(solve(equation, Objective(lambda w, x: 0.5 * jnp.sum(w**2), X), W, steps=2).final)
    return end, -0.15 * end


@pytest.mark.slow
@pytest.mark.parametrize("function", some((shifted, seen, slowed), (shifted,)))
def test_a_derivative_by_what_functions_close_over(function):
    """Of which no argument tells."""
    found, expected = jax.grad(function, has_aux=True)(1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


class Held(eqx.Module):
    value: Callable = eqx.field(static=True)

    def method(self):
        return self.value()


def test_what_is_traced_is_found():
    def look(a):
        inner = lambda: a  # noqa: E731
        deep = functools.partial(lambda f, x: f() + x, lambda: inner(), 1.0)
        wrapped = eqx.filter_jit(inner), jax.jit(inner), jax.tree_util.Partial(inner)
        found = [a, {"x": [a]}, inner, deep, Held(inner), Held(inner).method, *wrapped]
        assert all(under_trace(thing) for thing in found)
        assert not under_trace(loss, X, W, Held(jnp.tanh), None, jnp.tanh, optax.sgd(0.1), jax, Held)
        return a

    jax.grad(look)(1.0)
    jax.jit(lambda: [] if under_trace() else pytest.fail("not seen"))()

    def around():
        return around

    assert not under_trace(around)

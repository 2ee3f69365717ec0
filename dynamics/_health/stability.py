"""Whether the steps of a solver are stable: the stiffest modes of a state against the stability function of the solver."""

import functools
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from equations.internal import split

from .._paths.strang import Steps

# Vectors of Krylov's space: the stiff modes of a network stand apart, and so few find them to some percent.
_VECTORS = 5
# Ritz values are below the stiffest mode, and a run that is held at the edge hovers about it.
_MARGIN = 1.05
# More than this no mode that the flow damps may grow in a step, and in the whole run by no more than a factor of two:
# methods such as Tsit5 let a free oscillation grow a little at any step.
_GROWTH, _WHOLE = 1.02, 2.0
# Of the modulus of a mode: a real part below is no growth of the flow.
_FREE = 1e-6
MOST = 128


def jacobian(field: Callable[[PyTree], PyTree], state: PyTree, differences: bool = False) -> Array:
    """The Jacobian of a vector field at a state on a small Krylov space, `(vectors, vectors)`: its eigenvalues are Ritz's.

    Arnoldi's iteration from the velocity, in which an unstable mode is large, and a little of everything. Leaves are
    measured by their size, for the second moments of an optimizer are of another order than its parameters. With
    `differences` central ones stand in for derivatives, which are sharper at kinks but may be others than those of the
    values.
    """
    along = _differences if differences else jax.jvp
    unit, unravel = ravel_pytree(state)
    count = min(_VECTORS, unit.size)

    def sizes(velocity):
        def size(y, f):
            rms = jnp.sqrt(jnp.mean(jnp.square(y))) + 1e-3 * jnp.sqrt(jnp.mean(jnp.square(f)))
            return jnp.full_like(y, jnp.where(rms > 0, rms, 1))

        return ravel_pytree(jax.tree.map(size, state, velocity))[0]

    def step(j, carry):  # the first round is for the velocity alone: so one derivative is compiled
        basis, table, scale = carry
        velocity, column = along(field, (state,), (unravel(basis[jnp.maximum(j, 0)] * scale),))
        scale = jnp.where(j < 0, sizes(velocity), scale)
        column = ravel_pytree(jax.tree.map(lambda a, b: jnp.where(j < 0, a, b), velocity, column))[0] / scale
        first = basis @ column  # the rows that are yet to come are zero
        column = column - first @ basis
        second = basis @ column  # again, for rounding
        column = column - second @ basis
        norm = jnp.linalg.norm(column)
        found = norm > 1e-6 * jnp.linalg.norm(first)  # else the space is complete
        column = jnp.where(found, column / jnp.where(found, norm, 1), 0)
        row = (first + second).at[j + 1].set(jnp.where(found, norm, 0))
        column = jnp.where(j < 0, column + 0.1 * random, column)
        column = column / jnp.where(j < 0, jnp.linalg.norm(column), 1)
        table = jnp.where(j < 0, table, table.at[:, jnp.maximum(j, 0)].set(row))
        return basis.at[j + 1].set(column), table, scale

    # Not of a generator, which takes as long to compile as many a field.
    random = jnp.sin(jnp.square(jnp.arange(1, unit.size + 1, dtype=unit.dtype)) * 0.7 + 0.3)
    random = random / jnp.linalg.norm(random)
    empty = jnp.zeros((count + 1, unit.size), unit.dtype), jnp.zeros((count + 1, count), unit.dtype)
    _, table, _ = jax.lax.fori_loop(-1, count, step, (*empty, jnp.ones_like(unit)))
    return table[:-1]


def _differences(field, primals, tangents):
    """As `jax.jvp` of one argument, by a central difference over a step that is short beside the size of the state."""
    (state,), (direction,) = primals, tangents
    whole, along = ravel_pytree(state)[0], ravel_pytree(direction)[0]
    step = jnp.finfo(whole.dtype).eps ** (1 / 3)
    norm, size = jnp.linalg.norm(along), jnp.linalg.norm(whole)
    step = step * jnp.where(size > 0, size, 1) / jnp.where(norm > 0, norm, 1)
    ends = jax.vmap(lambda h: field(jax.tree.map(lambda y, u: y + h.astype(y.dtype) * u, state, direction)))
    both = ends(jnp.stack([step, -step]))
    mean = jax.tree.map(lambda ends: (ends[0] + ends[1]) / 2, both)
    return mean, jax.tree.map(lambda ends: (ends[0] - ends[1]) / (2 * step).astype(ends.dtype), both)


def leapfrogged(dynamics, signal, t: Array, dt: Array) -> Callable[[PyTree], PyTree]:
    """The increment of a whole step without noise, over its length, where the kick carries the gradient.

    The step is no function of one Jacobian; its flow knows no gradient and costs next to nothing.
    """

    def flow(y):
        half = jax.tree.map(lambda y, f: y + dt / 4 * f, y, split(dynamics).flow(t, y, signal))
        return jax.tree.map(lambda y, f: y + dt / 2 * f, y, split(dynamics).flow(t, half, signal))

    def increment(y):
        middle = flow(y)
        end = flow(jax.tree.map(jnp.add, middle, split(dynamics).kick(t, middle, signal, None, dt)))
        return jax.tree.map(lambda a, b: (b - a) / dt, y, end)

    return increment


@functools.lru_cache(maxsize=64)
def _function(kind: type) -> Callable[[np.ndarray], np.ndarray]:
    """R(z) of an explicit Runge-Kutta method, from its tableau: a step on dy/dt = lambda y multiplies by R(dt lambda)."""
    if kind is dfx.Euler:
        return lambda z: 1 + z
    tableau = kind.tableau

    def growth(z: Any) -> Any:
        stages = [z]
        for row in tableau.a_lower:
            stages.append(z * (1 + sum(a * k for a, k in zip(row, stages, strict=True))))
        return 1 + sum(b * k for b, k in zip(tableau.b_sol, stages, strict=True))

    return growth


def stability_function(solver: dfx.AbstractSolver) -> Callable[[np.ndarray], np.ndarray]:
    """That of a solver's flow."""
    return _function(type(Steps(solver).flow))


def _unstable(modes: np.ndarray, growth: Callable, steps: np.ndarray) -> np.ndarray:
    """Which of some modes dt lambda, damped by the flow, grow in a step, or in so many."""
    with np.errstate(all="ignore"):
        fast = (np.real(modes) < 0) & ~(np.abs(growth(_MARGIN * modes)) < _GROWTH)
        slow = (np.real(modes) < _FREE * np.abs(modes)) & ~(np.abs(growth(modes)) < _WHOLE ** (1 / steps))
    return fast | slow


def stiffest(table: np.ndarray, dt: float, growth: Callable, steps: int, real: bool = False) -> tuple[float, int]:
    """-dt lambda of the most unstable mode, 0 where all are stable, and a number by which steps are better divided.

    `steps` is that of the whole run. The number has room for modes a quarter stiffer; it is `MOST` where none that is
    allowed suffices. `real`: only real modes are looked at, by which alone a leapfrog step becomes unstable.
    """
    if not np.all(np.isfinite(table)):
        return 0.0, 1
    modes = dt * np.linalg.eigvals(table.astype(float))
    if real:
        modes = modes[np.abs(modes.imag) < 0.1 * np.abs(modes.real)]
    bad = modes[_unstable(modes, growth, np.asarray(steps))]
    if not bad.size:
        return 0.0, 1
    counts = np.arange(1, MOST + 1)
    enough = ~np.any(_unstable(1.25 * bad[:, None] / counts, growth, steps * counts), axis=0)
    return float(np.max(np.abs(bad))), int(counts[np.argmax(enough)]) if enough.any() else MOST


@functools.lru_cache(maxsize=64)
def limit(growth: Callable) -> float:
    """The longest step on a real mode: R stays within 1 on [-limit, 0]."""
    z = np.linspace(0, 20, 20_001)
    return float(z[np.argmax(np.abs(growth(-z)) > 1 + 1e-9)])


@functools.lru_cache(maxsize=64)
def suspicious(growth: Callable, steps: int) -> float:
    """A quotient of stages below which no mode has grown: half the limit, or less for oscillations in long runs."""
    edge = limit(growth)
    y = np.linspace(0, edge / 2, 2_001)[1:]
    grows = steps * np.log(np.abs(growth(1j * y))) > np.log(_WHOLE)
    return float(0.9 * y[np.argmax(grows)]) if grows.any() else edge / 2

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

from equations.internal import is_traced, split

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


def jacobian(field: Callable[[PyTree], PyTree], state: PyTree, differences: bool = False) -> Any:
    """`krylov` of the derivatives of a vector field at a state."""
    return krylov(functools.partial(derivative, field, state, differences=differences), state)


def derivative(
    field: Callable[[PyTree], PyTree], state: PyTree, direction: Any, differences: bool = False
) -> tuple[Array, Array]:
    """A vector field at a state, and its derivative along a direction, all but the state as one vector `(numbers,)`.

    With `differences` central ones stand in for derivatives, which are sharper at kinks but may be others than those of
    the values.
    """
    unit, unravel = ravel_pytree(state)
    along: Any = _differences if differences else jax.jvp
    return along(lambda y: ravel_pytree(field(unravel(y)))[0], (unit,), (jnp.asarray(direction, unit.dtype),))


@np.errstate(all="ignore")  # of a state that is no longer one the table is not finite
def krylov(along: Callable[[Any], tuple[Any, Any]], state: PyTree) -> Any:
    """The Jacobian of a vector field on a small Krylov space, `(vectors, vectors)`: its eigenvalues are Ritz's.

    Arnoldi's iteration from the velocity, in which an unstable mode is large, and a little of everything. Leaves are
    measured by their size, for the second moments of an optimizer are of another order than its parameters. Where the
    numbers are known it is done by NumPy, for to compile it takes as long as many a field.

    **Arguments:** `along`: the velocity at the state and its derivative along a vector, `(numbers,)`; `state`: of arrays.
    """
    xp: Any = jnp if any(is_traced(leaf) for leaf in jax.tree.leaves(state)) else np
    leaves = [xp.asarray(leaf).ravel() for leaf in jax.tree.leaves(state)]
    norm = lambda vector: xp.sqrt(xp.sum(xp.square(vector)))  # noqa: E731
    numbers = sum(leaf.size for leaf in leaves)
    # Every direction of one dtype, or a second program is compiled.
    dtype = np.result_type(*(leaf.dtype for leaf in leaves))
    velocity = xp.asarray(along(np.zeros(numbers, dtype))[0])
    scale = _sizes(xp, leaves, velocity)
    random = np.sin(np.square(np.arange(1.0, numbers + 1)) * 0.7 + 0.3)
    column = velocity / scale
    size = norm(column)
    column = column / xp.where(size > 0, size, 1) + 0.1 * xp.asarray(random / np.linalg.norm(random), scale.dtype)
    basis, table, count = [column / norm(column)], [], min(_VECTORS, numbers)
    for j in range(count):
        space, column = xp.stack(basis), xp.asarray(along((basis[j] * scale).astype(dtype))[1]) / scale
        first = space @ column
        column = column - first @ space
        second = space @ column  # again, for rounding
        column = column - second @ space
        size = norm(column)
        found = size > 1e-6 * norm(first)  # else the space is complete
        basis.append(xp.where(found, column / xp.where(found, size, 1), 0))
        row = xp.concatenate([first + second, xp.where(found, size, 0)[None], xp.zeros(count - 1 - j, size.dtype)])
        table.append(row[:count])
    return xp.stack(table, axis=1)


def _sizes(xp: Any, leaves: list, velocity: Any) -> Any:
    """How large the numbers are of the leaf that each is in, `(numbers,)`."""
    parts, begin = [], 0
    for leaf in leaves:
        rate = velocity[begin : begin + leaf.size]
        begin += leaf.size
        size = xp.sqrt(xp.mean(xp.square(leaf))) + 1e-3 * xp.sqrt(xp.mean(xp.square(rate)))
        parts.append(xp.where(size > 0, size, 1) * xp.ones(leaf.size, leaf.dtype))
    return xp.concatenate(parts)


def _differences(field, primals, tangents):
    """As `jax.jvp` of one argument, by a central difference over a step that is short beside the size of the state."""
    (state,), (direction,) = primals, tangents
    step = jnp.finfo(state.dtype).eps ** (1 / 3)
    norm, size = jnp.linalg.norm(direction), jnp.linalg.norm(state)
    step = step * jnp.where(size > 0, size, 1) / jnp.where(norm > 0, norm, 1)
    ahead, behind = jax.lax.map(lambda h: field(state + h.astype(state.dtype) * direction), jnp.stack([step, -step]))
    return (ahead + behind) / 2, (ahead - behind) / (2 * step).astype(ahead.dtype)


def leapfrogged(dynamics, signal, t: Array, dt: Any) -> Callable[[PyTree], PyTree]:
    """The increment of a whole step without noise, over its length, where the kick carries the gradient.

    The step is no function of one Jacobian; its flow knows no gradient and costs next to nothing. The halves of the flow
    before the kick and after it are taken as one, as in a run: that the step begins elsewhere changes no mode.
    """

    def increment(state):
        y, unravel = ravel_pytree(state)
        ravel = lambda tree: ravel_pytree(tree)[0].astype(y.dtype)  # noqa: E731

        def ahead(at, share):
            return y + share * dt.astype(y.dtype) * ravel(split(dynamics).flow(t, unravel(at), signal)), None

        middle, _ = jax.lax.scan(ahead, y, jnp.asarray([0.5, 1.0], y.dtype))  # the midpoint rule, compiled once
        kick = ravel(split(dynamics).kick(t, unravel(middle), signal, None, dt))
        return unravel((middle + kick - y) / dt.astype(y.dtype))

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

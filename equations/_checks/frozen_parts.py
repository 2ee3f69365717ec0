"""Parts of leaves that a signal leaves alone, as rows behind `stop_gradient`."""

import functools

import equinox as eqx
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._jaxpr.maxima import stops_a_part
from .._jaxpr.released import released
from .._jaxpr.structure import dependence, propagate
from .._signals.base import AbstractSignal, is_parameter
from .once import quick_jit

_POINTS = 4  # of the parameters, the first of them as given
_FEW = 256  # examples that are looked at first


def stopped_entries(signal: AbstractSignal, params: PyTree, whole: PyTree[bool]) -> PyTree | None:
    """Like the gradient: True for an entry whose gradient is zero though the loss depends on it; None where there is none.

    `whole` are leaves that are known to have no gradient, which stay as given. An entry that merely happens to have a
    gradient of zero (a pixel that is dark in all examples, a row that none of them uses, a dead unit) has one without
    `stop_gradient` no more than with it, or has one at other parameters or at brighter examples: it is no part of this.
    Looked at only where the signal stops something: in its jaxpr, or in what it takes from `frozen`.
    """
    active, static = eqx.partition(params, is_parameter)
    first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), signal.examples)
    jaxpr = jax.make_jaxpr(_value(signal, static))(active, active, first).jaxpr
    models = len(jax.tree.leaves(active))
    of_frozen = [int(models <= place < 2 * models) for place in range(len(jaxpr.invars))]
    if not stops_a_part(jaxpr) and not any(propagate(dependence, jaxpr, of_frozen)):
        return None
    points = _points(active, whole), jnp.arange(_POINTS) >= _POINTS // 2
    few = signal.take(jnp.asarray(np.linspace(0, signal.size - 1, min(signal.size, _FEW)).round(), int))
    moved = jax.device_get(_moved(few, points, static))
    found = jax.tree.map(lambda moved, whole: np.asarray(~moved & (not whole)), moved, whole)
    if _any(found):
        found = jax.tree.map(np.logical_and, found, jax.device_get(_reached(few, points, static)))
    if _any(found) and signal.size > _FEW:  # a rare example may move what these do not
        found = jax.tree.map(lambda found, moved: found & ~moved, found, jax.device_get(_moved(signal, points, static)))
    return found if _any(found) else None


def _any(tree: PyTree) -> bool:
    return any(map(np.any, jax.tree.leaves(tree)))


def _points(active: PyTree, whole: PyTree[bool]) -> PyTree[np.ndarray]:
    """The parameters, and random ones of their size, leaves `(_POINTS, ...)`."""
    random = np.random.default_rng(0)

    def leaf(p, fixed):
        size = 0.0 if fixed else np.sqrt(np.mean(np.square(p, dtype=float))) or 1.0
        normals = random.standard_normal((_POINTS, *p.shape))
        normals[0] = 0
        return (np.asarray(p) + size * normals).astype(p.dtype)

    return jax.tree.map(leaf, active, whole)


@quick_jit(level=0)
def _moved(signal, points, static):
    """The entries that have a gradient at some point."""

    def gradients(function, active):
        return (jax.grad(lambda a: function(a, active))(active),)

    return _at_any(_value(signal, static), gradients, signal, points)


@quick_jit(level=0)
def _reached(signal, points, static):
    """Those that would have one at some point if nothing were stopped."""
    here, first = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in (points[0], signal.examples))
    free = jax.extend.core.jaxpr_as_fun(released(jax.make_jaxpr(_value(signal, static))(here, here, first)))

    def gradients(function, active):
        return jax.grad(function, (0, 1))(active, active)

    return _at_any(lambda *args: free(*jax.tree.leaves(args))[0], gradients, signal, points)


def _value(signal, static):
    def value(active, frozen, example):
        return signal.surrogate(eqx.combine(active, static), eqx.combine(frozen, static), example)

    return value


def _at_any(value, gradients, signal, points) -> PyTree[Array]:
    """Which entries have one of some gradients of a randomly weighted sum over the examples, at any of the points."""
    random = np.random.default_rng(1)
    normals, brighter = jnp.asarray(random.standard_normal(signal.size)), _brighter(signal.examples, random)

    def at(point):
        active, bright = point
        data = jax.tree.map(lambda a, b: jnp.where(bright, b, a), signal.examples, brighter)

        def total(*models):
            values = jax.vmap(lambda example: value(*models, example))(data)
            return jnp.dot(values, normals.astype(values.dtype))

        marks = [jax.tree.map(lambda g: (g != 0) & ~jnp.isnan(g), found) for found in gradients(total, active)]
        return jax.tree.map(lambda *marks: functools.reduce(jnp.logical_or, marks), *marks)

    return jax.tree.map(lambda marks: jnp.any(marks, 0), jax.lax.map(at, points))


def _brighter(data: PyTree, random: np.random.Generator) -> PyTree:
    """Examples with something of the size of the others in every number; what counts or chooses stays."""

    def leaf(x):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        size = jnp.sqrt(jnp.mean(jnp.abs(x) ** 2))
        return x + jnp.where(size > 0, size, jnp.ones_like(size)) * jnp.asarray(random.random(x.shape), x.dtype)

    return jax.tree.map(leaf, data)

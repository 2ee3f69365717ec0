"""The mean of the squares of the per-example gradients, coordinate by coordinate, without holding these gradients.

The gradient of one example with respect to a matrix W that enters as W x is an outer product delta x^T, so that the sum
over examples of its squares is one matrix product of squares, (delta^2)^T (x^2), as dear as the gradient itself. Such
products are found in the jaxpr of the gradient of one example; any other leaf is squared as it is, a few at a time, and so
are all where the jaxpr holds something that cannot be evaluated piece by piece.
"""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.extend.core
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._checks.once import warn
from .._jaxpr.interpreter import CALLS, bound, interpret
from .._signals.base import AbstractSignal, is_parameter

_HELD = 2**16  # numbers of a few examples that are held at once


class _Outer(NamedTuple):
    """The product a_i b_j as an array of shape a.shape + b.shape, its axes in another `order`."""

    a: Any
    b: Any
    order: tuple[int, ...]

    @property
    def whole(self) -> Array:
        return jnp.transpose(jnp.tensordot(self.a, self.b, axes=0), self.order)


def _whole(value):
    return value.whole if isinstance(value, _Outer) else value


def _factored(eqn, values) -> list | None:
    """What an equation gives, outer products as `_Outer`."""
    name = eqn.primitive.name
    if name in CALLS:
        return None
    if name == "dot_general" and not any(axes for pair in eqn.params["dimension_numbers"] for axes in pair):
        a, b = (_whole(value).astype(eqn.outvars[0].aval.dtype) for value in values)
        return [_Outer(a, b, tuple(range(a.ndim + b.ndim)))]
    if name == "transpose" and isinstance(values[0], _Outer):
        return [values[0]._replace(order=tuple(values[0].order[axis] for axis in eqn.params["permutation"]))]
    return bound(eqn, [_whole(value) for value in values])


def mean_square(signal: AbstractSignal, params: PyTree) -> PyTree:
    """(1/N) sum_i g_i^2, like the gradient."""
    active, static = eqx.partition(params, is_parameter)

    def gradient(active, example):
        value = lambda active: signal.surrogate(eqx.combine(active, static), params, example)  # noqa: E731
        return jax.grad(value)(active)

    first = jax.tree.map(lambda leaf: leaf[0], signal.examples)
    closed, shapes = jax.make_jaxpr(gradient, return_shape=True)(active, first)
    orders: list[tuple[int, ...] | None] = []

    def pieces(example) -> list[tuple]:
        """By leaf the two factors of an outer product, or the leaf alone."""
        found = interpret(closed, jax.tree.leaves((active, example)), _factored)
        orders[:] = [value.order if isinstance(value, _Outer) else None for value in found]
        return [(value.a, value.b) if isinstance(value, _Outer) else (value,) for value in found]

    def leaves_alone(example) -> list[tuple]:
        orders[:] = [None] * len(jax.tree.leaves(shapes))
        return [(leaf,) for leaf in jax.tree.leaves(gradient(active, example))]

    try:
        jax.eval_shape(pieces, first)
    except Exception as error:  # a primitive of a kind that is new
        pieces = leaves_alone
        warn(
            "The squares of gradients are computed example by example, which is slower, since a part of the loss cannot be "
            f"evaluated by itself: {type(error).__name__}: {str(error)[:200]}"
        )
    held = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(pieces, first)))
    chunk = min(signal.size, max(1, _HELD // held))
    count = -(-signal.size // chunk)

    def add(total, place):
        index = place * chunk + jnp.arange(chunk)
        examples = jax.tree.map(lambda leaf: leaf[jnp.minimum(index, signal.size - 1)], signal.examples)
        inside = index < signal.size  # the last few may be less than a chunk

        def squares(factors, order):
            parts = [jnp.square(part).reshape(chunk, -1) for part in factors]
            weighted = jnp.where(inside[:, None], parts[0], 0)
            if order is None:
                return jnp.sum(weighted, axis=0).reshape(factors[0].shape[1:])
            shape = [*factors[0].shape[1:], *factors[1].shape[1:]]
            return jnp.transpose((weighted.T @ parts[1]).reshape(shape), order)

        found = jax.vmap(pieces)(examples)
        return [t + squares(*pair) for t, *pair in zip(total, found, orders, strict=True)], None

    leaves, treedef = jax.tree.flatten(shapes)
    total = jax.lax.scan(add, [jnp.zeros(leaf.shape, leaf.dtype) for leaf in leaves], jnp.arange(count))[0]
    return jax.tree.unflatten(treedef, [leaf / signal.size for leaf in total])


def within_examples(signal: AbstractSignal, params: PyTree) -> PyTree:
    """(1/N) sum_i Var_key(g_i), of each coordinate of the gradient, like the parameters, by the fixed keys."""
    samples = signal.samples
    every, means = mean_square(signal.drawn(), params), mean_square(signal.by_samples(), params)
    return jax.tree.map(lambda a, b: jnp.maximum(a - b, 0) * (samples / (samples - 1)), every, means)

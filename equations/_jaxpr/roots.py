"""Functions whose square roots have the derivative 0 at 0, where the one they have is infinite."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .interpreter import bound, called, interpret


def root(x: Array) -> Array:
    """sqrt(x), with the derivative 0 at x = 0: there a second moment has no history and no parameter moves."""
    empty = x == 0
    return jnp.where(empty, jnp.zeros_like(x), jnp.sqrt(jnp.where(empty, jnp.ones_like(x), x)))


def inverse_root(x: Array) -> Array:
    """1/sqrt(x), with the derivative 0 at x = 0, where it is infinite."""
    empty = x == 0
    return jnp.where(empty, jnp.full_like(x, jnp.inf), jax.lax.rsqrt(jnp.where(empty, jnp.ones_like(x), x)))


_SAFE = {"sqrt": root, "rsqrt": inverse_root}
# What leaves a variance one: a number is added to keep it from 0, or it is copied.
_KEEPS = {"add", "add_any", "convert_element_type", "copy", "copy_p", "reshape", "broadcast_in_dim"}


def with_safe_roots(function: Callable, *args: PyTree) -> PyTree:
    """What `function(*args)` returns, to the last bit, with `root` for every square root inside, whoever wrote it.

    The derivative of a square root at 0 is infinite, times the derivative 0 of what is inside it NaN: a parameter without
    gradient, whose second moment stays empty, or a layer whose gradient has the norm 0. Roots inside loops, branches and
    functions with derivatives of their own stay as they are.

    A mean of squares less the square of the mean is a variance in an algorithm; in parts of a step it may fall below 0, the
    more often the shorter they are, and its root is then that of its size.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    if not _has_roots(closed.jaxpr):
        return function(*args)
    inputs = map(_Value, jax.tree.leaves(args))
    outputs = interpret(closed, list(inputs), _safe, _Value)
    return jax.tree.unflatten(jax.tree.structure(shapes), [output.value for output in outputs])


class _Value(NamedTuple):
    """A value, and whether it is a square, or a variance: a mean of squares less a square."""

    value: Any
    square: bool = False
    variance: bool = False


def _has_roots(jaxpr) -> bool:
    def one(eqn):
        found = called(eqn)
        return eqn.primitive.name in _SAFE if found is None else _has_roots(found[0])

    return any(map(one, jaxpr.eqns))


def _safe(eqn, values: list[_Value]) -> list[_Value] | None:
    if called(eqn) is not None:
        return None
    name = eqn.primitive.name
    first: Any = values[0].value if values else None
    if name in _SAFE and jnp.issubdtype(jnp.result_type(first), jnp.floating):
        return [_Value(_SAFE[name](jnp.abs(first) if values[0].variance else first))]
    less_a_square = name == "sub" and values[1].square
    variance = less_a_square or (name in _KEEPS and any(value.variance for value in values))
    results = bound(eqn, [value.value for value in values])
    return [_Value(result, _squares(eqn), variance) for result in results]


def _squares(eqn) -> bool:
    name, atoms = eqn.primitive.name, eqn.invars
    itself = name == "mul" and atoms[0] is atoms[1]
    return itself or name == "square" or (name == "integer_pow" and eqn.params["y"] == 2)

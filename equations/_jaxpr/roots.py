"""Functions whose square roots have the derivative 0 at 0, where the one they have is infinite."""

from collections.abc import Callable

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


def with_safe_roots(function: Callable, *args: PyTree) -> PyTree:
    """What `function(*args)` returns, to the last bit, with `root` for every square root inside, whoever wrote it.

    The derivative of a square root at 0 is infinite, times the derivative 0 of what is inside it NaN: a parameter without
    gradient, whose second moment stays empty, or a layer whose gradient has the norm 0. Roots inside loops, branches and
    functions with derivatives of their own stay as they are.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    if not _has_roots(closed.jaxpr):
        return function(*args)
    return jax.tree.unflatten(jax.tree.structure(shapes), interpret(closed, jax.tree.leaves(args), _safe))


def _has_roots(jaxpr) -> bool:
    def one(eqn):
        found = called(eqn)
        return eqn.primitive.name in _SAFE if found is None else _has_roots(found[0])

    return any(map(one, jaxpr.eqns))


def _safe(eqn, values) -> list | None:
    if called(eqn) is not None:
        return None
    if eqn.primitive.name in _SAFE and jnp.issubdtype(jnp.result_type(values[0]), jnp.floating):
        return [_SAFE[eqn.primitive.name](values[0])]
    return bound(eqn, values)

"""Functions whose square roots have the derivative 0 at 0, where the one they have is infinite."""

from collections.abc import Callable

import jax
import jax.extend.core
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .bind import bound
from .structure import CALLS


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
    return jax.tree.unflatten(jax.tree.structure(shapes), _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args)))


def _inner(eqn):
    """The jaxpr that a call holds; None for any other equation."""
    if eqn.primitive.name not in CALLS:
        return None
    return eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))


def _has_roots(jaxpr) -> bool:
    def one(eqn):
        inner = _inner(eqn)
        return eqn.primitive.name in _SAFE if inner is None else _has_roots(getattr(inner, "jaxpr", inner))

    return any(map(one, jaxpr.eqns))


def _evaluate(jaxpr, constants, arguments) -> list:
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))
    read = lambda atom: atom.val if isinstance(atom, jax.extend.core.Literal) else known[atom]  # noqa: E731
    for eqn in jaxpr.eqns:
        values, inner = [read(atom) for atom in eqn.invars], _inner(eqn)
        if inner is not None:
            results = _evaluate(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), values)
        elif eqn.primitive.name in _SAFE and jnp.issubdtype(jnp.result_type(values[0]), jnp.floating):
            results = [_SAFE[eqn.primitive.name](values[0])]
        else:
            results = bound(eqn, values)
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

"""Functions whose square roots have the derivative 0 at 0, where the one they have is infinite."""

from collections.abc import Callable

import jax
import jax.extend.core
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._affine import _CALLS
from ._bind import bound


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
    return jax.tree.unflatten(
        jax.tree.structure(shapes), _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args))[0]
    )


def _inner(eqn):
    """The jaxpr that a call holds; None for any other equation."""
    if eqn.primitive.name not in _CALLS:
        return None
    return eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))


def _has_roots(jaxpr) -> bool:
    def one(eqn):
        inner = _inner(eqn)
        return eqn.primitive.name in _SAFE if inner is None else _has_roots(getattr(inner, "jaxpr", inner))

    return any(map(one, jaxpr.eqns))


def _evaluate(jaxpr, constants, arguments, variances: tuple = ()) -> tuple[list, list[bool]]:
    """The outputs, and which of them are variances, less a square; `variances`: the same of the inputs."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))
    centered = {var for var, mark in zip(jaxpr.invars, variances, strict=False) if mark}
    squares: set = set()
    literal = lambda atom: isinstance(atom, jax.extend.core.Literal)  # noqa: E731
    among = lambda atoms, marked: [not literal(atom) and atom in marked for atom in atoms]  # noqa: E731
    for eqn in jaxpr.eqns:
        values, inner = [atom.val if literal(atom) else known[atom] for atom in eqn.invars], _inner(eqn)
        name, marks = eqn.primitive.name, among(eqn.invars, centered)
        if inner is not None:
            results, marks = _evaluate(
                getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), values, tuple(marks)
            )
            centered |= {var for var, mark in zip(eqn.outvars, marks, strict=True) if mark}
        elif name in _SAFE and jnp.issubdtype(jnp.result_type(values[0]), jnp.floating):
            results = [_SAFE[name](jnp.abs(values[0]) if marks[0] else values[0])]
        else:
            results = bound(eqn, values)
            if _squares(eqn):
                squares |= set(eqn.outvars)
            if (name == "sub" and among(eqn.invars[1:], squares)[0]) or (name in _KEEPS and any(marks)):
                centered |= set(eqn.outvars)
        known.update(zip(eqn.outvars, results, strict=True))
    outputs = [atom.val if literal(atom) else known[atom] for atom in jaxpr.outvars]
    return outputs, among(jaxpr.outvars, centered)


def _squares(eqn) -> bool:
    name, atoms = eqn.primitive.name, eqn.invars
    itself = name == "mul" and atoms[0] is atoms[1]
    return itself or name == "square" or (name == "integer_pow" and eqn.params["y"] == 2)

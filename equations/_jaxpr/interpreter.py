"""An interpreter of jaxprs, the one place that knows how JAX holds calls and binds primitives."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core

CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"}


def bound(eqn, values: Sequence[Any]) -> list:
    """What an equation of a jaxpr gives on these values, a list also where it is one."""
    given = eqn.primitive.get_bind_params(eqn.params)
    functions, parameters = given if isinstance(given, tuple) else ((), given)  # JAX has had it both ways
    results = eqn.primitive.bind(*functions, *values, **parameters)
    return results if eqn.primitive.multiple_results else [results]


def inner_jaxpr(eqn) -> tuple[Any, Sequence[Any]] | None:
    """The jaxpr that an equation holds, and its constants; None where it holds none."""
    held = next((eqn.params[key] for key in ("jaxpr", "call_jaxpr") if key in eqn.params), None)
    if held is None:
        return None
    return (held.jaxpr, held.consts) if isinstance(held, jax.extend.core.ClosedJaxpr) else (held, ())


def called(eqn) -> tuple[Any, Sequence[Any]] | None:
    """That of an equation which does nothing but call it."""
    return inner_jaxpr(eqn) if eqn.primitive.name in CALLS else None


def interpret(
    closed, arguments: Sequence[Any], rule: Callable[[Any, list], list | None], lift: Callable = lambda value: value
) -> list:
    """The outputs of a closed jaxpr on any kind of values.

    `rule(eqn, values)` gives the results of an equation, or None for a call that is to be entered; `lift` makes a value of
    a constant.
    """
    return _interpret(closed.jaxpr, closed.consts, arguments, rule, lift)


def _interpret(jaxpr, constants, arguments, rule, lift) -> list:
    known = dict(zip(jaxpr.constvars, map(lift, constants), strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(atom):
        return lift(atom.val) if isinstance(atom, jax.extend.core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        results = rule(eqn, values)
        if results is None:
            found: Any = inner_jaxpr(eqn)
            there, held = found
            results = _interpret(there, held, values, rule, lift)
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

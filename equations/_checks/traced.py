"""Whether anything that a call is given is traced, what its functions close over with it."""

import functools
import inspect
import types
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .once import is_traced

_DEPTH = 8  # of functions in functions; a cell that holds its own function ends there too


def under_trace(*given: Any) -> bool:
    """Whether a call is inside of jit, or a derivative or a `vmap` reaches it by what it is `given`: arrays, and what
    functions, static fields of modules too, close over."""
    return is_traced(jnp.zeros(())) or any(_holds(thing, _DEPTH) for thing in given)


def _holds(thing: Any, depth: int) -> bool:
    if depth == 0 or thing is None or isinstance(thing, _PLAIN):
        return is_traced(thing)
    return any(_holds(part, depth - 1) for part in _parts(thing))


def _parts(thing: Any) -> Any:
    if isinstance(thing, eqx.Module):
        return vars(thing).values()
    if isinstance(thing, types.FunctionType):
        cells = (cell.cell_contents for cell in thing.__closure__ or () if _is_full(cell))
        return *cells, *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()
    if isinstance(thing, types.MethodType):
        return thing.__self__, thing.__func__
    if isinstance(thing, functools.partial):
        return thing.func, *thing.args, *thing.keywords.values()
    if isinstance(thing, types.ModuleType | type):
        return ()
    if callable(thing):  # by jit, say, around another one
        unwrapped = inspect.unwrap(thing)
        return () if unwrapped is thing else (unwrapped,)
    parts = jax.tree.leaves(thing, is_leaf=lambda part: part is not thing)
    return () if len(parts) == 1 and parts[0] is thing else parts


def _is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # which raises where nothing is in it yet
    except ValueError:
        return False
    return True


_PLAIN = (jax.Array, bool, int, float, complex, str, bytes)

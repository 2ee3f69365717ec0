"""Functions of the parameters, or of the whole state, that a run records."""

import inspect
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from equations.internal import abstract_value

Observables = dict[str, Callable]


def sees_state(function: Callable) -> bool:
    """Whether an observable takes two positional arguments, parameters and state: those without a default count."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return False
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(one.kind in positional and one.default is inspect.Parameter.empty for one in parameters) == 2


def _structure(function: Callable, *args: PyTree):
    """What an observable returns, by its structure; remembered unless that is no array."""
    try:
        return abstract_value(_called, function, *args)
    except Exception:  # says less than the error of a plain call
        return eqx.filter_eval_shape(function, *args)


def _called(function, *args):
    return function(*args)


def check_observe(observe, params: PyTree, state: Callable[[], PyTree] | None = None) -> Observables:
    """The observables as a dict of callables that give arrays; each is traced once.

    `state()` is the structure of the state of the equation, for those that take it beside the parameters; None where there
    is none to be seen.
    """
    if observe is None:
        return {}
    if not isinstance(observe, dict) or not all(isinstance(name, str) for name in observe):
        raise TypeError(
            f"Argument `observe` must be a dict from names to functions of the parameters, but {observe!r} was given."
        )
    slashes = [name for name in observe if "/" in name]
    if slashes:
        raise ValueError(
            f"Argument `observe` must have names without a slash, which NetCDF reads as a group, but "
            f"{slashes} was given."
        )
    reserved = {"path", "step", "time", "ok", "failed_at"} & set(observe)
    if reserved:
        raise ValueError(
            f"Argument `observe` must not use the names of the record itself, but {sorted(reserved)} was given."
        )
    for name, function in observe.items():
        if not callable(function):
            raise TypeError(f"Argument `observe` must hold callables, but observe[{name!r}] is {function!r}.")
        try:
            seen = (params, state()) if state is not None and sees_state(function) else (params,)
            value = _structure(function, *seen)
        except Exception as error:
            raise ValueError(
                f"Argument `observe`: observable {name!r} fails on `params`: {type(error).__name__}: {error}"
            ) from error
        array = isinstance(value, jax.ShapeDtypeStruct)
        if (
            not array
            and not isinstance(value, float | int)
            or array
            and jnp.issubdtype(value.dtype, jax.dtypes.extended)
        ):
            raise TypeError(f"Argument `observe`: observable {name!r} must return one array, but it returns {value!r}.")
        if array and jnp.issubdtype(value.dtype, jnp.complexfloating):
            raise TypeError(
                f"Argument `observe`: observable {name!r} must return real numbers, but it returns {value!r}."
            )
    return dict(observe)

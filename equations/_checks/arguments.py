"""Checks of arguments, made before any tracing: the message names the argument, what was given and what is allowed."""

import difflib
import numbers
import operator
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .once import is_traced, silent

LARGEST = 2**31 - 1  # of what a run counts: steps, paths, examples


def number(name: str, value, *, allowed: str, test) -> jax.Array:
    """`value` as a weakly typed scalar array, so that it never promotes a float32 parameter.

    `test` says which values are right, `allowed` says it in words. A traced value is tested when the program runs.
    """
    wording = f"Argument `{name}` must be {allowed}"
    if is_traced(value):
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"{wording}, but a traced {value.dtype} of shape {value.shape} was given.")
        return value if silent() else eqx.error_if(value, ~(jnp.isfinite(value) & test(value)), wording)
    if not _is_real(value):
        raise TypeError(f"{wording}, but {value!r} was given.")
    try:
        value = float(value)
    except OverflowError:  # an integer with so many digits that one had better not print it
        raise ValueError(f"{wording}, but a number beyond float64 was given.") from None
    with np.errstate(over="ignore"):  # in float32 a number may overflow, or round to a bound
        converted = np.asarray(value, jnp.result_type(float))
    if not (np.isfinite(converted) and test(converted)):
        raise ValueError(f"{wording}, but {value!r} was given.")
    return jnp.asarray(value)


def _is_real(value) -> bool:
    """Whether a value that is not traced is one real number; True and a time span are none."""
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if value.shape != () or jnp.issubdtype(value.dtype, np.timedelta64):
        return False
    return any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer))


def positive(name: str):
    """A field converter: a finite number above zero."""
    return lambda value: number(name, value, allowed="a positive finite number", test=lambda x: x > 0)


def nonnegative(name: str):
    """A field converter: a finite number, zero or more."""
    return lambda value: number(name, value, allowed="a finite number, zero or more", test=lambda x: x >= 0)


def seconds(name: str, value, allowed: Callable = positive) -> float:
    """A time as a plain number that `allowed` lets pass: numbers of steps follow from it before anything is traced."""
    if is_traced(value):
        raise TypeError(
            f"Argument `{name}` must be known before tracing, since it fixes numbers of steps, but {value!r} was given."
        )
    allowed(name)(value)
    return float(value)  # not the array, which may be of single precision


def decay(name: str):
    """A field converter: a decay rate, at least 0 and below 1."""
    return lambda value: number(
        name, value, allowed="a number from 0 up to, not including, 1", test=lambda x: (x >= 0) & (x < 1)
    )


def real_array(name: str, value, allowed: str) -> np.ndarray:
    """`value` as a NumPy array of float64; a TypeError where it holds anything but real numbers."""
    wording = f"Argument `{name}` must hold {allowed}, but"
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # lists of unequal lengths
        raise TypeError(f"{wording} {value!r} was given.") from None
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise TypeError(f"{wording} {value!r} was given.")
    return array.astype(float)


def flag(name: str):
    """A field converter: True or False."""

    def convert(value):
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"Argument `{name}` must be True or False, but {value!r} was given.")
        return bool(value)

    return convert


@overload
def integer(name: str, value, *, minimum: int = 1, maximum: int | None = None) -> int: ...


@overload
def integer(
    name: str, value, *, minimum: int = 1, maximum: int | None = None, optional: Literal[True]
) -> int | None: ...


def integer(name: str, value, *, minimum: int = 1, maximum: int | None = None, optional: bool = False) -> int | None:
    """`value` as a Python integer within the bounds."""
    allowed = f"an integer of at least {minimum}" + (f" and at most {maximum}" if maximum is not None else "")
    if optional:
        allowed += " or None"
        if value is None:
            return None
    wording = f"Argument `{name}` must be {allowed}, but {value!r} was given."
    if isinstance(value, bool | np.bool_):
        raise TypeError(wording)
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(wording) from None
    if value < minimum or (maximum is not None and value > maximum):
        raise ValueError(wording)
    return value


def typed_key(name: str, value, allowed: str = "a single typed key such as jax.random.key(0)") -> jax.Array:
    """`value`, if it is a typed key."""
    if not (eqx.is_array(value) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key) and value.shape == ()):
        raise TypeError(f"Argument `{name}` must be {allowed}, but {value!r} was given.")
    return value


def did_you_mean(given: Any, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A question with the nearest name that is known, to stand behind a message; nothing where none is near."""
    near = difflib.get_close_matches(str(given), list(known), n=1, cutoff=cutoff)
    return f" Did you mean {near[0]!r}?" if near else ""


def choice(name: str, value, allowed: tuple[str, ...]) -> str:
    """`value`, one of the strings that are allowed."""
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(
            f"Argument `{name}` must be one of {', '.join(map(repr, allowed))}, but {value!r} was given."
            + did_you_mean(value, allowed)
        )
    return value


def leaf_name(root: str, path) -> str:
    """`params` and the path to a leaf as one reads it in code: `params['w'][0]`."""
    return f"`{root}{jax.tree_util.keystr(path)}`"


def explicit_axes(array: jax.Array) -> tuple[str, ...]:
    """The explicit axes of a mesh along which an array, traced or not, is laid out."""
    return tuple(axis for axis in jax.typeof(array).sharding.spec if axis is not None)

"""What a user's class gives as its splitting and as its scaling limit: such a thing, of this equation, and read."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._scaling import MEASURES
from .facts import is_given_as
from .lineage import is_ours, users, within
from .old_names import old_name_of_part
from .own_names import shadowing

_WHOSE = {"splitting": "dynamics", "scaling_limit": "equation"}


def check_parts(thing: Any) -> None:
    """Raises a TypeError or ValueError unless the splitting and the scaling limit that a user's class gives are such, of
    this equation, with nothing that would not be read or stands in place of ours, and of values that they can have."""
    kind = type(thing)
    for method, whose in _WHOSE.items():
        if not users(kind, method):
            continue
        contract = method.title().replace("_", "")
        part = getattr(thing, method)()
        if not is_given_as(type(part), method):
            raise TypeError(
                f"Argument `equation` must have an equations.{contract} as its `{method}`, but {kind.__name__}.{method} "
                f"gives {part!r}."
            )
        if not is_ours(type(part)):
            message = (
                shadowing(type(part), "equation", contract)
                or old_name_of_part(type(part), method)
                or _unread(type(part))
            )
            if message is not None:
                raise TypeError(message)
        other = getattr(part, whose)
        if type(other) not in {kind, *(type(value) for value in vars(thing).values())}:
            raise TypeError(
                f"Argument `equation` must give a `{method}` of itself, `{type(part).__name__}(self, ...)`, but "
                f"{kind.__name__}.{method} gives that of {other!r}."
            )
        _check_values(kind, method, part, _STEPS if method == "splitting" else _LIMIT)
        if method == "scaling_limit":
            _check_names(kind, part)


def _unread(kind: type) -> str | None:
    """What to say where a user's class has an attribute in place of a field, which the constructor sets anyhow."""
    ours = [base for base in kind.__mro__ if is_ours(base) and dataclasses.is_dataclass(base)]
    for base in kind.__mro__:
        if is_ours(base):
            continue
        for name in sorted({*vars(base), *vars(base).get("__annotations__", {})}):
            field = next((field for field in dataclasses.fields(kind) if field.name == name), None)
            if field is not None and any(field in dataclasses.fields(owner) for owner in ours):
                if not field.init and name == "threshold":  # from which nothing follows
                    continue
                if not field.init:  # of what forwards one
                    return (
                        f"Argument `equation` must override methods in place of `{name}`, which only tells what the "
                        f"equation inside says, but {kind.__name__}.{name} was given."
                    )
                return (
                    f"Argument `equation` must have `{name}` given to the constructor, `{kind.__name__}(self, {name}=...)`"
                    f", but {kind.__name__}.{name}, an attribute of the class, was given, which is not read."
                )
    return None


def _is_number(value: Any) -> bool:
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return value.shape == () and any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer))
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _are_exponents(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) and _is_number(value[name]) for name in value)


def _is_optional(value: Any) -> bool:
    return value is None or _is_number(value)


_STEPS = {
    "kicks": ("1 or 2", lambda value: not isinstance(value, bool) and isinstance(value, int) and value in (1, 2)),
    "leapfrog": ("True or False", lambda value: isinstance(value, bool)),
    "smooth": ("True or False", lambda value: isinstance(value, bool)),
    "along_new_memory": ("True or False", lambda value: isinstance(value, bool)),
    "first_order": ("True or False", lambda value: isinstance(value, bool)),
    "substeps": (
        "a positive integer",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    ),
    "alternating": ("a function of the state or None", lambda value: value is None or callable(value)),
}
_LIMIT = {
    "time": ("a number or None", _is_optional),
    "decays": ("a mapping from names to exponents", _are_exponents),
    "powers": ("a mapping from names to exponents", _are_exponents),
    "batch": ("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "heat": ("True or False", lambda value: isinstance(value, bool)),
    "orders": (
        f"a mapping from some of {', '.join(map(repr, MEASURES))} to orders",
        lambda value: _are_exponents(value) and set(value) <= set(MEASURES),
    ),
    "memory": (
        "a tuple of names",
        lambda value: isinstance(value, tuple | list) and all(isinstance(name, str) for name in value),
    ),
    "threshold": ("a number or None", _is_optional),
}


def _check_values(kind: type, method: str, part: Any, allowed: dict) -> None:
    for name, (wanted, test) in allowed.items():
        value = getattr(part, name)
        if not test(value):
            what = "splitting" if method == "splitting" else "scaling limit"
            raise TypeError(
                f"Argument `equation` must have {wanted} as `{name}` of its {what}, but {kind.__name__}.{method} gives "
                f"{value!r}."
            )


def _check_names(kind: type, limit: Any) -> None:
    """Raises a ValueError for a name that is none of a number of the equation, or of one inside."""
    found = set()
    for equation in within(limit.equation):
        names = [field.name for field in dataclasses.fields(equation)]
        found |= {name for name in names if name != "learning_rate" and _is_number(getattr(equation, name))}
    for place in ("decays", "powers", "memory"):
        for name in getattr(limit, place):
            if name not in found:
                raise ValueError(
                    f"Argument `equation` must name fields of it that are numbers in `{place}` of its scaling limit"
                    + (f", such as {', '.join(map(repr, sorted(found)))}" if found else "")
                    + f", but {kind.__name__}.scaling_limit names {name!r}."
                )

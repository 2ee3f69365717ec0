"""Attributes of a user's class that stand in place of something else of ours, and values that ours could not have."""

import dataclasses
import functools
from typing import Any

import equinox as eqx

from .facts import is_given_as
from .lineage import is_ours, users

# What the properties of ours are, and what is allowed in their place.
_KINDS = {
    "gradient_noise": ("a noise model", lambda value: is_given_as(type(value), "noise_model")),
}


class _Nothing(eqx.Module):
    """What every class has in its namespace."""


def shadowing(kind: type, argument: str, contract: str) -> str | None:
    """What to say where a user's class has a field in place of a method or a property of ours, an attribute that cannot
    be called in place of a method, or anything at all under a private name of ours."""
    fields = {field.name for field in dataclasses.fields(kind)}
    for place, base in enumerate(kind.__mro__):
        if is_ours(base):
            continue
        for name in sorted({*vars(base), *vars(base).get("__annotations__", {})}):
            ours = _ours(kind.__mro__[place + 1 :], name)
            if ours is None:
                continue
            what = "a field" if name in fields else "an attribute"
            wording = f"Argument `{argument}` must not have {what} `{name}`, which is "
            if name.startswith("_"):
                if getattr(getattr(kind, name, None), "__override__", False):
                    continue
                return (
                    f"{wording}a private name of {ours.__name__}, but {kind.__name__} has one: give it another name. (A "
                    "method that is meant to replace ours says so by `override` of `typing` or `typing_extensions`.)"
                )
            theirs = vars(ours).get(name)
            method = callable(theirs)
            new = (
                name not in {field.name for field in dataclasses.fields(ours)}
                if dataclasses.is_dataclass(ours)
                else True
            )
            if new and name in fields and (method or isinstance(theirs, property | functools.cached_property)):
                return (
                    f"{wording}a {'method' if method else 'property'} of every {contract}, but {kind.__name__} has one: "
                    "give the field another name."
                )
            if method and not callable(getattr(kind, name)):
                return f"{wording}a method of every {contract}, but {kind.__name__} has one: give it another name."
            if isinstance(theirs, tuple) and (name in fields or not isinstance(getattr(kind, name), tuple)):
                return (
                    f"{wording}a tuple of names in {ours.__name__}, but {kind.__name__} has one: give it another name."
                )
    return None


def _ours(bases: tuple[type, ...], name: str) -> type | None:
    """The class of ours that a name belongs to."""
    if name in vars(_Nothing) or (name.startswith("__") and name.endswith("__")):
        return None
    return next((c for c in bases if is_ours(c) and name in _names(c)), None)


@functools.lru_cache(maxsize=256)
def _names(kind: type) -> set[str]:
    return {*vars(kind), *vars(kind).get("__annotations__", {})}


def check_unset(kind: type) -> None:
    """Raises a TypeError for a field without a value in place of a property, which no instance could be given."""
    for name, annotation in vars(kind).get("__annotations__", {}).items():
        inherited = isinstance(getattr(kind, name, None), property | functools.cached_property)
        if name in vars(kind) or not inherited or "ClassVar" in str(annotation) or is_ours(kind):
            continue
        if _ours(kind.__mro__[1:], name) is not None:
            raise TypeError(
                f"Argument `equation` must not have a field `{name}`, which is a property of every equation, but "
                f"{kind.__name__} has one: give the field another name."
            )


def check_values(thing: Any) -> None:
    """Raises a TypeError or ValueError where an attribute of a user's class in place of a property is no such value."""
    kind = type(thing)
    if is_ours(kind):
        return
    for name, (wanted, test) in _KINDS.items():
        if users(kind, name) and _has_ours(kind, name):
            value = getattr(thing, name)
            if not test(value):
                raise TypeError(
                    f"Argument `equation` must have {wanted} as `{name}`, but {kind.__name__}.{name} gives {value!r}."
                )


def _has_ours(kind: type, name: str) -> bool:
    return any(is_ours(base) and name in vars(base) for base in kind.__mro__)

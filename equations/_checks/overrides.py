"""What a user's class overrides, and a refusal where that would be ignored or taken for something else."""

import dataclasses
import functools
from typing import Any

from .lineage import definer, is_ours, newer
from .old_names import overridden_old_name
from .once import warn
from .own_names import check_values, shadowing
from .parts import check_parts

# What else to override, by the class of ours whose methods would not follow.
_INSTEAD = {
    "AbstractWrapped": "`mapped` or `added`",
    "AbstractSignEquation": "`velocity` and `drift` together",
    "Lion": "`velocity` and `drift` together",
    "SignSGD": "`velocity` and `drift` together",
}
# One of which an equation has to change for its learning rate to change; its scaling limit only tells of it.
_USE_THE_RATE = ("velocity", "twin", "held", "drift", "splitting", "mapped", "factor")

# Made of other members, which are to be overridden.
_FINAL = {
    "gradient": "`gradient_noise`, or `surrogate` of a signal,",
    "batches": "`gradient_noise`",
    "is_affine": "the class attribute `linear`, which is tried on numbers,",
    "series": "`twin`, whose series is taken,",
}

# Names that are looked for on the objects of a user, and what may stand under them.
_NAMES = {
    "AbstractDynamics": {},
    "AbstractSignal": {"value": "a method from the parameters to the loss"},
    "AbstractGradientNoise": {},
}


_ARGUMENTS = {"AbstractDynamics": "equation", "AbstractSignal": "objective", "AbstractGradientNoise": "noise_model"}


def check_class(thing: Any, reads: str = "equation") -> None:
    """Raises a TypeError unless all that the class of an equation or a signal overrides acts, and its attributes are not
    taken for ours; and so for all equations and signals inside.

    `reads` is what of an equation is needed: the `"equation"` as a solver steps it, the `"field"` of drift and diffusion,
    or the `"twin"`, in whose increment field the equation has no part.
    """
    message = _refusal(type(thing), reads)
    if message is None:
        if not is_ours(type(thing)) and _is(type(thing), "AbstractDynamics"):
            check_parts(thing)
        message = _half_done(thing, reads)
    if message is not None:
        raise TypeError(message)
    check_values(thing)
    inside = "twin" if _is(type(thing), "AbstractIncrement") else reads
    for field in dataclasses.fields(thing):
        inner = getattr(thing, field.name, None)
        if _contract(type(inner)) is not None:
            check_class(inner, inside)


def series_of(equation: Any) -> str | None:
    """The function that made an equation a series of its algorithm's step; None where it is none."""
    makers = {"Modified": "modified", "SlowManifold": "modified", "Corrected": "corrected"}
    return next((maker for name, maker in makers.items() if _is(type(equation), name)), None)


def has_field(equation: Any) -> bool:
    """Whether drift and diffusion say all of an equation."""
    try:
        check_class(equation, "field")
    except TypeError:
        return False
    return True


def check_series(equation: Any) -> None:
    """Warns where a class of the user's gives another drift, diffusion or velocity to an algorithm of ours and leaves its
    twin: the series of the twin does not know of it."""
    kind = type(equation)
    if not is_ours(kind) and _is(kind, "AbstractEquation") and is_ours(definer(kind, "twin")):
        found = [name for name in ("velocity", "drift", "diffusion", "splitting") if newer(kind, name, "twin")]
        if found:
            named = " and ".join(f"{kind.__name__}.{name}" for name in found)
            warn(
                f"The modified equation is a series of the twin, and {named} {'has' if len(found) == 1 else 'have'} no "
                f"part in it: it is that of {definer(kind, 'twin').__name__}. Give the class a `twin` of its own too."
            )
    for field in dataclasses.fields(equation):
        inner = getattr(equation, field.name, None)
        if _is(type(inner), "AbstractEquation"):
            check_series(inner)


def _is(kind: type, name: str) -> bool:
    """Whether a class is of one of ours."""
    return any(base.__name__ == name and is_ours(base) for base in kind.__mro__)


def _contract(kind: type) -> str | None:
    return next((name for name in _NAMES if _is(kind, name)), None)


@functools.lru_cache(maxsize=1024)
def _refusal(kind: type, reads: str) -> str | None:
    contract = _contract(kind)
    if is_ours(kind) or contract is None:
        return None
    named = (
        overridden_old_name(kind) or _name(kind, contract) if contract == "AbstractDynamics" else _name(kind, contract)
    )
    if named is not None:
        return named
    if contract == "AbstractSignal":
        found = next((name for name in ("gradient", "size") if _users(kind, name)), None)
        return found and _wording(
            kind, found, "`surrogate`, from which gradients, noise and derivatives are taken,", "objective"
        )
    found = _ignored(kind, reads) if contract == "AbstractDynamics" else None
    return found and _wording(kind, *found)


def _wording(kind: type, name: str, instead: str, argument: str = "equation") -> str:
    return (
        f"Argument `{argument}` must override {instead} in place of `{name}` alone, which would be ignored in some runs, "
        f"but {kind.__name__}.{name} was given."
    )


def _users(kind: type, name: str) -> bool:
    """Whether a class of the user's defines a method."""
    return name in dir(kind) and not is_ours(definer(kind, name))


def _ignored(kind: type, reads: str) -> tuple[str, str] | None:
    """A method whose override would not reach all that a run uses, and what to override in its place."""
    new = functools.partial(newer, kind)
    if not _is(kind, "AbstractEquation"):
        return ("series", "nothing") if _users(kind, "series") else None
    for name, instead in _FINAL.items():
        if _users(kind, name):
            return name, instead
    if reads == "twin":
        return None
    drift, diffusion = definer(kind, "drift"), definer(kind, "diffusion")
    if new("velocity", "drift") and is_ours(drift) and drift.__name__ != "AbstractEquation":
        return "velocity", _INSTEAD.get(drift.__name__, "`drift`")
    closed = is_ours(diffusion) and diffusion.__name__ != "AbstractEquation"
    if reads == "field" and new("velocity", "diffusion") and closed:
        return "velocity", "`diffusion` as well, which is read here,"
    return None


def _half_done(thing: Any, reads: str) -> str | None:
    """A splitting or a scaling limit of the user's that says what his class does not do elsewhere."""
    kind = type(thing)
    if is_ours(kind) or _contract(kind) != "AbstractDynamics":
        return None
    if reads == "field" and newer(kind, "splitting", "diffusion"):
        splitting = type(thing.splitting())
        if not is_ours(definer(splitting, "kick")):
            return _wording(kind, "splitting", "`diffusion` as well, which is read here,")
    if reads == "equation" and newer(kind, "diffusion", "splitting") and _is_singular(thing):
        return _wording(kind, "diffusion", "`gradient_noise`, or `splitting` as well, whose first step is needed,")
    if reads == "equation" and _users(kind, "splitting") and _is_singular(thing):
        steps = type(thing.splitting())
        if definer(steps, "start").__name__ == "Splitting":
            return (
                "Argument `equation` must have a first step, `start`, in its splitting, as has the class that "
                f"`super().splitting()` gives, but {kind.__name__}.splitting gives a {steps.__name__} without one."
            )
    if _is(kind, "AbstractEquation") and _users(kind, "scaling_limit"):
        told = not is_ours(definer(type(thing.scaling_limit()), "learning_rate_at"))
        if told and all(newer(kind, "scaling_limit", name) for name in _USE_THE_RATE if hasattr(kind, name)):
            return _wording(kind, "scaling_limit", "`velocity` and `twin` as well, or use `scheduled`,")
    return None


def _is_singular(thing: Any) -> bool:
    """Whether the first step of an equation must be the algorithm's, or that of the equation in a wrapper."""
    if _is(type(thing), "AbstractWrapped"):
        return _is_singular(thing.equation)
    return _is(type(thing), "AbstractAdaptive")


def _name(kind: type, contract: str) -> str | None:
    """An attribute of the user's under a name that we look for, or in place of something else of ours."""
    argument = _ARGUMENTS[contract]
    shadow = shadowing(kind, argument, contract)
    if shadow is not None:
        return shadow
    fields = {field.name for field in dataclasses.fields(kind)}
    for base in kind.__mro__:
        if is_ours(base):
            continue
        own = set(vars(base)) | set(vars(base).get("__annotations__", {}))
        for name in sorted(own & set(_NAMES[contract])):
            ours = any(is_ours(c) and name in {*vars(c), *_fields(c)} for c in base.__mro__)
            value = vars(base).get(name)
            if not ours and not _allowed(kind, name, value, name in fields):
                meant = _NAMES[contract][name]
                return (
                    f"Argument `{argument}` must not have {'a field' if name in fields else 'an attribute'} `{name}`, "
                    + (f"unless it is {meant}" if meant else "a name that is looked for on equations of this package")
                    + f", but {kind.__name__} has one: give it another name."
                )
    return None


def _fields(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()


def _allowed(kind: type, name: str, value, field: bool) -> bool:
    """Whether what stands under a name that we look for is what we look for."""
    return callable(value) and not field

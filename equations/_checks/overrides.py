"""What a user's class overrides, and a refusal where that would be ignored or taken for something else."""

import dataclasses
import functools
from typing import Any

from .lineage import definer, is_ours, newer
from .once import warn
from .own_names import check_values, shadowing

# What else to override, by the class of ours whose methods would not follow.
_INSTEAD = {
    "AbstractWrapped": "`mapped` or `added`",
    "AbstractSignEquation": "`velocity` and `drift` together",
    "Lion": "`velocity` and `drift` together",
    "SignSGD": "`velocity` and `drift` together",
    "AbstractAdaptive": "`velocity`",
    "AbstractIncrement": "`velocity`",
    "Modified": "`drift`",
}
_FOLLOW_DRIFT = (
    "AbstractEquation",
    "AbstractDynamics",
    "Modified",
)  # whose flow is made of `self.drift` where it is new
_FOLLOW_DIFFUSION = ("AbstractEquation", "AbstractDynamics")  # whose kick is made of `self.diffusion` where it is new
# One of which an equation has to change for its learning rate to change; `learning_rate_at` gives the recorded times.
_USE_THE_RATE = ("velocity", "twin", "held", "drift", "flow", "mapped", "factor")

# Names that are looked for on the objects of a user, and what may stand under them: nothing, a method, or more.
_NAMES = {
    "AbstractDynamics": {
        **dict.fromkeys(("increment", "modified", "remainder", "order", "fluctuations", "equation"), None),
        "resumed": "a method from parameters and memory to the state",
        "learning_rate_at": "a method from the training step to its learning rate",
        "decays": "a tuple of the names of decay rates",
        "delay": "a number of seconds",
    },
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
    makers = {"Modified": "modified", "Slaved": "modified", "Corrected": "corrected"}
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
        found = [name for name in ("velocity", "drift", "diffusion", "kick", "flow") if newer(kind, name, "twin")]
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
    named = _name(kind, contract)
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
    algorithm = _is(kind, "AbstractEquation")
    if algorithm:
        if _users(kind, "gradient"):
            return "gradient", "`gradient_noise`, or `surrogate` of a signal,"
        if _users(kind, "batches"):
            return "batches", "`gradient_noise`"
        if _users(kind, "is_affine"):
            return "is_affine", "the class attribute `linear`, which is tried on numbers,"
        if all(new("learning_rate_at", name) for name in _USE_THE_RATE if hasattr(kind, name)):
            return "learning_rate_at", "`velocity` and `twin` as well, or use `scheduled`,"
    if reads == "twin":
        return None
    if new("flow", "kick") and new("flow", "drift"):
        return "flow", "`drift`"
    if new("euler", "drift") and (new("euler", "flow") or new("euler", "kick")):
        return "euler", "`drift` and `diffusion`, or `flow` and `kick`,"
    if new("noise", "kick") and new("noise", "diffusion"):
        return "noise", "`kick` with `noise`, or `diffusion`,"
    if reads == "field" and new("kick", "diffusion"):
        return "kick", "`diffusion` as well, which is read here,"
    return _ignored_by_algorithm(kind, reads) if algorithm else None


def _ignored_by_algorithm(kind: type, reads: str) -> tuple[str, str] | None:
    """The same for what an equation derives of its velocity."""
    new = functools.partial(newer, kind)
    by = lambda name: definer(kind, name).__name__  # noqa: E731
    if new("velocity", "drift") and is_ours(definer(kind, "drift")) and by("drift") != "AbstractEquation":
        return "velocity", _INSTEAD.get(by("drift"), "`drift`")
    closed = is_ours(definer(kind, "diffusion")) and by("diffusion") != "AbstractEquation"
    if reads == "field" and new("velocity", "diffusion") and closed:
        return "velocity", "`diffusion` as well, which is read here,"
    sign = _is(kind, "AbstractSignEquation")
    if sign and new("drift", "velocity"):
        return "drift", _INSTEAD["AbstractSignEquation"]
    if new("drift", "flow") and not sign and by("flow") not in _FOLLOW_DRIFT:
        return "drift", _INSTEAD.get(by("flow"), "`flow` as well")
    if new("diffusion", "kick"):
        follow = by("kick") in _FOLLOW_DIFFUSION and (by("flow") in _FOLLOW_DIFFUSION or sign)
        if not follow and not (_users(kind, "kick") and not _users(kind, "flow")):
            wrapped = by("kick") == "AbstractWrapped"
            return "diffusion", "`mapped`" if wrapped else "`gradient_noise`, or `kick` as well,"
    return None


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
    if name in ("resumed", "learning_rate_at", "value"):
        return callable(value) and not field
    if name == "decays":
        return not field and isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    return name == "delay" and not _is(kind, "AbstractEquation")

"""What a user's class overrides, and a refusal where that would be ignored or taken for something else."""

import dataclasses
import functools
from typing import Any

from .facts import facts, is_contract, is_given_as, root, told_by
from .lineage import definer, inside, is_ours, newer, overrides, users
from .noise_models import unheard
from .old_names import overridden_old_name
from .once import warn
from .own_names import check_values, shadowing
from .parts import check_parts

# One of which an equation has to change for its learning rate to change; its scaling limit only tells of it.
_USE_THE_RATE = ("velocity", "twin", "held", "drift", "splitting", "mapped", "factor")

# Made of other members, which are to be overridden.
_FINAL = {
    "gradient": "`gradient_noise`, or `surrogate` of a signal,",
    "batches": "`gradient_noise`",
    "is_affine": "the class attribute `linear`, which is tried on numbers,",
    "series": "`twin`, whose series is taken,",
    "random": "`gradient_noise` or `diffusion`, which tell it,",
    "sees": "`surrogate` of a signal",
}


def check_class(thing: Any, reads: str = "equation") -> None:
    """Raises a TypeError unless all that the class of an equation or a signal overrides acts, and its attributes are not
    taken for ours; and so for all equations and signals inside.

    `reads` is what of an equation is needed: the `"equation"` as a solver steps it, the `"field"` of drift and diffusion,
    or the `"twin"`, in whose increment field the equation has no part.
    """
    message = _refusal(type(thing), reads)
    if message is None:
        if not is_ours(type(thing)) and is_given_as(type(thing), "equation"):
            check_parts(thing)
        message = _half_done(thing, reads)
    if message is not None:
        raise TypeError(message)
    check_values(thing)
    told = facts(type(thing))
    further = reads if told is None or told.reads is None else told.reads
    for field in dataclasses.fields(thing):
        inner = getattr(thing, field.name, None)
        if facts(type(inner)) is not None:
            check_class(inner, further)


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
    if not is_ours(kind) and is_ours(definer(kind, "twin")):
        found = [name for name in ("velocity", "drift", "diffusion", "splitting") if newer(kind, name, "twin")]
        if found:
            named = " and ".join(f"{kind.__name__}.{name}" for name in found)
            warn(
                f"The modified equation is a series of the twin, and {named} {'has' if len(found) == 1 else 'have'} no "
                f"part in it: it is that of {definer(kind, 'twin').__name__}. Give the class a `twin` of its own too."
            )
    inner = inside(equation)
    if inner is not None:
        check_series(inner)


@functools.lru_cache(maxsize=1024)
def _refusal(kind: type, reads: str) -> str | None:
    told = facts(kind)
    if is_ours(kind) or told is None:
        return None
    argument = told.argument
    named = (overridden_old_name(kind) if argument == "equation" else None) or _name(kind)
    if named is not None:
        return named
    if argument == "noise_model":
        return unheard(kind)
    if argument == "objective":
        found = next((name for name in ("gradient", "size") if users(kind, name)), None)
        return found and _wording(
            kind, found, "`surrogate`, from which gradients, noise and derivatives are taken,", argument
        )
    found = _ignored(kind, reads) if argument == "equation" else None
    return found and _wording(kind, *found)


def _wording(kind: type, name: str, instead: str, argument: str = "equation") -> str:
    return (
        f"Argument `{argument}` must override {instead} in place of `{name}` alone, which would be ignored in some runs, "
        f"but {kind.__name__}.{name} was given."
    )


def _ignored(kind: type, reads: str) -> tuple[str, str] | None:
    """A method whose override would not reach all that a run uses, and what to override in its place."""
    new = functools.partial(newer, kind)
    if not told_by(kind).algorithm:
        return ("series", "nothing") if users(kind, "series") else None
    for name, instead in _FINAL.items():
        if users(kind, name):
            return name, instead
    if reads == "twin":
        return None
    drift, diffusion = definer(kind, "drift"), definer(kind, "diffusion")
    if new("velocity", "drift") and is_ours(drift) and not is_contract(drift):
        return "velocity", told_by(drift).instead
    closed = is_ours(diffusion) and not is_contract(diffusion)
    if reads == "field" and new("velocity", "diffusion") and closed:
        return "velocity", "`diffusion` as well, which is read here,"
    return None


def _half_done(thing: Any, reads: str) -> str | None:
    """A splitting or a scaling limit of the user's that says what his class does not do elsewhere."""
    kind = type(thing)
    if is_ours(kind) or not is_given_as(kind, "equation"):
        return None
    if reads == "field" and newer(kind, "splitting", "diffusion"):
        splitting = type(thing.splitting())
        if not is_ours(definer(splitting, "kick")):
            return _wording(kind, "splitting", "`diffusion` as well, which is read here,")
    if reads == "equation" and newer(kind, "diffusion", "splitting") and _is_singular(thing):
        return _wording(kind, "diffusion", "`gradient_noise`, or `splitting` as well, whose first step is needed,")
    if reads == "equation" and users(kind, "splitting") and _is_singular(thing):
        steps = type(thing.splitting())
        if not overrides(steps, "start"):
            return (
                "Argument `equation` must have a first step, `start`, in its splitting, as has the class that "
                f"`super().splitting()` gives, but {kind.__name__}.splitting gives a {steps.__name__} without one."
            )
    if told_by(kind).algorithm and users(kind, "scaling_limit"):
        told = not is_ours(definer(type(thing.scaling_limit()), "learning_rate_at"))
        if told and all(newer(kind, "scaling_limit", name) for name in _USE_THE_RATE if hasattr(kind, name)):
            return _wording(kind, "scaling_limit", "`velocity` and `twin` as well, or use `scheduled`,")
    return None


def _is_singular(thing: Any) -> bool:
    """Whether the first step of an equation must be the algorithm's, or that of the equation in a wrapper."""
    singular = told_by(type(thing)).singular
    return _is_singular(thing.equation) if singular is None else singular


def _name(kind: type) -> str | None:
    """An attribute of the user's in place of something else of ours, or under the name of a method that he may give."""
    told, contract = told_by(kind), root(kind)
    shadow = shadowing(kind, told.argument, contract.__name__)
    if shadow is not None or told.own_method is None:
        return shadow
    name, meant = told.own_method
    owner = next((base for base in kind.__mro__ if name in {*vars(base), *vars(base).get("__annotations__", {})}), None)
    if owner is None or is_ours(owner):
        return None
    field = name in {field.name for field in dataclasses.fields(kind)}
    if not field and callable(vars(owner).get(name)):
        return None
    what = "a field" if field else "an attribute"
    return (
        f"Argument `{told.argument}` must not have {what} `{name}`, unless it is {meant}, but {kind.__name__} has one: "
        "give it another name."
    )

"""Names of the contract before its members were grouped, kept for one release."""

import functools
from collections.abc import Callable
from typing import Any

from .facts import acts_late
from .lineage import inside, is_ours
from .once import warn

# Where each is now: a member of what `splitting()` or `scaling_limit()` returns.
_SPLITTING = {
    "flow": "flow", "kick": "kick", "noise": "noise", "start": "start", "kicks": "kicks", "euler": "euler",
    "leapfrog": "leapfrog", "bounded": "clip_noise", "has_series": "smooth", "resumed": "resumed",
}  # fmt: skip
_LIMIT = {
    "rescaled": "rescaled", "time_per_step": "time_per_step", "variance_scale": "variance_scale",
    "claim": "claimed_order", "learning_rate_at": "learning_rate_at", "decays": "decays",
}  # fmt: skip
_MOVED = {"between": "held", "inner": "equation", "leading": "equation", "source": "equation"}
# Of a circuit alone, and what is said in place of the checks that one used to override.
_CIRCUITS = ("check_step", "delayed")
_CHECKS = {"check_noise": "splitting().check_noise", "check_sampling": "check"}
_PLACES = {
    **{old: f"splitting().{new}" for old, new in _SPLITTING.items()},
    **{old: f"scaling_limit().{new}" for old, new in _LIMIT.items()},
    **_MOVED,
}


def old_attribute(equation: Any, name: str, split: Callable, check_sampling: Callable) -> Any:
    """What stands under an old name now, with a DeprecationWarning; an AttributeError for all other names.

    `split` gives the splitting of an equation, and `check_sampling` is what a method has become.
    """
    kind = type(equation)
    if name in dir(kind):  # a property of the user's has failed: with the error that it has failed with
        return object.__getattribute__(equation, name)
    if name in _CHECKS or name == "check_step":
        return _old_check(equation, name, split, check_sampling)
    missing = _MOVED.get(name) == "equation" and inside(equation) is None
    if name not in _PLACES or missing:
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
    warn(f"{kind.__name__}.{name} is now {kind.__name__}.{_PLACES[name]}.", DeprecationWarning)
    if name in _SPLITTING:
        return getattr(split(equation), _SPLITTING[name])
    if name in _LIMIT:
        return getattr(equation.scaling_limit(), _LIMIT[name])
    return getattr(equation, _MOVED[name])


def _old_check(equation: Any, name: str, split: Callable, check_sampling: Callable) -> Any:
    """A check under its old name. What no circuit is has nothing to check of a solver's step."""
    kind = type(equation).__name__
    place = f"{kind}.{_CHECKS[name]}" if name in _CHECKS else "that of an AbstractCircuit"
    warn(f"{kind}.{name} is now {place}.", DeprecationWarning)
    if name == "check_step":
        return lambda dt: None
    if name == "check_noise":
        return split(equation).check_noise
    return functools.partial(check_sampling, equation)


def overridden_old_name(kind: type) -> str | None:
    """What to say where a user's class overrides a method under its old name, which nobody calls any more."""
    is_circuit = acts_late(kind)
    for base in kind.__mro__:
        if is_ours(base):
            continue
        for name in () if is_circuit else sorted(set(vars(base)) & {*_CIRCUITS}):
            return (
                f"Argument `equation` must derive from AbstractCircuit to have `{name}`, which nobody asks any other "
                f"dynamics for, but {kind.__name__}.{name} was given."
            )
        for name in sorted(set(vars(base)) & {*_SPLITTING, *_LIMIT, *_CHECKS, "between"}):
            member = vars(base)[name]
            if callable(member) or isinstance(member, property) or name in ("leapfrog", "has_series", "kicks"):
                return (
                    f"Argument `equation` must override `{(_PLACES | _CHECKS)[name]}` in place of `{name}`, which is no "
                    f"method of an equation any more, but {kind.__name__}.{name} was given."
                )
    return None


def old_name_of_part(kind: type, method: str) -> str | None:
    """The same of the class of a splitting or of a scaling limit: an old name in it, or one of the other's."""
    contract = method.title().replace("_", "")
    mine, others = (_SPLITTING, _LIMIT) if method == "splitting" else (_LIMIT, _SPLITTING)
    gone = {old: new for old, new in mine.items() if old != new}
    for base in kind.__mro__:
        for name in () if is_ours(base) else sorted(set(vars(base)) & {*gone, *others}):
            instead = f"`{gone[name]}`" if name in gone else f"`{_PLACES[name]}` of the equation"
            return (
                f"Argument `equation` must override {instead} in place of `{name}`, which is no member of a {contract}, "
                f"but {kind.__name__}.{name} was given."
            )
    return None

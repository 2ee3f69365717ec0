"""Names of the contract before its members were grouped, kept for one release."""

from typing import Any

from .lineage import is_ours
from .once import warn

# Where each is now: a member of what `splitting()` or `scaling_limit()` returns.
_SPLITTING = {
    "flow": "flow", "kick": "kick", "noise": "noise", "start": "start", "kicks": "kicks", "euler": "euler",
    "leapfrog": "leapfrog", "bounded": "clip_noise", "has_series": "smooth", "resumed": "resumed",
}  # fmt: skip
_LIMIT = {
    "rescaled": "rescaled", "time_per_step": "time_per_step", "variance_scale": "variance_scale",
    "claim": "claimed_order", "learning_rate_at": "learning_rate_at",
}  # fmt: skip
_MOVED = {"between": "held", "inner": "equation", "leading": "equation", "source": "equation"}
_PLACES = {
    **{old: f"splitting().{new}" for old, new in _SPLITTING.items()},
    **{old: f"scaling_limit().{new}" for old, new in _LIMIT.items()},
    **_MOVED,
}


def old_attribute(equation: Any, name: str) -> Any:
    """What stands under an old name now, with a DeprecationWarning; an AttributeError for all other names."""
    kind = type(equation)
    missing = _MOVED.get(name) == "equation" and "equation" not in vars(equation)
    if name not in _PLACES or missing:
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
    warn(f"{kind.__name__}.{name} is now {kind.__name__}.{_PLACES[name]}.", DeprecationWarning)
    if name in _SPLITTING:
        from .._splitting import split

        return getattr(split(equation), _SPLITTING[name])
    if name in _LIMIT:
        return getattr(equation.scaling_limit(), _LIMIT[name])
    return getattr(equation, _MOVED[name])


def overridden_old_name(kind: type) -> str | None:
    """What to say where a user's class overrides a method under its old name, which nobody calls any more."""
    for base in kind.__mro__:
        if is_ours(base):
            continue
        for name in sorted(set(vars(base)) & {*_SPLITTING, *_LIMIT, "between"}):
            member = vars(base)[name]
            if callable(member) or isinstance(member, property) or name in ("leapfrog", "has_series", "kicks"):
                return (
                    f"Argument `equation` must override `{_PLACES[name]}` in place of `{name}`, which is no method of an "
                    f"equation any more, but {kind.__name__}.{name} was given."
                )
    return None

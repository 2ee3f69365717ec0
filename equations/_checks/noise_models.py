"""What a user's model of noise overrides of one of ours: all that the noise is made of, or nothing."""

import functools

from .lineage import definer, is_ours, overrides, users

# By which a solver, the algorithm under Gaussian noise and the rule of the sign know the noise, each by its own way.
_SAYS = (
    "structure", "kicked", "delta", "gaussian", "draw", "root", "parts", "mean", "variance", "expected_sign", "own",
    "own_structure", "injected", "real",
)  # fmt: skip


@functools.lru_cache(maxsize=1024)
def unheard(kind: type) -> str | None:
    """Why a class would be ignored in some runs: it overrides a part of a noise whose other parts do not follow from it."""
    mine = [name for name in _SAYS if users(kind, name)]
    rest = [name for name in _SAYS if name in dir(kind) and name not in mine and overrides(kind, name)]
    if not (mine and rest):
        return None
    base = next(base.__name__ for base in kind.__mro__ if is_ours(base))
    of = definer(kind, mine[0]).__name__
    return (
        f"Argument `noise_model` must derive from `equations.AbstractGradientNoise` and give `structure` and `delta`, from "
        f"which all else follows, where it overrides a part of {base}, but {of}.{mine[0]} was given, of which "
        f"{_listed(rest)} of {base} would know nothing."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:3]) + (" and more" if len(names) > 3 else "")

"""What the noise of a run is drawn from: normal numbers, or two or three values where moments alone are wanted."""

from typing import Any

import diffrax as dfx

from equations.internal import definer, is_ours, split

from ._choice import draws_normals
from ._paths.strang import Steps
from ._problem import Problem

LAWS = ("gaussian", "three-point", "two-point")


def check_increments(given: Any) -> str | None:
    """The law that a user asks for, or None.

    **Raises:** ValueError for any other word.
    """
    if given is not None and given not in LAWS:
        words = ", ".join(map(repr, LAWS))
        raise ValueError(f"Argument `increments` must be one of {words}, or None, but {given!r} was given.")
    return given


def refuse_passed(given: str | None, solver: Any) -> None:
    """Raises a ValueError where a solver of Diffrax's own, which draws as Diffrax does, is asked for another law."""
    if given not in (None, "gaussian"):
        wanted = f"'gaussian' or None for {solver!r}, whose noise is Diffrax's"
        raise ValueError(f"Argument `increments` must be {wanted}, but {given!r} was given.")


def law_of(problem: Problem, solver: Any, given: str | None, moments: bool) -> str:
    """The law of a run: as asked for; where moments alone are kept the simplest that keeps the weak order; else normal.

    **Arguments:** `moments`, whether means and variances over paths are all that is kept.

    **Raises:** ValueError where another law than the normal one would change moments too.
    """
    if given is None and problem.start is not None:
        before = problem.start.checkpoint.how[2:]
        given = before[0] if before and problem.start.checkpoint.kind == "equation" else None
    if given in (None, "gaussian") and not moments:
        return "gaussian"
    words = _obstacle(problem, solver)
    if given is None:
        return "gaussian" if words else "two-point" if isinstance(solver, dfx.Euler) else "three-point"
    if given != "gaussian" and words:
        raise ValueError(f"Argument `increments` must be 'gaussian' or None for {words}, but {given!r} was given.")
    return given


def _obstacle(problem: Problem, solver: Any) -> str | None:
    """Why the noise must be normal; None if it need not be."""
    equation, name = problem.equation, type(problem.equation).__name__
    if problem.noise is None:
        return f"{name}, which has no noise"
    if problem.stream is not None:
        return "a stream of stimuli"
    if not (isinstance(solver, dfx.Euler) or Steps(solver).apart):
        return f"{solver!r}, which draws by itself"
    splitting = split(equation)
    if not all(is_ours(definer(type(splitting), hook)) for hook in ("kick", "euler", "noise")):
        return f"{name}, whose kicks are its own, of which no more is known than that they are right for normal numbers"
    if not splitting.noise_is_of_a_gradient:
        return None
    if not equation.is_affine(equation.init(problem.dynamic)):
        return f"{name}, whose velocity is not affine in the gradient, so that more than two moments of the noise act on it"
    return None if draws_normals(problem) else f"{name}, whose kicks draw keys"


def told(law: str, solver: Any) -> tuple[tuple[str, str], ...]:
    """What the details of a result say of it."""
    if law == "gaussian":
        return ()
    order = 1 if law == "two-point" else min(2, solver.order(None))
    return (
        ("increments", f"{law}: means and variances are of weak order {order}, no other property of paths is meant"),
    )

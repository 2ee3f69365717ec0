"""What the state of a run is a state of: the rule that it is the memory of, and its leaves by name."""

from typing import Any

import jax
from jaxtyping import PyTree

from equations.internal import form, inside

from ._arguments.partly import wholly
from ._paths.progress import Progress, names_of

_PARTS = ("recorded", "running")


def rule_of(equation: Any) -> str:
    """The class that gives a memory its meaning, by name: the one inside of all others."""
    equation = wholly(equation)
    inner = inside(equation)
    return type(equation).__name__ if inner is None else rule_of(inner)


def difference(found: Progress, rule: str, expected: Progress, equation: Any, params: PyTree) -> str | None:
    """What of a state that a run ended with, leaves `(paths, ...)`, is not as in the state that another goes on with.

    None where they are alike. One of parameters alone is that of any rule. Numbers of rules may be others.
    """
    memory = len(jax.tree.leaves(expected.recorded)) > len(jax.tree.leaves(params))
    if memory and rule != rule_of(equation):
        return f"it is that of {rule} and not of {rule_of(equation)}"
    for part in _PARTS:
        wrong = _other_leaves(vars(found)[part], vars(expected)[part])
        if wrong is not None:
            return wrong
    if form(found, 1) != form(expected):
        return "its classes, or what in them is no array, are others"
    return None


def _other_leaves(found: PyTree, expected: PyTree) -> str | None:
    has, wants = names_of(found), names_of(expected)
    if has != wants:
        more, less = [n for n in has if n not in wants], [n for n in wants if n not in has]
        if not more and not less:
            return f"its leaves come in another order, {list(has)} and not {list(wants)}"
        return f"it has {more or 'nothing'} where that of the run has {less or 'nothing'}"
    for name, ours, theirs in zip(has, jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        own = ours.shape[1:], str(ours.dtype)
        if own != (theirs.shape, str(theirs.dtype)):
            what = f"leaf `{name}`" if name else "array"
            return f"its {what} is of {own} and not of {(theirs.shape, str(theirs.dtype))}"
    return None

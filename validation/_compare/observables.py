"""What is observed where the user does not say."""

from collections.abc import Callable

from jaxtyping import PyTree

from dynamics.internal import Observables, check_observe
from equations import AbstractSignal


def observables(
    observe,
    objective: AbstractSignal,
    params: PyTree,
    more: Observables | None = None,
    state: Callable[[], PyTree] | None = None,
) -> Observables:
    """`observe`, checked; for None the objective's `value` as `"loss"`, if it has one, and `more`.

    **Raises:** TypeError or ValueError, naming the argument `observe`, also where there is nothing to observe.
    """
    given = observe
    if observe is None:
        observe = ({"loss": objective.value} if objective.has_value else {}) | (more or {})
    if isinstance(observe, dict) and not observe:
        raise ValueError(f"Argument `observe` must hold at least one observable, but {given!r} was given.")
    return check_observe(observe, params, state)

"""The average of the weights that a run keeps, in its state and as an observable."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ._signals.base import is_parameter


class AveragedState(eqx.Module):
    """The state of the equation inside, and the average of its parameters, like these."""

    equation: PyTree
    averaged: PyTree


class AverageMemory(NamedTuple):
    """The memory of the optimizer inside, the average, and how many training steps are in it where that matters."""

    inner: Any
    averaged: Any
    count: Any = None


def at_average(function: Callable | None = None) -> Callable[[PyTree, PyTree], Any]:
    """An observable of `(params, state)`: a function of the parameters at the average that a run keeps of them.

    That of `averaged`, or the point at which a schedule-free optimizer of Optax is evaluated,
    `optax.contrib.schedule_free_eval_params`.

    **Arguments:**

    - `function`: from parameters to an array; by default all that is averaged, as one vector.
    """
    return _AtAverage(function)


class _AtAverage(eqx.Module):
    """Equal for equal functions, so that nothing is compiled twice."""

    function: Callable | None

    def __call__(self, params: PyTree, state: PyTree) -> Any:
        average = _average(params, state)
        if self.function is None:
            return ravel_pytree(eqx.filter(average, is_parameter))[0]
        return self.function(average)


def _average(params: PyTree, state: PyTree) -> PyTree:
    """The average in a state, like `params`; a ValueError where it holds none."""
    kinds = (AveragedState, AverageMemory, optax.contrib.ScheduleFreeState)
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds))
    found = next((node for node in nodes if isinstance(node, kinds)), None)
    if found is None:
        raise ValueError(
            "Argument `equation` must keep an average of the weights to be observed at, as equations.averaged or a "
            "schedule-free optimizer of Optax does, but there is none in its state."
        )
    if not isinstance(found, optax.contrib.ScheduleFreeState):
        return eqx.combine(found.averaged, params)
    trained, rest = eqx.partition(params, is_parameter)
    return eqx.combine(optax.contrib.schedule_free_eval_params(found, trained), rest)

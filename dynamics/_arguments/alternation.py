"""Observables of an algorithm that alternates about a center: there, and on average over where it is in turn."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import split

from .observables import Observables, check_observe, sees_state

OSCILLATION = "oscillation"
_AVERAGE = "_average"


def average_of(name: str) -> str:
    """The name under which the average of an observable is recorded."""
    return name + _AVERAGE


def averages_in(observables: dict[str, Array]) -> dict[str, Array]:
    """The averages by the names of what they are of."""
    found = {name.removesuffix(_AVERAGE): value for name, value in observables.items() if name.endswith(_AVERAGE)}
    return {name: value for name, value in found.items() if name in observables}


def observables_of(
    observe: Any, params: PyTree, state: Callable[[], PyTree], dynamics: AbstractDynamics
) -> Observables:
    """What `check_observe` gives, with what alternates."""
    return with_alternation(check_observe(observe, params, state), dynamics)


def with_alternation(observe: Observables, dynamics: AbstractDynamics) -> Observables:
    """The observables of an equation in which the algorithm alternates, as its splitting says; of all others as they are.

    Each is taken at the center; beside it stands its average over the parameters that the algorithm is at in turn, but for
    functions of the state, which is known of the center alone, and the mean square of the oscillation.

    **Raises:** ValueError for a name that is needed here.
    """
    places = split(dynamics).alternating
    if places is None:
        return observe
    taken = {OSCILLATION, *map(average_of, observe)} & set(observe)
    if taken:
        raise ValueError(
            f"Argument `observe` must not use the names that a {type(dynamics).__name__} records itself, but "
            f"{sorted(taken)} was given."
        )
    seen: Observables = {name: _AtCenter(function, places) for name, function in observe.items()}
    for name, function in observe.items():
        if not sees_state(function):
            seen[average_of(name)] = _Average(function, places)
    return seen | {OSCILLATION: _Oscillation(places)}


class _AtCenter(eqx.Module):
    function: Callable
    places: Callable[[PyTree], PyTree] = eqx.field(static=True)

    def __call__(self, params: PyTree, state: PyTree) -> Any:
        center = eqx.combine(_middle(self.places(state)), params)
        return self.function(center, state) if sees_state(self.function) else self.function(center)


class _Average(eqx.Module):
    function: Callable
    places: Callable[[PyTree], PyTree] = eqx.field(static=True)

    def __call__(self, params: PyTree, state: PyTree) -> Array:
        value = lambda place: jnp.asarray(self.function(eqx.combine(place, params)), float)  # noqa: E731
        return jnp.mean(jax.lax.map(value, self.places(state)), axis=0)


class _Oscillation(eqx.Module):
    places: Callable[[PyTree], PyTree] = eqx.field(static=True)

    def __call__(self, params: PyTree, state: PyTree) -> Array:
        places = self.places(state)
        apart = jax.tree.map(lambda leaf, mean: leaf - mean, places, _middle(places))
        return jnp.asarray(sum(jnp.sum(jnp.square(leaf)) / len(leaf) for leaf in jax.tree.leaves(apart)))


def _middle(places: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), places)

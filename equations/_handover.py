"""From the state of a discrete algorithm to that of its equation."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from ._modified.increment import TwinState
from ._splitting import split


def state_from(equation: Any, twin: TwinState) -> PyTree | None:
    """The state of an equation where its algorithm has these parameters and this memory, None where that is not known.

    An equation may say it (`Splitting.resumed`); a state of the same form is the same one, with counts cast to real, and
    one of parameters alone has no memory.
    """
    said = split(equation).resumed(twin.params, twin.memory)
    if said is not None:
        return said
    expected, real = equation.init(twin.params), TwinState.of(twin.params, twin.memory)
    for state in (real, twin.params, _by_name(expected, real)):
        if form(state) == form(expected):
            return state
    return None


def _by_name(state: Any, twin: TwinState) -> PyTree | None:
    """A state whose fields have Optax's names for what the algorithm remembers."""
    names = [field.name for field in dataclasses.fields(state)] if dataclasses.is_dataclass(state) else []
    if "params" not in names:  # which a model as its own state, an Equinox module, has not
        return None
    names.remove("params")
    found = {name: optax.tree_utils.tree_get(twin.memory, name, None) for name in names}
    return cast(Any, dataclasses.replace)(state, params=twin.params, **found)


def form(tree: PyTree, ahead: int = 0) -> tuple:
    """Structure, shapes but for so many axes ahead, and dtypes."""
    arrays = jax.tree.leaves(tree)
    return jax.tree.structure(tree), tuple((jnp.shape(leaf)[ahead:], leaf.dtype) for leaf in arrays)

"""States of one structure from `solve` and from `train`: that of the equation."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from equations import TwinState
from equations.internal import state_from, warn

_WHY = "from the memory of whose algorithm the state of the equation is not known (`resumed` of its splitting tells it)"


def of_equation(equation: Any, state: TwinState, ahead: int) -> PyTree | None:
    """The states of an equation, from those of its algorithm with so many axes ahead; None where they are not known."""
    convert = functools.partial(state_from, equation)
    for _ in range(ahead):
        convert = jax.vmap(convert)
    return convert(state)


def kept_states(equation: Any, kind: str, states: PyTree) -> dict[str, PyTree]:
    """What a trajectory says of the states that a run kept, leaves `(paths, saves, ...)`: a solution's are the equation's
    own, those of an algorithm are kept beside them. Warns where they tell nothing of the equation's."""
    if states is None or kind == "equation":
        return {"states": states}
    found = of_equation(equation, states, 2)
    if found is None:
        warn(
            f"`Trajectory.states` is None for {type(equation).__name__}, {_WHY}: `Trajectory.twin_states` is the "
            "algorithm's own."
        )
    return {"states": found, "twin_states": states}


def unknown_state(name: str, equation: Any) -> ValueError:
    """What is said where the state of an equation is asked for and not known."""
    return ValueError(
        f"`Trajectory.{name}` is not known for {type(equation).__name__}, {_WHY}: `Trajectory.twin_{name}` is the "
        "algorithm's own."
    )


def on_paths(state: PyTree, paths: int) -> PyTree:
    """With a leading axis of so many paths, where that of one stands for all."""

    def leaf(x):
        return jnp.broadcast_to(x, (paths, *x.shape[1:])) if x.shape[0] == 1 != paths else x

    return jax.tree.map(leaf, state)

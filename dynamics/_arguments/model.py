"""The model that a run is about: what of it is trained, and what not."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from equations.internal import flag, is_parameter

from .checks import check_params
from .frozen import check_frozen
from .per_path import first_of_all, of_all


@dataclasses.dataclass(frozen=True)
class Model:
    """Checked.

    **Attributes:**

    - `objective`: as given, or bound to what stays.
    - `params`: as given, but for what stays, numbers as arrays; `dynamic`, `static`: what of them is trained, and the rest
        with what stays.
    - `stays`: what of the parameters nothing moves, like them.
    - `spread`: `dynamic` of every path, leaves `(paths, ...)`, where each has its own; else None.
    """

    objective: Any
    params: PyTree
    dynamic: PyTree
    static: PyTree
    stays: PyTree
    spread: PyTree

    @classmethod
    def of(
        cls,
        objective: Any,
        params: PyTree,
        *,
        frozen: Any,
        stayed: tuple[bool, ...] | None,
        per_path: bool,
        bound: bool,
    ) -> "Model":
        """Of the arguments of a run.

        **Arguments:** `stayed`: which leaves stayed in the run from whose end this one begins; `bound`: whether the
        objective is bound to what stays; else the dynamics is (`partly`).

        **Raises:** TypeError or ValueError, naming the argument.
        """
        every = None
        if flag("per_path")(per_path):
            params, every = first_of_all(params)
        params = check_params(params)
        stays = jax.tree.map(lambda leaf: None, params)
        if frozen is not None:
            stayed = tuple(jax.tree.leaves(check_frozen(frozen, params)))
        if stayed is not None:
            stays, params = eqx.partition(params, jax.tree.unflatten(jax.tree.structure(params), stayed))
            objective = objective.bind(stays) if bound else objective
        dynamic, static = eqx.partition(params, is_parameter)
        spread = None if every is None else of_all(every, dynamic, stays)
        static = eqx.combine(static, stays)
        return cls(objective, params, dynamic=dynamic, static=static, stays=stays, spread=spread)

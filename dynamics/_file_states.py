"""States of a file as what they were in the run."""

import dataclasses
from collections import OrderedDict
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import TwinState
from equations.internal import is_parameter, on_parameters

from ._arguments.checks import check_equation, dynamic_numbers
from ._described import Recorded, hyperparameters, title
from ._paths.progress import Leaves
from ._rebuilt import by_names, rebuilt

_AHEAD = {"states": 2, "twin_states": 2, "recorded": 1, "final_state": 1}


def state_at_end(trajectory: Any) -> PyTree | None:
    """Of an algorithm's run the state of its equation at the end; None where it is not known, or the run's own."""
    if trajectory.kind == "equation":
        return None
    try:
        return trajectory.final_state
    except ValueError:
        return None


@dataclasses.dataclass(frozen=True)
class States:
    """The states of a file.

    **Attributes:** `said`, what the file says of itself; `leaves`, those of each of its parts; `like`, parameters like
    those of the run; `recorded`, what it says of the equation; `given`, the equation, or None.
    """

    said: dict
    leaves: dict[str, list[Array]]
    like: PyTree
    recorded: Recorded
    given: Any

    @property
    def equation(self) -> Any:
        """What was given, or what the file says of it.

        **Raises:** TypeError or ValueError, naming `equation`, where that is another.
        """
        if self.given is None:
            return self.recorded
        check_equation(self.given, twin=self.said["kind"] == "discrete")
        equation = dynamic_numbers(self.given)
        own, numbers = _numbers(equation), _numbers(self.recorded)
        if own != numbers:
            raise ValueError(
                f"Argument `equation` must be what was run, {title(self.recorded)}{numbers[1]}, but "
                f"{title(equation)}{own[1]} was given."
            )
        return equation

    def tree(self, name: str) -> PyTree | None:
        """A part with its structure; None where nobody tells it, or there is nothing.

        **Raises:** ValueError, naming `equation`, where that has another state.
        """
        if not self.leaves.get(name):
            return None
        if self.given is not None:
            found = by_names(self.by_name(name), self._structure(name), _AHEAD[name])
            if found is None:
                raise ValueError(
                    f"Argument `equation` must be what was run, whose state has {', '.join(self.said['names'][name])}, but "
                    f"that of {title(self.given)} is another."
                )
            return found
        description = self.said["classes"][name]
        return (
            None
            if description is None
            else rebuilt(description, self.leaves[name], eqx.filter(self.like, is_parameter))
        )

    def kept(self, name: str) -> PyTree | None:
        """A part as a trajectory has it: with its structure, or arrays by name, in their order."""
        found = self.tree(name)
        named = OrderedDict(zip(self.said["names"][name], self.leaves[name], strict=True))
        return found if found is not None else named or None

    def by_name(self, name: str) -> Leaves:
        return Leaves(dict(zip(self.said["names"][name], self.leaves[name], strict=True)))

    def _structure(self, name: str) -> PyTree:
        params = self._moved()
        equation = on_parameters(self.equation, params)
        if name in ("states", "final_state") or self.said["kind"] == "equation":
            return eqx.filter_eval_shape(equation.init, params)

        def twin(params):
            with jax.numpy_dtype_promotion("standard"):
                memory = jax.tree.map(jnp.asarray, equation.twin().init(params))
            return TwinState(params, memory) if name == "recorded" else TwinState.of(params, memory)

        return eqx.filter_eval_shape(twin, params)

    def _moved(self) -> PyTree:
        """The parameters without those that stayed."""
        stayed = (self.said["checkpoint"] or {}).get("frozen")
        leaves, treedef = jax.tree.flatten(self.like)
        stayed = [False] * len(leaves) if stayed is None else stayed
        return jax.tree.unflatten(
            treedef,
            [leaf if is_parameter(leaf) and not stays else None for stays, leaf in zip(stayed, leaves, strict=True)],
        )


def _numbers(equation: Any) -> tuple[str, dict]:
    """Name and numbers, but for the noise, to which a random loss adds its own."""
    numbers = hyperparameters(equation)
    return title(equation), {name: numbers[name] for name in sorted(numbers) if name != "noise_model"}

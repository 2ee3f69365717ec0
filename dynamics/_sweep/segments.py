"""Long runs in segments, each of which goes on from the state that the one before ended in."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from equations.internal import integer, unchecked

from .._trajectory import Trajectory
from .kept import Kept
from .setting import Setting
from .stack import Stack, results

_OF_THE_BEGINNING = ("params", "key", "paths", "per_path", "frozen")  # which the state brings along


def check_segments(every: Any, settings: list[Setting], stored: bool) -> int | None:
    """The training steps of a segment, checked on the arguments of runs.

    **Raises:** TypeError or ValueError, naming `checkpoint_every`.
    """
    if every is None:
        return None
    every = integer("checkpoint_every", every)
    if not stored:
        raise ValueError(f"Argument `checkpoint_every` must be None without a `store`, but {every} was given.")
    for setting in settings:
        arguments = setting.arguments()
        steps, save_every = arguments.get("steps"), arguments.get("save_every", 1)
        if not isinstance(steps, int) or not isinstance(save_every, int):
            raise ValueError(
                f"Argument `checkpoint_every` must be None unless runs have `steps`, but {every} was given."
            )
        if every % save_every or steps % every:
            raise ValueError(
                f"Argument `checkpoint_every` must be a multiple of `save_every`, {save_every}, that divides `steps`, "
                f"{steps}, but {every} was given."
            )
    return every


class Segments:
    """The runs of a structure, in segments of `every` training steps.

    A segment is mapped over its settings outside of what is compiled, which so takes the number of its first step as any
    other number: two programs serve all segments, the one from parameters and the one from a state.
    """

    def __init__(self, stack: Stack, every: int):
        self._stack, self._every = stack, every
        self._static: Any = None

    def __call__(
        self, shared: list, rows: list, kept: Kept | None, tell: Callable[[float], Any]
    ) -> dict[str, np.ndarray]:
        """What is recorded, arrays with a leading axis of settings; it goes on from what is kept, if anything is."""
        steps = self._stack.arguments["steps"]
        found, state, done = None, None, 0
        if kept is not None and (before := kept.load()) is not None:
            found, leaves, done = before
            state = jax.tree.unflatten(self._structure(shared, rows), leaves)
        while done < steps:
            with unchecked():
                new, state = self._segment(shared, rows, state, done)
            found, done = _joined(found, jax.device_get(new)), done + self._every
            if done < steps:
                if kept is not None:
                    kept.save(found, jax.tree.leaves(state), done)
                tell(done / steps)
        return found or {}

    def _segment(self, shared, rows, state, done: int) -> tuple[dict[str, Any], PyTree]:
        if state is None:
            return self._stack.mapped(self._first, shared, rows)
        return self._stack.mapped(lambda *args: self._later(done, *args), shared, rows, state)

    def _structure(self, shared, rows):
        """Of the state, as the first segment leaves it."""
        with unchecked():
            shapes = eqx.filter_eval_shape(lambda: self._segment(shared, rows, None, 0)[1])
        return jax.tree.structure(shapes)

    def _first(self, shared, row):
        return self._taken_apart(self._stack.call(shared, row, steps=self._every))

    def _later(self, done: int, shared, row, state):
        final, checkpoint = eqx.combine(state, self._static)
        checkpoint = dataclasses.replace(checkpoint, step=np.asarray(done, np.int32))
        nothing = jnp.zeros(0)
        start = Trajectory(
            steps=nothing, times=nothing, observables={}, final=final, ok=nothing, failed_at=nothing,
            equation=None, kind=checkpoint.kind, details=(), checkpoint=checkpoint,
        )  # fmt: skip
        return self._taken_apart(
            self._stack.call(shared, row, without=_OF_THE_BEGINNING, steps=self._every, start=start)
        )

    def _taken_apart(self, trajectory: Trajectory):
        state, self._static = eqx.partition((trajectory.final, trajectory.checkpoint), eqx.is_array)
        # As it comes from a file, which knows no weak types.
        return results(trajectory), jax.tree.map(
            lambda leaf: leaf.astype(leaf.dtype) if jax.typeof(leaf).weak_type else leaf, state
        )


def _joined(found: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, np.ndarray]:
    """Records and those of the next segment, whose first is the last of before."""
    if found is None:
        return {name: np.asarray(values) for name, values in new.items()}
    axes = {name: 1 if name == "time" else 2 for name in new if name not in ("ok", "failed_at")}
    return {
        name: np.concatenate([found[name], np.delete(values, 0, axes[name])], axes[name]) if name in axes else values
        for name, values in new.items()
    }

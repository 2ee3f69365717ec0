"""One shard: its settings computed at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from equations.internal import unchecked

from .kept import Kept
from .plan import Plan
from .segments import Segments
from .setting import Experiment, at_setting
from .stack import Stack, results


class Shards:
    """Computes the shards of a plan; what is compiled for a structure is kept.

    **Arguments:** `every`: the training steps of a segment, None where a run is computed at once; `kept`: the folder of
    states from which a shard goes on; `tell(shard, share)`: of a shard that has come so far.
    """

    def __init__(self, experiment: Experiment, plan: Plan, every: int | None, kept: Path | None):
        self._experiment, self._plan, self._every, self._kept = experiment, plan, every, kept
        self._compiled: dict[int, Callable] = {}
        self._stacks: dict[int, Stack] = {}

    def compile(self, number: int) -> None:
        """Compiles the function of a structure."""
        structure = self._plan.structures[number]
        members = structure.members[: structure.size]
        self._of(number, [self._setting(member) for member in members])

    def __call__(self, number: int, tell: Callable[[float], Any] = lambda share: None) -> dict[str, np.ndarray]:
        """What is recorded of a shard, arrays with a leading axis of its settings."""
        shard = self._plan.shards[number]
        settings = [self._setting(member) for member in shard.members]
        settings += settings[-1:] * (self._plan.structures[shard.structure].size - len(settings))
        run, stack = self._of(shard.structure, settings)
        rows = [stack.row(setting) for setting in settings]
        with at_setting(f"one of {'; '.join(map(self._experiment.axes.words, shard.members))}"):
            if self._every is None:
                found = jax.device_get(run(stack.shared, rows))
            else:
                kept = None if self._kept is None else Kept(self._kept, number, self._digest(shard.members))
                found = run(stack.shared, rows, kept, tell)
        return {name: np.asarray(values)[: len(shard.members)] for name, values in found.items()}

    def _setting(self, number: int):
        setting = self._experiment.at(number)
        if setting.digest != self._plan.digests[number]:
            raise ValueError(
                "Argument `experiment` must give the same for a setting whenever it is called, with random numbers from "
                f"keys or seeds of the setting, but it gave something else at {self._experiment.axes.words(number)}."
            )
        return setting

    def _digest(self, members: tuple[int, ...]) -> str:
        return " ".join(self._plan.digests[member] for member in members)

    def _of(self, number: int, settings: list) -> tuple[Callable, Stack]:
        """The compiled function of a structure, and what belongs to it."""
        if number not in self._compiled:
            stack = Stack(settings[0], self._plan.structures[number].varies, self._experiment.run)
            rows = [stack.row(setting) for setting in settings[: self._plan.structures[number].size]]
            rows += rows[-1:] * (self._plan.structures[number].size - len(rows))
            with at_setting(self._experiment.axes.words(self._plan.structures[number].members[0])):
                run = _at_once(stack, rows) if self._every is None else Segments(stack, self._every)
            self._compiled[number], self._stacks[number] = run, stack
        return self._compiled[number], self._stacks[number]


def _at_once(stack: Stack, rows: list) -> Callable:
    """The function of a structure, compiled, for as many settings as there are rows."""

    def run(shared, rows):
        return stack.mapped(lambda shared, row: results(stack.call(shared, row)), shared, rows)

    with unchecked():  # of values: these would be looked at when the program runs, which keeps it out of JAX's cache
        return jax.jit(run).lower(stack.shared, rows).compile()

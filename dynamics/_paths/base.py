"""What all paths of a dynamics have in common."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import numpy as np
from jaxtyping import Array, PyTree

from equations import AbstractDynamics

from .progress import Progress
from .record import Places, is_ok, record


class AbstractRecorded(eqx.Module):
    """What is solved, and what of it is recorded."""

    dynamics: AbstractDynamics
    signal: Any
    static: PyTree
    observe: dict[str, Callable]
    dt: Array
    solver: dfx.AbstractSolver
    adjoint: dfx.AbstractAdjoint | None
    meter: dfx.AbstractProgressMeter
    save_every: int = eqx.field(static=True)
    substeps: int = eqx.field(static=True)
    keep_states: bool = eqx.field(static=True)

    @property
    def reversible(self) -> dfx.AbstractAdjoint:
        """The adjoint of a loop of Diffrax's, which needs one in any case."""
        return self.adjoint or dfx.RecursiveCheckpointAdjoint()

    def _saved(self, state) -> tuple[dict[str, Array], PyTree | None]:
        """What is kept of a state: the observables and, if wanted, the state itself."""
        observed = record(self.observe, self.dynamics.params(state), self.static, lambda: state)
        return observed, state if self.keep_states else None

    def _ok(self, state) -> Array:
        params = self.dynamics.params(state)
        return is_ok(params, None if params is state else state)


class AbstractPath(AbstractRecorded):
    """All that a path needs but its start and its key."""

    first: Array | np.ndarray  # the training step at which the run begins, and the number of those that it takes
    steps: Array | np.ndarray
    owes: Array | np.ndarray  # whether it begins with half a flow owing
    places: Places = eqx.field(static=True)

    streamed: ClassVar[bool] = False

    @abc.abstractmethod
    def begin(self, params: PyTree, key: Array) -> Progress:
        """Where a path from these parameters begins."""

    @abc.abstractmethod
    def __call__(self, progress: Progress, key: Array) -> tuple[tuple, Progress, Any]:
        """Records and states, of which the places in use are `(saves, ...)`, how far the path has come, and whether half a
        flow is owing."""

    @property
    def end(self) -> Any:
        """The training step with which the run ends."""
        return self.first + self.steps

    @property
    def count(self) -> Any:
        """The number of records after that of the start."""
        return self.steps // self.save_every

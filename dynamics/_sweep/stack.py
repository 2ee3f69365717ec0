"""The settings of a structure as one compiled function, in which what differs is mapped over."""

from collections.abc import Callable, Sequence
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from equations.internal import unchecked

from .._solve import solve
from .._trajectory import Trajectory
from .setting import Setting


class Stack:
    """What all settings of a structure share, and how the rest is mapped over.

    Numbers that are the same in all settings are handed over once, and scalars among them are constants; the others are
    stacked inside of what is compiled, where a weakly typed number stays one.
    """

    def __init__(self, one: Setting, varies: tuple[bool, ...], run: Callable):
        self._one, self._varies, self._run = one, varies, run
        pairs = list(zip(one.numbers, varies, strict=True))
        self._constant = [not differs and np.ndim(number) == 0 for number, differs in pairs]
        self.shared = [
            n for (n, differs), constant in zip(pairs, self._constant, strict=True) if not (differs or constant)
        ]

    def row(self, setting: Setting) -> list[Any]:
        """The numbers of a setting that are not those of all."""
        return [number for number, differs in zip(setting.numbers, self._varies, strict=True) if differs]

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of one setting."""
        return self._one.arguments()

    def call(self, shared: Sequence[Any], row: Sequence[Any], without: Sequence[str] = (), **more: Any) -> Trajectory:
        """The run of one setting, without some of its arguments and with others."""
        own_row, of_all = iter(row), iter(shared)
        numbers = [
            own if constant else next(own_row) if differs else next(of_all)
            for own, constant, differs in zip(self._one.numbers, self._constant, self._varies, strict=True)
        ]
        arguments = {n: value for n, value in self._one.arguments(numbers).items() if n not in without} | more
        if self._run is solve and arguments.get("adjoint") is None:
            arguments["adjoint"] = dfx.ForwardMode()  # nothing differentiates a sweep
        return self._run(**arguments)

    def mapped(self, function: Callable, shared: Sequence[Any], rows: Sequence[Sequence[Any]], *more: PyTree) -> PyTree:
        """`function(shared, row, *more)` over settings, with the leading axis of these in `more` and the results."""
        stacked = [jnp.stack(leaves) for leaves in zip(*rows, strict=True)]
        return jax.vmap(
            lambda row, *more: function(shared, row, *more), axis_size=len(rows), in_axes=(0, *(0 for _ in more))
        )(stacked, *more)

    def example(self) -> Trajectory:
        """The trajectory of one setting in shapes, with all checks that need no value."""
        with unchecked():
            return eqx.filter_eval_shape(self.call, self.shared, self.row(self._one))


def results(trajectory: Trajectory) -> dict[str, Any]:
    """What is kept of a run."""
    return {
        **trajectory.observables,
        "ok": trajectory.ok,
        "failed_at": trajectory.failed_at,
        "time": trajectory.times,
    }

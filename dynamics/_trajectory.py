"""What a run returns."""

import os
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from equations import TwinState
from equations.internal import is_traced

from ._arguments.alternation import OSCILLATION, averages_in
from ._described import is_recorded, provenance
from ._saved import load, save
from ._states import of_equation, on_paths, unknown_state


class Trajectory(eqx.Module):
    """An ensemble of paths, recorded at the same steps. A PyTree of arrays, safe under jit, vmap and grad.

    **Attributes:**

    - `steps`: shape `(saves,)`, training steps from 0, or stimuli.
    - `times`: shape `(saves,)`, sum of the learning rates of the steps before: learning_rate * steps where it is constant;
        seconds under a stream of stimuli.
    - `observables`: a dict of arrays `(paths, saves, ...)`.
    - `final`: the parameters at the last step, each array with a leading axis `paths`.
    - `ok`: shape `(paths,)`, False where a path diverged (a state not finite, or parameters
        whose fourth power overflows) or, with a step-size controller, ran out of steps.
    - `failed_at`: shape `(paths,)`, the training step in which it did, -1 for never. Such a path stays at its last
        recorded state before that step, in `observables` and in `final`.
    - `equation`: what was run.
    - `kind`: `"equation"` (from `solve`) or `"discrete"` (from `train`).
    - `details`: pairs of strings that say how.
    - `units`: of `steps` and of `times`, in words.
    - `checkpoint`: from where another run goes on, which is given this trajectory as its `start`.
    - `states`: with `keep_states`, the states of the equation at the recorded steps, leaves `(paths, saves, ...)`, of one
        structure from `solve` and from `train`; else None. From a file too, but where the class of the state is one of
        your own and `load` was given no `equation`: then a dict from names to arrays.
    - `twin_states`: of `train` with `keep_states`, the algorithm's own, `equations.TwinState` of parameters and memory.
    - `result`, `stopped_at`: of a run with `event` or `saveat`, `(paths,)`, Diffrax's result, and the time of the event,
        infinite where there was none; else None. After its event a path stays at the state that it had then.
    """

    steps: Int[Array, " saves"]
    times: Float[Array, " saves"]
    observables: dict[str, Shaped[Array, "paths saves ..."]]
    final: PyTree
    ok: Bool[Array, " paths"]
    failed_at: Int[Array, " paths"]
    equation: Any
    kind: str = eqx.field(static=True)
    details: tuple[tuple[str, str], ...] = eqx.field(static=True)
    states: PyTree = None
    checkpoint: Any = None
    units: tuple[str, str] = eqx.field(
        static=True, default=("training steps", "sum of the learning rates of the training steps")
    )
    result: Any = None
    stopped_at: Float[Array, " paths"] | None = None
    twin_states: PyTree = None

    @property
    def averages(self) -> dict[str, Array]:
        """Of an equation in which the algorithm alternates, the observables on average over where it is in turn,
        [f(c + s) + f(c - s)]/2; of all others, and of functions of the state, there is none."""
        return averages_in(self.observables)

    @property
    def extras(self) -> dict[str, Array]:
        """What such a run records beside: `"oscillation"`, |s|^2."""
        return {name: value for name, value in self.observables.items() if name == OSCILLATION}

    @property
    def final_state(self) -> PyTree:
        """The state of the equation at the last step, leaves `(paths, ...)`, as `states` at a record.

        **Raises:** ValueError for a run that cannot go on, as one of large steps; for a trajectory from a file whose state
        has a class of your own where `load` was given no `equation`; and of an algorithm from whose memory the state of its
        equation is not known.
        """
        progress = self._progress("final_state")
        found = progress.state if self.kind == "equation" else progress.ended
        if found is not None:
            return on_paths(found, self.ok.shape[-1])
        if self.kind == "equation" or is_recorded(self.equation):
            raise _without_class("final_state")
        found = of_equation(self.equation, self.twin_final_state, self.ok.ndim)
        if found is None:
            raise unknown_state("final_state", self.equation)
        return found

    @property
    def twin_final_state(self) -> PyTree:
        """Of `train`, the algorithm's own state at the last step, a `TwinState`, leaves `(paths, ...)`.

        **Raises:** ValueError as `final_state` does, and for a trajectory of `solve`.
        """
        state = self._progress("twin_final_state").state
        if self.kind != "discrete":
            raise ValueError("`Trajectory.twin_final_state` is known of a run of `train`, and this one is of `solve`.")
        if state is None:
            raise _without_class("twin_final_state")
        return on_paths(TwinState.of(state.params, state.memory), self.ok.shape[-1])

    def _progress(self, name: str) -> Any:
        if self.checkpoint is None:
            raise ValueError(f"`Trajectory.{name}` is known of a run that can go on, and this one cannot.")
        return self.checkpoint.progress

    def save(self, path: str | os.PathLike) -> None:
        """Writes this to one NetCDF file, whole or not at all, with all that a run needs to go on from it (`start`).

        It can be opened by xarray, as what `to_xarray` gives; parameters and states are groups of their own.

        **Raises:** TypeError under jit, vmap or grad, or where `path` is no path; ValueError for the result of a vmap, or
        where the directory of `path` is not there, or `path` is a directory or the name of a Zarr store.
        """
        save(self, path)

    @staticmethod
    def load(path: str | os.PathLike, *, like: PyTree = None, equation: Any = None) -> "Trajectory":
        """What `save` wrote.

        **Arguments:**

        - `like`: parameters with arrays of the same names (keys and attributes, in the same order), shapes and types, from
            which what is no array is taken too; not to be left out.
        - `equation`: what was run, with the same numbers; needed for states of a class of your own, since a file holds
            no code.

        **Returns:** the trajectory. Without `equation` its own is a name with numbers; a run that goes on from it (`start`)
        is given the equation anew, which may then have other numbers.

        **Raises:** TypeError or ValueError, naming `path` where the file is not whole or not of this kind, or holds numbers
        of a precision that JAX has not here, `like`, or `equation` where it is another.
        """
        return Trajectory(**load(path, like, equation))

    def to_xarray(self):
        """An `xarray.Dataset` with dims `(path, step, ...)`, times as a coordinate, units and provenance in attrs.

        What a vmap put in front of the paths are dims `vmap_0`, ...

        **Raises:** TypeError under jit, vmap or grad.
        """
        import xarray as xr  # not at the top: only those who leave JAX pay for it

        if any(is_traced(leaf) for leaf in jax.tree.leaves(self)):
            raise TypeError("`Trajectory.to_xarray` must be called outside of jit, vmap and grad, on numbers.")
        host = jax.device_get((self.observables, self.steps, self.times, self.ok, self.failed_at))
        observables, steps, times, ok, failed_at = host
        ahead = tuple(f"vmap_{axis}" for axis in range(ok.ndim - 1))
        variables: dict[str, tuple] = {
            name: (
                (*ahead, "path", "step", *(f"{name}_axis_{axis}" for axis in range(values.ndim - ok.ndim - 1))),
                values,
            )
            for name, values in observables.items()
        }
        variables["ok"] = ((*ahead, "path"), ok)
        variables["failed_at"] = ((*ahead, "path"), failed_at, {"units": self.units[0], "long_name": "-1: never"})
        return xr.Dataset(
            variables,
            coords={
                "path": np.arange(ok.shape[-1]),
                "step": ("step", steps.reshape(-1, steps.shape[-1])[0], {"units": self.units[0]}),  # the same in all
                "time": ((*ahead[: times.ndim - 1], "step"), times, {"units": self.units[1]}),
            },
            attrs=provenance(self),
        )


def _without_class(name: str) -> ValueError:
    return ValueError(
        f"`Trajectory.{name}` is not known of a trajectory from a file whose state has a class of its own: give `equation` "
        "to Trajectory.load."
    )


def check_trajectory(name: str, value: Any) -> Trajectory:
    """Raises a TypeError unless a value is a trajectory."""
    if not isinstance(value, Trajectory):
        raise TypeError(f"Argument `{name}` must be a Trajectory from solve or train, but {value!r} was given.")
    return value

"""What a run returns."""

import dataclasses
import importlib.metadata
import math
import os
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from equations import AbstractDynamics, AbstractGradientNoise, TwinState
from equations.internal import abstract_value, inside, is_traced, learning_rate_of


class Recorded(eqx.Module):
    """What is known of the equation of a trajectory from a file: a name, and numbers."""

    name: str = eqx.field(static=True)
    numbers: tuple[tuple[str, Any], ...] = eqx.field(static=True)


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
    - `states`: with `keep_states`, the states at the recorded steps, leaves `(paths, saves, ...)`: the equation's own from
        `solve`, an `equations.TwinState` of parameters and memory from `train`; else None.
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

    @property
    def final_state(self) -> PyTree:
        """The whole state at the last step, leaves `(paths, ...)`, as of `states` at a record.

        **Raises:** ValueError for a trajectory from a file, which knows no more than its numbers.
        """
        state = None if self.checkpoint is None else self.checkpoint.progress.state
        if state is None:
            raise ValueError("`Trajectory.final_state` is known of a run, not of one that was loaded from a file.")
        if self.kind == "discrete":
            state = TwinState.of(state.params, state.memory)
        paths = self.ok.shape[-1]

        def leaf(x):
            return jnp.broadcast_to(x, (paths, *x.shape[1:])) if x.shape[0] == 1 != paths else x

        return jax.tree.map(leaf, state)

    def save(self, path: str | os.PathLike) -> None:
        """Writes this to one NetCDF file, whole or not at all, with all that a run needs to go on from it (`start`).

        It can be opened by xarray, as what `to_xarray` gives; parameters and states are groups of their own.

        **Raises:** TypeError under jit, vmap or grad; ValueError for the result of a vmap, or where the directory of `path`
        is not there.
        """
        from ._saved import save

        save(self, path)

    @staticmethod
    def load(path: str | os.PathLike, *, like: PyTree) -> "Trajectory":
        """What `save` wrote.

        **Arguments:** `like`: parameters of the same structure, from which what is no array is taken too.

        **Returns:** the trajectory. Its `equation` is a name with numbers, and `states`, if there are any, are a dict from
        names to arrays; a run that goes on from it (`start`) is given the equation anew.

        **Raises:** ValueError, naming `path` where the file is not whole or not of this kind, or `like`.
        """
        from ._saved import load

        return load(path, like)

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
            attrs={
                "kind": self.kind,
                "equation": title(self.equation),
                # NetCDF knows no booleans.
                **{name: str(v) if isinstance(v, bool) else v for name, v in hyperparameters(self.equation).items()},
                **dict(self.details),
                "traindyn": version(),
                "jax": jax.__version__,
            },
        )


def check_trajectory(name: str, value: Any) -> Trajectory:
    """Raises a TypeError unless a value is a trajectory."""
    if not isinstance(value, Trajectory):
        raise TypeError(f"Argument `{name}` must be a Trajectory from solve or train, but {value!r} was given.")
    return value


def learning_rates(dynamics: AbstractDynamics, steps: int) -> Array | None:
    """The learning rates of all steps, shape `(steps,)`; None where one serves them all.

    **Raises:** ValueError where a schedule gives no learning rate.
    """
    if abstract_value(_changing, dynamics) is None:
        return None
    rates = rates_at(dynamics, jnp.arange(steps))
    if not is_traced(rates) and not np.all(allowed := np.isfinite(rates) & (np.asarray(rates) >= 0)):
        step = int(np.argmin(allowed))
        raise ValueError(
            "Argument `equation` must have a finite learning rate, zero or more, in every step, but its schedule gives "
            f"{float(rates[step]):g} in step {step}."
        )
    return rates


@eqx.filter_jit
def rates_at(dynamics: Any, steps: Array) -> Array:
    """The learning rates at training steps, whole or real numbers, of shape `(n,)`."""
    return jax.vmap(dynamics.scaling_limit().learning_rate_at)(steps) * jnp.ones(steps.shape)


def _changing(dynamics):
    """A number where the learning rate of a step may be another than `learning_rate`; None where it is that."""
    rate = dynamics.scaling_limit().learning_rate_at(jnp.zeros((), jnp.int32))
    own = learning_rate_of(dynamics)
    return None if own is None or rate is own else jnp.zeros(())


def recorded(
    rates: Array | None, first: int, end: int, save_every: int, dt: Array, begin: Array | None
) -> tuple[Array, Array]:
    """The recorded steps from `first` to `end` and their times, from `learning_rates`; dt is the time of a step where that
    is None, and `begin` the time at the first where a run goes on, whose learning rate may have been another."""
    saved = jnp.arange(first, end + 1, save_every)
    if rates is None:
        times = saved.astype(float) * dt
    else:
        times = jnp.concatenate([jnp.zeros(1), jnp.cumsum(rates)])[first::save_every]
    if begin is not None:
        times = jnp.where(times[0] == begin, times, begin + (times - times[0]))
    return saved, times


def title(equation: eqx.Module) -> str:
    """The name of an equation, with those that it wraps: `Scheduled(Adam)`."""
    if isinstance(equation, Recorded):
        return equation.name
    inner = inside(equation)
    name = type(equation).__name__
    return name if inner is None else f"{name}({title(inner)})"


def version() -> str:
    """The version of the installed distribution."""
    try:
        return importlib.metadata.version("traindyn")
    except importlib.metadata.PackageNotFoundError:  # used from a source tree on the path
        return "unknown"


def words(noise: AbstractGradientNoise) -> str:
    """A model of noise as one writes it: `Isotropic(scale=0.2, on=Minibatch())`."""
    return f"{type(noise).__name__}({', '.join(f'{name}={value}' for name, value in hyperparameters(noise).items())})"


def hyperparameters(equation: eqx.Module) -> dict[str, float | int | str]:
    """The scalar fields of an equation and of what it wraps, as plain numbers and strings; fields with `internal` in their
    metadata, which no user gives, only where they are not at their default."""
    if isinstance(equation, Recorded):
        return dict(equation.numbers)
    inner = inside(equation)
    fields = {} if inner is None else hyperparameters(inner)
    for field in dataclasses.fields(equation):
        name, value = field.name, getattr(equation, field.name)
        if name.startswith("_"):
            continue
        if field.metadata.get("internal") and not is_traced(value) and value == field.default:
            continue
        if isinstance(value, AbstractGradientNoise):
            fields[name] = words(value)
        elif value is None:
            fields[name] = "none"
        elif isinstance(value, bool | int | float | str):
            fields[name] = value
        elif isinstance(value, tuple):  # sizes of layers
            fields[name] = str(value)
        elif eqx.is_array(value) and value.shape == () and not is_traced(value):
            # A float32 learning rate of 0.05 is written as 0.05, not as the nearest double.
            fields[name] = float(str(np.asarray(value))) if math.isfinite(value) else float(value)
    return fields

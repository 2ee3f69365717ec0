"""How what is recorded lies over the axes."""

import dataclasses
from typing import Any

import jax
import numpy as np

from .._described import title, version
from .._trajectory import Trajectory
from .axes import TAKEN, Axes

NOT_RUN = -2  # in `failed_at`


@dataclasses.dataclass(frozen=True)
class Variable:
    """An array over the axes: dims and shape of one setting in it, what stands where nothing was computed, attributes."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    empty: Any
    attributes: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Layout:
    """All variables of a sweep, its coordinates and its attributes."""

    axes: Axes
    variables: dict[str, Variable]
    coordinates: dict[str, Any]
    attributes: dict[str, str]

    @classmethod
    def of(cls, axes: Axes, examples: list[Trajectory], save_every: list[int]) -> "Layout":
        """Of the results of one setting of each structure, in shapes.

        **Raises:** ValueError, naming `experiment`, where they differ.
        """
        first = examples[0]
        found = [_variables(example) for example in examples]
        for other, every in zip(found, save_every, strict=True):
            names = other.keys() ^ found[0].keys()
            if names:
                raise ValueError(
                    "Argument `experiment` must observe the same in all settings, but "
                    f"{sorted(names)[0]!r} is observed in some of them only."
                )
            for name, variable in other.items():
                if variable != found[0][name] or every != save_every[0]:
                    raise ValueError(
                        "Argument `experiment` must record the same in all settings (`steps`, `save_every`, `paths`, and "
                        f"shapes and dtypes of observables), but {name!r} has "
                        f"{_words(found[0][name], save_every[0])} and {_words(variable, every)}."
                    )
        names = [name for name in first.observables if name in (*TAKEN, *axes.names)]
        if names:
            raise ValueError(
                f"Argument `experiment` must not call an observable {names[0]!r}, as an axis or a part of the results is."
            )
        saves = first.times.shape[-1]
        coordinates = axes.coordinates | {
            "path": np.arange(first.ok.shape[-1]),
            "step": ("step", save_every[0] * np.arange(saves), {"units": first.units[0]}),
        }
        attributes = {
            "kind": first.kind,
            "equation": ", ".join(dict.fromkeys(title(example.equation) for example in examples)),
            "traindyn": version(),
            "jax": jax.__version__,
        }
        return cls(axes, found[0], coordinates, attributes)

    def dims(self, name: str) -> tuple[str, ...]:
        """Of a variable, those of the axes first."""
        return *self.axes.names, *self.variables[name].dims

    def dataset(self, arrays: dict[str, Any]) -> Any:
        """The `xarray.Dataset` of these arrays."""
        import xarray as xr  # not at the top: only those who leave JAX pay for it

        variables = {n: (self.dims(n), array, self.variables[n].attributes) for n, array in arrays.items()}
        return xr.Dataset(variables, self.coordinates, self.attributes).set_coords("time")


def _variables(example: Trajectory) -> dict[str, Variable]:
    found = {}
    for name, values in example.observables.items():
        inner = tuple(f"{name}_axis_{axis}" for axis in range(len(values.shape) - 2))
        found[name] = _variable(("path", "step", *inner), values, {})
    return found | {
        "ok": _variable(("path",), example.ok, {}),
        "failed_at": Variable(
            ("path",),
            example.failed_at.shape,
            np.dtype(example.failed_at.dtype),
            NOT_RUN,
            {"units": example.units[0], "long_name": f"-1: never; {NOT_RUN}: not run"},
        ),
        "time": _variable(("step",), example.times, {"units": example.units[1]}),
    }


def _variable(dims: tuple[str, ...], values: Any, attributes: dict[str, str]) -> Variable:
    dtype = np.dtype(values.dtype)
    return Variable(dims, tuple(values.shape), dtype, np.nan if dtype.kind in "fc" else 0, attributes)


def _words(variable: Variable, every: int) -> str:
    return f"{variable.dtype} of shape {variable.shape}, every {every} steps"

"""Equations in words and numbers, as results name them."""

import dataclasses
import importlib.metadata
import math
from typing import Any

import equinox as eqx
import jax
import numpy as np

from equations import AbstractGradientNoise
from equations.internal import inside, is_traced


class Recorded(eqx.Module):
    """What is known of the equation of a trajectory from a file: a name, and numbers."""

    name: str = eqx.field(static=True)
    numbers: tuple[tuple[str, Any], ...] = eqx.field(static=True)


def is_recorded(equation: Any) -> bool:
    """Whether that is all that is known of an equation."""
    return isinstance(equation, Recorded)


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


def provenance(result: Any) -> dict[str, Any]:
    """What a result of a run is of, for the attributes of a data set, which know no booleans in NetCDF."""
    numbers = {name: str(v) if isinstance(v, bool) else v for name, v in hyperparameters(result.equation).items()}
    return {
        "kind": result.kind,
        "equation": title(result.equation),
        **numbers,
        **dict(result.details),
        "traindyn": version(),
        "jax": jax.__version__,
    }

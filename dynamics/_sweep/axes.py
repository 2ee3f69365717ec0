"""What is varied: settings are the product of axes."""

import dataclasses
import inspect
import keyword
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from equations.internal import did_you_mean

TAKEN = ("path", "step", "time", "ok", "failed_at")  # what the results are called beside the observables


@dataclasses.dataclass(frozen=True)
class Axis:
    """A name, the values that an experiment is called with, and their labels, plain numbers or strings."""

    name: str
    values: tuple[Any, ...]
    labels: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Axes:
    """All axes; setting number n is the n-th of their product, the last axis fastest."""

    axes: tuple[Axis, ...]

    @classmethod
    def of(cls, given: Any) -> "Axes":
        """The axes from a dict of values by name.

        **Raises:** TypeError or ValueError, naming `axes`.
        """
        if not isinstance(given, Mapping) or not given:
            raise TypeError(
                "Argument `axes` must be a dict from the names of arguments of `experiment` to their values, but "
                f"{given!r} was given."
            )
        return cls(tuple(_axis(name, values) for name, values in given.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, the first dims of all results."""
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each has."""
        return tuple(len(axis.values) for axis in self.axes)

    def __len__(self) -> int:
        return math.prod(self.shape)

    def place(self, number: int) -> tuple[int, ...]:
        """Where setting `number` lies."""
        return tuple(int(index) for index in np.unravel_index(number, self.shape))

    def setting(self, number: int) -> dict[str, Any]:
        """What the experiment is called with."""
        return {axis.name: axis.values[index] for axis, index in zip(self.axes, self.place(number), strict=True)}

    def words(self, number: int) -> str:
        """A setting as one writes it: `learning_rate=0.1, seed=3`."""
        pairs = zip(self.axes, self.place(number), strict=True)
        return ", ".join(f"{axis.name}={axis.labels[index]!r}" for axis, index in pairs)

    @property
    def coordinates(self) -> dict[str, np.ndarray]:
        """The labels as arrays."""
        return {axis.name: _array(axis.labels) for axis in self.axes}


def check_experiment(experiment: Any, axes: Axes) -> None:
    """Raises a TypeError or ValueError unless `experiment` can be called with the settings."""
    if not callable(experiment):
        raise TypeError(
            f"Argument `experiment` must be a function that gives the arguments of a run, but {experiment!r} was given."
        )
    parameters = inspect.signature(experiment).parameters.values()
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        check_known("axes", axes.names, known, "name arguments of `experiment`")
    free = [p.name for p in parameters if p.name in known and p.default is p.empty and p.name not in axes.names]
    if free:
        raise ValueError(
            f"Argument `axes` must have values for every argument of `experiment`, but {free[0]!r} has none."
        )


def check_known(argument: str, names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raises a ValueError for the first name that is not known, with the nearest that is."""
    known = list(known)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"Argument `{argument}` must {what}, {', '.join(known)}, but {name!r} was given.{hint}")


def _axis(name: Any, values: Any) -> Axis:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise TypeError(f"Argument `axes` must have names of arguments as its keys, but {name!r} was given.")
    if name in TAKEN:
        raise ValueError(f"Argument `axes` must not have the name {name!r}, which the results have for something else.")
    wording = f"Argument `axes` must give {name!r}"
    if isinstance(values, Mapping):
        labels, values = list(values), list(values.values())
    elif isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{wording} a list of values, but {values!r} was given.")
    else:
        values = [_plain(value) for value in values]
        labels = list(values)
    if not values:
        raise ValueError(f"{wording} at least one value, but none was given.")
    if _kind(labels) is None:
        raise TypeError(
            f"{wording} numbers, strings or bools, all of one kind, or other values by a label, as in "
            f"{{'full': None, 'four': 4}}, but {labels!r} was given."
        )
    if len(set(labels)) < len(labels):
        raise ValueError(f"{wording} values that differ, but {labels!r} was given.")
    return Axis(name, tuple(values), tuple(labels))


def _plain(value: Any) -> Any:
    """A number of NumPy's or JAX's as Python's."""
    scalar = isinstance(value, np.generic | np.ndarray | jax.Array) and np.ndim(value) == 0
    return value.item() if scalar and not jnp.issubdtype(value.dtype, jax.dtypes.extended) else value


def _kind(labels: list) -> type | None:
    if all(isinstance(label, bool) for label in labels):
        return bool
    if any(isinstance(label, bool) for label in labels):
        return None
    return next((kind for kind in (int, int | float, str) if all(isinstance(x, kind) for x in labels)), None)  # type: ignore


def _array(labels: tuple) -> np.ndarray:
    return np.asarray(labels, np.dtypes.StringDType() if isinstance(labels[0], str) else None)

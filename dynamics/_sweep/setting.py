"""One setting: what an experiment gives for it, taken apart into numbers and structure."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from .._arguments.checks import check_params
from .axes import Axes, check_known
from .described import Described, Digests, digest

_WHY = {
    "start": "a run of a sweep begins with `params`",
    "keep_states": "a sweep keeps observables, which may take the state",
    "event": "all runs of a sweep have the same records",
    "saveat": "all runs of a sweep have the same records",
    "throw": "a path that fails is told of in `ok` and `failed_at`",
    "progress_meter": "a sweep has a progress of its own",
}


@dataclasses.dataclass(frozen=True)
class Hole:
    """What stands in the place of a number in a structure."""

    shape: tuple[int, ...]
    dtype: str
    weak: bool


@dataclasses.dataclass(frozen=True)
class Setting:
    """The arguments of one run.

    **Attributes:** `leaves` and `treedef`, all of them; `places`, which leaves are numbers; `structure`, a digest of all
    else, and `opaque`, what that does not see; `digests` of the numbers.
    """

    leaves: tuple[Any, ...]
    treedef: Any
    places: tuple[int, ...]
    structure: str
    opaque: tuple[Any, ...]
    digests: tuple[str, ...]

    @property
    def numbers(self) -> list[Any]:
        """The leaves that are numbers."""
        return [self.leaves[place] for place in self.places]

    @property
    def digest(self) -> str:
        """Of everything."""
        return digest(self.structure, *self.digests)

    def arguments(self, numbers: list[Any] | None = None) -> dict[str, Any]:
        """The arguments, with other numbers."""
        leaves = list(self.leaves)
        for place, number in zip(self.places, self.numbers if numbers is None else numbers, strict=True):
            leaves[place] = number
        return jax.tree.unflatten(self.treedef, leaves)


class Experiment:
    """An experiment at the settings of its axes."""

    def __init__(self, function: Callable, axes: Axes, run: Callable):
        self.function, self.axes, self.run = function, axes, run
        self._digests = Digests()
        self._described = Described(self._digests)

    def at(self, number: int) -> Setting:
        """Setting `number`, checked.

        **Raises:** what the experiment raises, and TypeError or ValueError, all with the setting.
        """
        with at_setting(self.axes.words(number)):
            return self._taken_apart(self.function(**self.axes.setting(number)))

    def _taken_apart(self, given: Any) -> Setting:
        if not isinstance(given, dict):
            raise TypeError(
                f"Argument `experiment` must give a dict of the arguments of `{self.run.__name__}`, but it gave {given!r}."
            )
        parameters = inspect.signature(self.run).parameters
        known = [name for name in parameters if name not in _WHY or name in given]
        check_known("experiment", given, known, f"give arguments of `{self.run.__name__}`")
        for name in given:
            if name in _WHY:
                raise ValueError(f"Argument `experiment` must leave out {name!r}: {_WHY[name]}.")
        missing = [n for n, p in parameters.items() if p.default is p.empty and n not in given]
        if missing:
            raise ValueError(f"Argument `experiment` must give {missing[0]!r}, but it gave {', '.join(given)}.")
        if not given.get("per_path"):
            check_params(given.get("params"))
        paths, treedef = jax.tree_util.tree_flatten_with_path(given)
        leaves = tuple(leaf for _, leaf in paths)
        places = tuple(n for n, (path, leaf) in enumerate(paths) if _is_number(leaf) and path[0].key != "time")
        holed = [_hole(leaf) if n in places else leaf for n, leaf in enumerate(leaves)]
        words, opaque = self._described(jax.tree.unflatten(treedef, holed))
        digests = tuple(self._digests(leaves[place]) for place in places)
        return Setting(leaves, treedef, places, structure=digest(words), opaque=opaque, digests=digests)


@contextlib.contextmanager
def at_setting(words: str) -> Iterator[None]:
    """Errors from inside tell in which setting they came up."""
    try:
        yield
    except Exception as error:
        if type(error) in (ValueError, TypeError) and str(error).startswith("Argument"):
            raise type(error)(f"{error} This is at {words}.") from error
        error.add_note(f"This is at {words}.")
        raise


def _is_number(leaf: Any) -> bool:
    """Arrays, and floats; a plain integer is structure, since it counts."""
    if isinstance(leaf, np.generic):
        return isinstance(leaf, np.inexact)
    return isinstance(leaf, float | np.ndarray | jax.Array)


def _hole(leaf: Any) -> Hole:
    if isinstance(leaf, float):
        return Hole((), "float", True)
    return Hole(tuple(leaf.shape), str(leaf.dtype), isinstance(leaf, jax.Array) and jax.typeof(leaf).weak_type)

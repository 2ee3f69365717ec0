"""The file of a sweep."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynamics import solve, train
from dynamics.internal import check_known, needed

from .function import load_function
from .sweep_digits import digits

_OPTIONS = ("workers", "client", "shard_size", "checkpoint_every")
_OF_THE_FILE = ("experiment", "run", "store", *_OPTIONS)


@dataclasses.dataclass(frozen=True)
class Task:
    """What `sweep` is to do."""

    experiment: Callable
    axes: dict[str, list]
    run: Callable
    store: Path
    options: dict[str, Any]


def read(file: Path, workers: int | None = None) -> Task:
    """What a file says; what is relative in it is so to its folder.

    **Raises:** TypeError or ValueError before anything runs, naming the argument; a key that is not known with the nearest
    one that is.
    """
    given = _loaded(file)
    folder = str(file.absolute().parent)
    experiment = load_function(given["experiment"], folder) if "experiment" in given else digits
    known = {
        name: parameter
        for name, parameter in inspect.signature(experiment).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name not in ("run", "folder")
    }
    check_known("file", given, [*_OF_THE_FILE, *known], f"have keys that {file.name!r} may have")
    run = given.get("run", "train")
    check_known("run", [run], ("train", "solve"), "be one of")
    values = {name: _numbers(value) for name, value in given.items() if name not in _OF_THE_FILE}
    missing = [n for n, parameter in known.items() if parameter.default is parameter.empty and n not in values]
    if missing:
        raise ValueError(f"Argument `file` must have a value for {missing[0]!r}, but {file.name!r} has none.")
    axes = {name: value for name, value in values.items() if isinstance(value, list)}
    if not axes:
        raise ValueError(f"Argument `file` must have a list of values for some key, but {file.name!r} has none.")
    fixed = {name: value for name, value in values.items() if name not in axes}
    if experiment is digits:
        fixed |= {"run": run, "folder": folder}
    options = {name: given[name] for name in _OPTIONS if name in given}
    if workers is not None:
        options = {name: value for name, value in options.items() if name != "client"} | {"workers": workers}
    return Task(
        functools.partial(experiment, **fixed),
        axes,
        {"train": train, "solve": solve}[run],
        Path(folder) / given.get("store", f"{file.stem}.zarr"),
        options,
    )


def _loaded(file: Path) -> dict[str, Any]:
    yaml = needed("yaml")
    try:
        given = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ValueError(
            f"Argument `file` must be a file, but {str(file)!r} cannot be read: {error.strerror}."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"Argument `file` must be YAML, but {str(file)!r} is not: {error}") from error
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"Argument `file` must hold keys and their values, but {str(file)!r} holds {given!r}.")
    return given


def _numbers(value: Any) -> Any:
    """YAML takes 1e-3 for a word."""
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return float(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+\.?\d*[eE][+-]?\d+", value) else value

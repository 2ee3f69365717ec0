"""Functions and classes of a user's files."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynamics.internal import check_known


def load_function(name: Any, folder: str, argument: str = "experiment") -> Callable:
    """The function or class `file.py:name` of a file in a folder, or `module:name` of a module that is there or installed.

    It is imported by the name of its module, so that workers find it as we do.

    **Raises:** ValueError, naming the argument, and for a function the nearest one that is there.
    """
    file, _, function = str(name).rpartition(":")
    path = Path(folder) / file
    of_a_file = path.suffix == ".py"
    if of_a_file and path.is_file():
        place, module_name = str(path.parent), path.stem
    else:
        place, module_name = folder, file
    if place not in sys.path:
        sys.path.insert(0, place)
    if not function or (of_a_file and not path.is_file()) or not _is_there(module_name):
        raise ValueError(
            f"Argument `{argument}` must be a file or module and what is meant in it, `file.py:name` or `module:name`, but "
            f"{name!r} was given."
        )
    module = importlib.import_module(module_name)
    if of_a_file and Path(module.__file__ or "").resolve() != path.resolve():
        raise ValueError(f"Argument `{argument}` must be of a file whose name no module has, but {name!r} was given.")
    check_known(argument, [function], [n for n in vars(module) if not n.startswith("_")], f"name something of {file}")
    return vars(module)[function]


def load_problem(name: str, key: Any) -> tuple[Any, Any, dict]:
    """What a user's function of a key returns: objective, parameters, and observables, by default the loss.

    **Raises:** TypeError, naming the argument `problem`; ValueError as `load_function`.
    """
    found = load_function(name, ".", "problem")(key)
    if not isinstance(found, tuple) or len(found) not in (2, 3) or (len(found) == 3 and not isinstance(found[2], dict)):
        raise TypeError(
            f"Argument `problem` must be a function of a key that returns an objective, parameters and a dict of "
            f"observables, or the first two of these, but {name!r} returned {type(found).__name__}."
        )
    objective, params, *observe = found
    return objective, params, observe[0] if observe else {"loss": objective.value}


def _is_there(module: str) -> bool:
    try:
        return bool(module) and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False

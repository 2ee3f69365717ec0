"""Functions of a user's files."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynamics.internal import check_known


def load_function(name: Any, folder: str) -> Callable:
    """The function of `file.py:function`, of a file in a folder: by its module's name, so that workers find it as we do.

    **Raises:** ValueError, naming `experiment`, and for a function the nearest one that is there.
    """
    file, _, function = str(name).rpartition(":")
    path = Path(folder) / file
    if not file or path.suffix != ".py" or not path.is_file():
        raise ValueError(f"Argument `experiment` must be the file and name of a function, `file.py:function`, but {name!r} "
                         f"was given.")  # fmt: skip
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.import_module(path.stem)
    if Path(module.__file__ or "").resolve() != path.resolve():
        raise ValueError(f"Argument `experiment` must be of a file whose name no module has, but {name!r} was given.")
    check_known(
        "experiment", [function], [n for n in vars(module) if not n.startswith("_")], f"name a function of {file}"
    )
    return vars(module)[function]

"""Files that are complete or absent: written under a temporary name, then renamed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write(temporary)` and renames the result to `path`; on failure nothing of it stays behind."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def path_of(argument: str, given: Any, otherwise: str = "") -> Path:
    """What was given as a path; a TypeError that names the argument where it is none."""
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"Argument `{argument}` must be a path{otherwise}, but {given!r} was given.")
    return Path(given)

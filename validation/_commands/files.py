"""Files that are complete or absent: written under a temporary name, then renamed."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def check_folder(name: str, folder: Path) -> Path:
    """The folder, made if need be; a ValueError if nothing can be written there."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"Argument `{name}` must be a folder that can be written, but {str(folder)!r} cannot: {error.strerror}."
        ) from error
    return folder


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write(temporary)` and renames the result to `path`; on failure nothing of it stays behind."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

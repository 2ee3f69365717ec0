"""Where commands write."""

import tempfile
from pathlib import Path


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

"""Libraries that only a sweep needs."""

import importlib
from typing import Any


def needed(*names: str) -> Any:
    """These modules, imported now; one of them, or a tuple.

    **Raises:** ImportError, saying how to install them.
    """
    try:
        found = tuple(importlib.import_module(name) for name in names)
    except ImportError as error:
        raise ImportError(
            f"`sweep` needs {error.name or names[0]} for a `store` and for workers: pip install traindyn[sweep]",
            name=error.name,
        ) from error
    return found[0] if len(names) == 1 else found

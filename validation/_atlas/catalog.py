"""The entries: one file each in `validation/atlas`, found by its name and described by its docstring."""

import ast
import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

_FOLDER = Path(__file__).parents[1] / "atlas"


class Entry(NamedTuple):
    """What is known of an entry without running it: its name, its claim in one line, and its source."""

    name: str
    title: str
    source: str


def entries() -> tuple[Entry, ...]:
    """All entries of the atlas by name, read from their docstrings: the first line, and the line of the source."""
    return tuple(_described(path) for path in sorted(_FOLDER.glob("*.py")) if not path.stem.startswith("_"))


def entry(name: str) -> Entry:
    """The entry of a name.

    **Raises:** ValueError, with the nearest name, where there is none.
    """
    known = {one.name: one for one in entries()}
    if name not in known:
        from equations.internal import did_you_mean

        raise ValueError(
            f"Argument `name` must be an entry of the atlas, as `traindyn atlas --list` shows them, but {name!r} was given."
            + did_you_mean(name, known)
        )
    return known[name]


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"validation.atlas.{name.replace('-', '_')}")


def _described(path: Path) -> Entry:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    source = next((part for part in paragraphs if part.startswith("Source: ")), "Source: ")
    return Entry(path.stem.replace("_", "-"), paragraphs[0].rstrip("."), source.removeprefix("Source: ").rstrip("."))

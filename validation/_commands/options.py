"""What all commands with a report share: where it goes, what is printed, and settings from a file."""

import contextlib
import dataclasses
import io
import json
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

DIVERGED, INTERRUPTED = 3, 130  # exit codes


@dataclasses.dataclass(frozen=True)
class Shown:
    """What is printed."""

    json: bool = False
    """Print results.json in place of the table, and no progress."""
    quiet: bool = False
    """Print neither table nor progress."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A TOML or JSON file with options by their names; those on the command line win."""

    @property
    def silent(self) -> bool:
        """Whether neither table nor progress is shown."""
        return self.json or self.quiet


NAMES = tuple(field.name for field in dataclasses.fields(Shown))


def with_config(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the options of `--config FILE` in front of the others.

    **Raises:** ValueError where the file cannot be read as options.
    """
    given = list(arguments)
    for place, one in enumerate(given):
        name, equals, path = one.partition("=")
        if name == "--config" and (equals or place + 1 < len(given)):
            return [*given[:1], *_flags(Path(path if equals else given[place + 1])), *given[1:]]
    return given


def _flags(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ValueError(f"Argument `config` must be a TOML or JSON file, but {str(path)!r} is none: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"Argument `config` must hold options by their names, but {str(path)!r} does not.")
    return [flag for name, value in found.items() for flag in _flag(name, value)]


def _flag(name: str, value: Any) -> list[str]:
    option = str(name).replace("_", "-").replace(" ", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    values = value if isinstance(value, list) else [value]
    if any(isinstance(one, dict | list) or one is None for one in values):
        raise ValueError(f"Argument `config` must hold numbers, words and lists of these, but {name!r} is {value!r}.")
    return [f"--{option}", *map(str, values)]


def shown(run: Callable[[Any], None], options: Shown) -> None:
    """Runs a command, and prints what the options ask for."""
    if not options.silent:
        return run(options)
    hidden = io.StringIO()
    try:
        with contextlib.redirect_stdout(hidden):
            run(options)
    finally:
        # An exit code of a verdict comes with a whole report.
        written = options.json and Path(options.output, "results.json")  # type: ignore[attr-defined]
        if written and sys.exc_info()[0] in (None, SystemExit) and written.is_file():
            print(written.read_text(), end="")


def told_if_interrupted(done: int, wanted: int, what: str) -> None:
    """Ends a command that wrote what it had when it was interrupted."""
    if done < wanted:
        print(f"traindyn: interrupted; written are {done} of {wanted} {what}", file=sys.stderr)
        sys.exit(INTERRUPTED)

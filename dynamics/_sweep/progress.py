"""How far a sweep has come, and how long it will take."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any


class Progress:
    """Counts shards, of those that are being computed the share that is.

    `show(done, total, left)` is told of every change: `done` shards of `total`, a real number, and the estimate of the
    seconds that are left, None as long as nothing is known.
    """

    def __init__(self, total: int, stored: int, show: Callable[[float, int, float | None], Any]):
        self._total, self._stored, self._show = total, stored, show
        self._shares: dict[int, float] = {}
        self._begin, self._lock = time.monotonic(), threading.Lock()
        self.tell()

    def share(self, number: int, share: float) -> None:
        """Of shard `number` this share is computed; 1: it is stored. From any thread, in any order."""
        with self._lock:
            self._shares[number] = max(share, self._shares.get(number, 0.0))
            self.tell()

    def tell(self) -> None:
        """Shows it."""
        new = sum(self._shares.values())
        seconds = time.monotonic() - self._begin
        left = seconds * (self._total - self._stored - new) / new if new else None
        self._show(self._stored + new, self._total, left)


def check_progress(value: Any) -> bool | Callable:
    """What shows the progress.

    **Raises:** TypeError, naming `progress`.
    """
    if not (isinstance(value, bool) or callable(value)):
        raise TypeError(
            f"Argument `progress` must be True, False or a function of (done, total, seconds left), but {value!r} was "
            "given."
        )
    return value


@contextlib.contextmanager
def shown(progress: bool | Callable) -> Iterator[Callable[[float, int, float | None], Any]]:
    """The function that shows it: a line on a terminal's standard error, nothing elsewhere, or a function of the user's."""
    if callable(progress):
        yield progress
    elif not progress or not sys.stderr.isatty():
        yield lambda done, total, left: None
    else:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = TextColumn("sweep"), BarColumn(), TextColumn("{task.description}")
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=1)
            yield lambda done, total, left: bar.update(
                task, completed=done, total=total, description=words(done, total, left)
            )


def words(done: float, total: int, left: float | None) -> str:
    """`12.5 of 40 shards, 3 min left`."""
    if left is None:
        return f"{done:g} of {total} shards"
    unit, name = next(
        pair for pair in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")) if left >= pair[0] or pair[0] == 1
    )
    return f"{done:.3g} of {total} shards, {left / unit:.3g} {name} left"

"""The progress that the commands show while they run."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(total: int, description: str = "") -> Iterator[Callable[..., None]]:
    """A bar of `total` parts on standard error, which is gone in the end.

    **Yields:** a function of a `description`, of how many parts are `completed`, or by how many to `advance`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda **change: bar.update(task, **change)

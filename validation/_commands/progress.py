"""The progress that the commands show while they run."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from dynamics.internal import Method, Problem, check_substeps, cost_of


@contextlib.contextmanager
def progress(total: int, description: str = "", hidden: bool = False) -> Iterator[Callable[..., None]]:
    """A bar of `total` parts on standard error, which is gone in the end; none if `hidden`.

    **Yields:** a function of a `description`, of how many parts are `completed`, or by how many to `advance`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task(description, total=total)
        yield lambda **change: bar.update(task, **change)


def cost_in_words(equation: Any, objective: Any, params: Any, steps: int, substeps: int | str) -> str:
    """What a training step of an equation takes of the gradients of its algorithm, to stand behind the name of a stage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself gives them
        problem = Problem.of(equation, objective, params, reads="equation").scheduled(steps, 1, 1, {})
        cost = cost_of(problem, Method.of(problem).solver, check_substeps(substeps, problem.equation)[0])
    return "" if cost is None else f", {cost.ratio:.3g} times the gradients"

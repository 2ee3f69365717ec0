"""The checks of `solve` and `train` that need values, made once for a structure, with their warnings."""

import inspect
from collections.abc import Callable
from typing import Any

from equations.internal import warn_sampling

from .._health.auto import check_substeps
from .._problem import Problem
from .._solve import solve


def check_front(run: Callable, arguments: dict[str, Any]) -> None:
    """Raises what `run(**arguments)` raises before it compiles, and warns as that does."""
    bound = inspect.signature(run).bind(**arguments)
    bound.apply_defaults()
    given = bound.arguments
    kind = {"twin": False, "reads": "equation"} if run is solve else {"algorithm": True}
    problem = Problem.of(*bound.args[:3], **kind, frozen=given["frozen"], per_path=given["per_path"])
    more = {}
    if run is solve:
        substeps, auto = check_substeps(given["substeps"], given["equation"])
        if auto:
            raise ValueError(
                "Argument `substeps` must be an integer in a sweep, where no value is looked at, but 'auto' was given."
            )
        more = {"time": given["time"], "dt": given["dt"], "substeps": substeps}
        warn_sampling(problem.equation, problem.objective, problem.params)
    problem.scheduled(*(given[name] for name in ("steps", "paths", "save_every", "observe")), **more)

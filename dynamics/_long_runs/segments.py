"""A long run in segments that go on from each other, so that none but the current one is in memory."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Array, PyTree

from equations.internal import LARGEST, integer

from .._solve import solve
from .._train import train
from .._trajectory import Trajectory

# What would keep more than single paths at records, or less.
_REFUSED = ("reduce", "event", "saveat", "keep_states", "solver_error", "time")


def check_run(run: Any, observe: Any, options: dict) -> Callable:
    """Raises a ValueError, naming the argument, unless a run of this kind goes by segments."""
    if run not in (train, solve):
        raise ValueError(f"Argument `run` must be dynamics.train or dynamics.solve, but {run!r} was given.")
    if not isinstance(observe, dict) or not observe:
        raise ValueError(f"Argument `observe` must be a dict of at least one function, but {observe!r} was given.")
    for name in _REFUSED:
        if options.get(name) is not None:
            raise ValueError(
                f"Argument `{name}` must be left out of a run in segments, of which every path is seen at every record, "
                f"but {options[name]!r} was given."
            )
    return run


def check_parts(steps: Any, save_every: Any, parts: Any, name: str) -> tuple[int, int, int]:
    """Steps, steps between records, and parts of a run, each of which has a whole number of records.

    **Raises:** TypeError or ValueError, naming the argument; `name` is that of the parts.
    """
    parts = integer(name, parts, minimum=1, maximum=LARGEST)
    save_every = integer("save_every", save_every, maximum=LARGEST)
    steps = integer("steps", steps, maximum=LARGEST)
    if steps % (parts * save_every):
        raise ValueError(
            f"Argument `steps` must be a multiple of `{name}` times `save_every`, {parts * save_every}, but {steps} was "
            "given."
        )
    return steps, save_every, parts


def segments(
    run: Callable,
    equation: Any,
    objective: Any,
    params: PyTree,
    *,
    parts: int,
    steps: int,
    start: Trajectory | None,
    **options: Any,
) -> Iterator[Trajectory]:
    """The trajectories of the parts of a run, of so many steps each; `options` as of the run."""
    shared = {name: options.pop(name) for name in tuple(options) if name not in ("key", "paths", "per_path", "frozen")}
    for _ in range(parts):
        part = run(equation, objective, params, steps=steps, start=start, **shared, **options)
        params, options = None, {}  # of the first part alone: from there on all is known
        start = part
        yield part


def records(trajectory: Trajectory) -> dict[str, np.ndarray]:
    """What was observed at the records after the first, in double precision, `(paths, records, ...)`."""
    return {name: np.asarray(values[:, 1:], float) for name, values in trajectory.observables.items()}


def well(trajectory: Trajectory) -> Array | np.ndarray:
    """Which paths have not failed, `(paths,)`."""
    return np.asarray(trajectory.failed_at) < 0

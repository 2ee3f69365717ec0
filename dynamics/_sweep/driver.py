"""What `sweep` does."""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np

from .._solve import solve
from .._train import train
from .axes import Axes, check_experiment
from .cluster import check_workers, computed
from .front import check_front
from .kept import Kept
from .layout import Layout
from .memory import Memory
from .plan import Plan, check_shard_size
from .progress import Progress, check_progress, shown
from .segments import check_segments
from .setting import Experiment, Setting, at_setting
from .shard import Shards
from .stack import Stack
from .store import Store, check_path, full_disk


def driven(
    experiment: Callable[..., dict[str, Any]],
    axes: Any,
    *,
    run: Callable,
    store: Any,
    workers: int | None,
    client: Any,
    shard_size: int,
    checkpoint_every: int | None,
    progress: bool | Callable,
) -> Any:
    """The results, as `sweep` says."""
    axes = Axes.of(axes)
    check_experiment(experiment, axes)
    if run not in (solve, train):
        raise ValueError(f"Argument `run` must be dynamics.solve or dynamics.train, but {run!r} was given.")
    most, show = check_shard_size(shard_size), check_progress(progress)
    count = check_workers(workers, client, store is not None)
    if store is not None:
        check_path(store)
    called = Experiment(experiment, axes, run)
    plan, firsts = Plan.of(called.at, len(axes), most)
    every = check_segments(checkpoint_every, firsts, store is not None)
    with contextlib.ExitStack() as stack:
        layout = lambda: layout_of(axes, plan, firsts, run)  # noqa: E731
        if store is None:
            results, done, kept = Memory(layout(), plan), [], None
        else:
            name = plan.digest(axes, run.__name__, most, every)
            results = stack.enter_context(contextlib.closing(Store.of(store, axes, plan, layout, name)))
            done, kept = results.done(), results.kept
            for number in done:
                Kept.drop(kept, number)
        wanted = [number for number in range(len(plan.shards)) if number not in done]
        counted = Progress(len(plan.shards), len(done), stack.enter_context(shown(show)))
        where = (count, client) if count or client is not None else None
        work = called, plan, every, kept
        found_ones = _found(where, work, plan, wanted, counted.share, kept)
        stack.enter_context(contextlib.closing(found_ones))  # and with them the workers, whatever happens here
        for number, found in found_ones:
            results.put(number, found)
            if kept is not None:
                Kept.drop(kept, number)
            counted.share(number, 1.0)
    return results.dataset()


def _found(
    where: tuple[int, Any] | None, work: tuple, plan: Plan, wanted: list[int], tell: Callable, kept: Path | None
) -> Generator[tuple[int, dict[str, np.ndarray]], None, None]:
    """The results of shards as they come, computed in this process or by workers."""
    with full_disk(kept.parent.parent) if kept is not None else contextlib.nullcontext():  # which keeps states too
        if where is not None and wanted:
            yield from computed(*where, work, plan, wanted, tell)
        else:
            shards = Shards(*work)
            for number in wanted:
                yield number, shards(number, lambda share, number=number: tell(number, share))


def layout_of(axes: Axes, plan: Plan, firsts: list[Setting], run: Callable) -> Layout:
    """How the results lie, with the checks of the arguments of one run of each structure."""
    examples, every = [], []
    for structure, first in zip(plan.structures, firsts, strict=True):
        stack = Stack(first, structure.varies, run)
        with at_setting(axes.words(structure.members[0])):
            check_front(run, first.arguments())
            examples.append(stack.example())
        every.append(stack.arguments.get("save_every", 1))
    return Layout.of(axes, examples, every)

"""`sweep`: one experiment at many settings."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
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


def sweep(
    experiment: Callable[..., dict[str, Any]],
    axes: Mapping[str, Any],
    *,
    run: Callable = solve,
    store: Any = None,
    workers: int | None = None,
    client: Any = None,
    shard_size: int = 8,
    checkpoint_every: int | None = None,
    progress: bool | Callable = True,
) -> Any:
    """Runs one experiment at all settings of some axes.

    Settings of one structure, which differ in numbers alone, are computed by one compiled function, `shard_size` of them at
    once. A learning rate, parameters, data and a key are numbers; a batch size, a number of steps and the class of an
    equation are structure. What all settings share is handed over once. The arguments of one setting of each structure
    are checked as those of a run are; what a run does is not looked at: divergence is recorded as data.

    **Arguments:**

    - `experiment`: a function of a setting, `experiment(learning_rate=0.1, seed=0)`, that gives the arguments of `run` as a
        dict, the same whenever it is called. It is called for every setting, here and where the setting is computed.
    - `axes`: the values of every argument of the experiment, by name: lists of numbers, strings or bools, or dicts from
        such labels to values of any kind. The settings are their product.
    - `run`: `solve` or `train`. All settings have the same records; `start`, `keep_states`, `event`, `saveat`, `throw` and
        `progress_meter` are left out.
    - `store`: the path of a Zarr store that the results are written to, shard by shard, each whole or not at all. If it is
        there it must be of the same experiment, axes, options and versions: what is stored is not computed again, unless
        its checksum tells that it was changed. One sweep writes it at a time. None: results are kept in memory.
    - `workers`: how many processes of this machine compute, each on a core of its own, 0 for this process alone. By default
        one for each core where there is a `store`, else 0. Their number changes no bit of the results; this process may
        round other last bits than workers do, since on several cores a large sum is taken in another order. A worker that
        dies is started again, and its shard with it.
    - `client`: in place of `workers` a `dask.distributed.Client`, or the address of its scheduler. The workers need these
        packages; the store is written from here.
    - `shard_size`: the most settings that are computed at once. Another one may change last bits.
    - `checkpoint_every`: with a `store`, keeps the state of a shard that is being computed after every so many training
        steps, from which it goes on, to the bit, when what computes it is killed: a multiple of `save_every` that divides
        `steps`. The workers of a `client` must see the path of the store too.
    - `progress`: whether a line with an estimate of the time left is shown on a terminal; or a function of shards that are
        done, of all of them, and of the seconds left, None at first.

    **Returns:** an `xarray.Dataset` of the observables, `ok` and `failed_at` as of a `Trajectory`, with dims `(*axes, path,
    step, ...)` and the labels of all axes as coordinates; of a store lazily, as `xarray.open_zarr` opens it.

    **Raises:** TypeError or ValueError before anything is run, naming the argument and, where it is one's, the setting;
    ImportError where what is needed of `pip install traindyn[sweep]` is missing; OSError for a full disk.
    """
    axes_ = Axes.of(axes)
    check_experiment(experiment, axes_)
    if run not in (solve, train):
        raise ValueError(f"Argument `run` must be dynamics.solve or dynamics.train, but {run!r} was given.")
    most, show = check_shard_size(shard_size), check_progress(progress)
    count = check_workers(workers, client, store is not None)
    if store is not None:
        check_path(store)
    called = Experiment(experiment, axes_, run)
    plan, firsts = Plan.of(called.at, len(axes_), most)
    every = check_segments(checkpoint_every, firsts, store is not None)
    with contextlib.ExitStack() as stack:
        layout = lambda: layout_of(axes_, plan, firsts, run)  # noqa: E731
        if store is None:
            results, done, kept = Memory(layout(), plan), [], None
        else:
            name = plan.digest(axes_, run.__name__, most, every)
            results = stack.enter_context(contextlib.closing(Store.of(store, axes_, plan, layout, name)))
            done, kept = results.done(), results.kept
            for number in done:
                Kept.drop(kept, number)
        wanted = [number for number in range(len(plan.shards)) if number not in done]
        counted = Progress(len(plan.shards), len(done), stack.enter_context(shown(show)))
        where = (count, client) if count or client is not None else None
        work = called, plan, every, kept
        for number, found in _found(where, work, plan, wanted, counted.share, kept):
            results.put(number, found)
            if kept is not None:
                Kept.drop(kept, number)
            counted.share(number, 1.0)
    return results.dataset()


def _found(
    where: tuple[int, Any] | None, work: tuple, plan: Plan, wanted: list[int], tell: Callable, kept: Path | None
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The results of shards as they come, computed in this process or by workers."""
    try:
        if where is not None and wanted:
            yield from computed(*where, work, plan, wanted, tell)
        else:
            shards = Shards(*work)
            for number in wanted:
                yield number, shards(number, lambda share, number=number: tell(number, share))
    except OSError as error:
        raise full_disk(error, kept.parent.parent if kept is not None else Path()) from error


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

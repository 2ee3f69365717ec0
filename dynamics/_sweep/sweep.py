"""`sweep`: one experiment at many settings."""

from collections.abc import Callable, Mapping
from typing import Any

from .._solve import solve


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
    from .driver import driven  # which most who import this package have no use for

    return driven(
        experiment,
        axes,
        run=run,
        store=store,
        workers=workers,
        client=client,
        shard_size=shard_size,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )

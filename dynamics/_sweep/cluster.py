"""Workers that compute shards: processes of this machine, or any cluster of Dask."""

import contextlib
import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from equations.internal import integer

from .extra import needed
from .plan import Plan

_CONFIG = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_numpy_dtype_promotion",
    "jax_threefry_partitionable",
)


def check_workers(workers: Any, client: Any, stored: bool) -> int:
    """The number of own processes: as given, or one for each core where results are stored; 0: all is computed here.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    if workers is not None and client is not None:
        raise ValueError(f"Argument `workers` must be None where a `client` is given, but {workers!r} was given.")
    if workers is not None:
        return integer("workers", workers, minimum=0)
    return cores() if stored and client is None else 0


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextlib.contextmanager
def cluster(workers: int, client: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A client of Dask, and how JAX is to be configured in its workers."""
    distributed = needed("distributed")
    current: Any = jax.config
    config = {name: getattr(current, name) for name in _CONFIG}
    folder = current.jax_compilation_cache_dir
    with contextlib.ExitStack() as stack:
        if workers:
            folder = folder or stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            own = stack.enter_context(_processes(workers))
            client = stack.enter_context(distributed.Client(own))
        elif isinstance(client, str):
            client = stack.enter_context(distributed.Client(client))
        elif not isinstance(client, distributed.Client):
            raise TypeError(
                f"Argument `client` must be a dask.distributed.Client or the address of a scheduler, but {client!r} "
                "was given."
            )
        if folder:
            config |= {"jax_compilation_cache_dir": folder, "jax_persistent_cache_min_compile_time_secs": 0.1}
        yield client, config


def _processes(count: int) -> Any:
    """A cluster of so many processes, each with one thread and a nanny that starts it again."""
    distributed = needed("distributed")
    from .process import Process  # which imports Dask

    options = {
        "host": "127.0.0.1",
        "nthreads": 1,
        "memory_limit": None,
        "dashboard": False,
        "death_timeout": 60,
        "silence_logs": logging.ERROR,
    }
    spec = {
        number: {
            "cls": Process,
            "options": {"worker_class": "distributed.Nanny", "worker_kwargs": options | {"name": str(number)}},
        }
        for number in range(count)
    }
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": ":0"},
    }
    return distributed.SpecCluster(workers=spec, scheduler=scheduler, silence_logs=logging.ERROR)


def computed(
    workers: int, client: Any, work: tuple, plan: Plan, wanted: list[int], tell: Callable[[int, float], Any]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The results of the shards that are wanted, as they come.

    **Arguments:** `work`: what `Shards` takes; `tell(shard, share)`: how far one has come.

    **Raises:** RuntimeError where workers die again and again.
    """
    distributed, cloudpickle = needed("distributed", "cloudpickle")
    from .worker import Setup, compile_structure, compute_shard  # which imports Dask

    name = f"traindyn-{uuid.uuid4().hex}"
    with cluster(workers, client) as (client, config):
        client.register_plugin(Setup(name, cloudpickle.dumps(work), config, pinned=bool(workers)))
        client.subscribe_topic(name, lambda event: tell(event[1]["shard"], event[1]["share"]))
        options = {"pure": False, "retries": 0}
        try:
            structures = {plan.shards[number].structure for number in wanted}
            compiled = {
                k: client.submit(compile_structure, name, k, key=f"{name}-compile-{k}", priority=1, **options)
                for k in structures
            }
            futures = {
                client.submit(
                    compute_shard, name, number, compiled[plan.shards[number].structure],
                    key=f"{name}-shard-{number}", priority=-place, **options,
                ): number
                for place, number in enumerate(wanted)
            }  # fmt: skip
            for future, found in distributed.as_completed(list(futures), with_results=True):
                yield futures.pop(future), found
        except distributed.KilledWorker as error:
            raise RuntimeError(
                "Workers of the sweep died again and again over the same task. Memory may be short, in which case a "
                "smaller `shard_size` or fewer `workers` help."
            ) from error
        finally:
            client.unsubscribe_topic(name)
            client.unregister_worker_plugin(name)

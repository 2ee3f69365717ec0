"""What a worker of Dask does; imported only where Dask is."""

import contextlib
import os
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import distributed
import jax
import numpy as np

from .shard import Shards


class Setup(distributed.WorkerPlugin):
    """What every worker is given when it starts, one that is started again too.

    **Arguments:** `name`, of the sweep; `work`, pickled for the worker: what `Shards` takes; `config`, of JAX; `pinned`:
    whether a worker takes the core of its number.
    """

    idempotent = True

    def __init__(self, name: str, work: bytes, config: dict[str, Any], pinned: bool):
        self.name = name
        self._work, self._config, self._pinned, self._path = work, config, pinned, list(sys.path)

    def setup(self, worker: distributed.Worker) -> None:
        """Before JAX starts its threads."""
        if self._pinned:
            pin(int(worker.name))
        for name, value in self._config.items():
            jax.config.update(name, value)
        self._lock, self._shards = threading.Lock(), None

    @contextlib.contextmanager
    def shards(self):
        """The shards, for one thread at a time."""
        with self._lock:
            if self._shards is None:
                sys.path.extend(place for place in self._path if place not in sys.path)
                self._shards = Shards(*pickle.loads(self._work))
            yield self._shards


def pin(number: int) -> None:
    """Keeps this process on one core, where the system can."""
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), {cores[number % len(cores)]})


def compile_structure(name: str, number: int) -> None:
    """A task: compiles the function of a structure, which JAX's cache then has for all workers."""
    with _setup(name).shards() as shards:
        shards.compile(number)


def compute_shard(name: str, number: int, compiled: None) -> dict[str, np.ndarray]:
    """A task: the results of a shard."""
    worker = distributed.get_worker()
    with _setup(name).shards() as shards:
        return shards(number, lambda share: worker.log_event(name, {"shard": number, "share": share}))


def _setup(name: str) -> Setup:
    found: Any = distributed.get_worker().plugins[name]
    return found

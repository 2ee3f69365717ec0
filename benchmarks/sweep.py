"""A sweep by two workers: one of them killed midway against none killed, and two against one, each on a core of its own.

The rate of a sweep is that of its shards from the first that is finished to the last: start and compilation stand apart.
"""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import xarray as xr

from dynamics import sweep, train
from equations import SGD, Objective

from ._timing import Figure

JOBS, SECONDS = 200, 120.0  # of one worker, for what is compared between one and two
X = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)


def loss(w, example):
    return jnp.sum(jnp.sin(w - example) ** 2)


OBJECTIVE = Objective(loss, X)
OBSERVE = {"loss": OBJECTIVE.value}


def experiment(learning_rate, seed, steps):
    return dict(
        equation=SGD(learning_rate, 16),
        objective=OBJECTIVE,
        params=jnp.zeros(64, jnp.float32),
        steps=steps,
        paths=4,
        key=jax.random.key(seed),
        observe=OBSERVE,
        save_every=steps // 4,
    )


class Clock:
    """When how many shards were done; at a number of them something happens."""

    def __init__(self, at: float = np.inf, act=lambda: None):
        self.begin, self.seen = 0.0, []
        self._at, self._act = at, act

    def __call__(self, done, total, left):
        self.seen.append((time.perf_counter(), done))
        if done >= self._at:
            self._at = np.inf
            threading.Timer(0.2, self._act).start()  # in the middle of a shard

    @property
    def seconds(self) -> float:
        """All in all."""
        return self.seen[-1][0] - self.begin

    @property
    def per_shard(self) -> float:
        """From the first shard that is finished to the last."""
        (first, few), (last, all_) = self.seen[1], self.seen[-1]
        return (last - first) / (all_ - few)


def kill_one() -> None:
    """A worker of this process's, below its nanny."""
    nannies = psutil.Process().children()
    workers = [c for nanny in nannies for c in nanny.children() if "spawn_main" in " ".join(c.cmdline())]
    os.kill(workers[0].pid, signal.SIGKILL)


def _swept(path: Path, jobs: int, steps: int, workers: int, clock: Clock) -> xr.Dataset:
    axes = {"learning_rate": [0.01, 0.02], "seed": range(jobs // 2), "steps": [steps]}
    clock.begin = time.perf_counter()
    sweep(experiment, axes, run=train, store=path, workers=workers, shard_size=4, progress=clock)
    return xr.open_zarr(path).load()


def run(jobs: int = JOBS, seconds: float = SECONDS) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        probe = Clock()
        _swept(Path(folder, "probe.zarr"), 16, 2000, 1, probe)
        steps = 4 * max(1, round(500 * seconds / (jobs / 4 * probe.per_shard)))
        clocks = {name: Clock() for name in ("one", "two")} | {"killed": Clock(jobs / 8, kill_one)}
        runs = {
            name: _swept(Path(folder, f"{name}.zarr"), jobs, steps, 1 if name == "one" else 2, clock)
            for name, clock in clocks.items()
        }
    one, two, killed = clocks["one"], clocks["two"], clocks["killed"]
    whole = int(runs["killed"]["ok"].sum(("path",)).astype(bool).sum())
    alike = all(runs[name].identical(runs["one"]) for name in ("two", "killed"))
    note = f"{jobs} jobs of {steps} steps; {one.seconds:.0f} s by one worker, {two.seconds:.0f} s by two"
    return [
        Figure("sweep: results with a worker killed, as many as jobs", whole == jobs, True),
        Figure("sweep: one worker, two, one of two killed: the same bits", alike, True),
        Figure("sweep: time with a worker killed over that without", killed.seconds / two.seconds, 1.3, note),
        Figure("sweep: two pinned workers over one, per shard", two.per_shard / one.per_shard, 0.6, note),
    ]

"""Sweeps by processes of their own: started, pinned, killed, interrupted."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr
from sweeps import AXES, experiment

from dynamics import sweep, train

ROOT = Path(__file__).parents[3]
CASES = [
    ("killed", "instance", "a worker, SIGKILL, in a running shard", "test_a_killed_worker"),
    ("killed", "brother", "all workers, again and again", "test_workers_that_die_always"),
    ("killed", "brother", "a worker of a cluster of the user's", "test_a_cluster_of_the_users"),
    ("killed", "brother", "the driver, SIGKILL, and started again", "test_a_killed_driver[SIGKILL]"),
    ("killed", "brother", "the driver, SIGINT, and started again", "test_a_killed_driver[SIGINT]"),
    ("killed", "brother", "interrupted in a session that goes on", "test_nothing_is_left"),
    ("none", "brother", "each on a core of its own", "test_workers_are_pinned"),
    ("none", "brother", "one worker, two workers, a script without a guard", "test_any_number_of_workers"),
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:unclosed", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SCRIPT = """\
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
from dynamics import sweep, train
from equations import SGD, Objective

X = np.random.default_rng(0).standard_normal((64, 32))
objective = Objective(lambda w, x: jnp.sum(jnp.sin(w - x) ** 2), X)

def experiment(learning_rate, seed):
    return dict(equation=SGD(learning_rate, 4), objective=objective, params=jnp.zeros(32), steps=STEPS, paths=4,
                key=jax.random.key(seed), observe={"loss": objective.value}, save_every=1000)

def show(done, total, left):
    print("done", done, flush=True)

runs = sweep(experiment, {"learning_rate": [.01, .02], "seed": range(8)}, run=train, store="STORE", workers=WORKERS,
             shard_size=2, checkpoint_every=EVERY, progress=show)
print("computed by", WORKERS, float(runs["loss"].sum()))
"""


def script(folder, store, steps=6_000, every="None", workers=2):
    text = SCRIPT
    for name, value in {"STEPS": steps, "STORE": store, "EVERY": every, "WORKERS": workers}.items():
        text = text.replace(name, str(value))
    file = folder / f"script_{store}_{workers}.py"
    file.write_text(text)
    return file


def started(file, **more):
    """The script as a user's, in a session of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | more
    return subprocess.Popen(
        [sys.executable, str(file)],
        cwd=file.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def workers_of(process):
    """The processes that compute: below the nannies."""
    own = psutil.Process(process.pid) if not isinstance(process, psutil.Process) else process
    return [
        child for nanny in own.children() for child in nanny.children() if "spawn_main" in " ".join(child.cmdline())
    ]


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def line(process, pattern):
    for text in process.stdout:
        if re.search(pattern, text):
            return
    raise AssertionError(process.stderr.read())


def test_any_number_of_workers(tmp_path):
    for workers in (1, 2):
        cache = tmp_path / f"cache_{workers}"
        finished(started(script(tmp_path, f"{workers}.zarr", workers=workers), JAX_COMPILATION_CACHE_DIR=str(cache)))
        assert len(list(cache.glob("jit_run-*-cache"))) == 1  # compiled by one of them
    one, two = (xr.open_zarr(tmp_path / f"{workers}.zarr").load() for workers in (1, 2))
    xr.testing.assert_identical(one, two)
    assert one["ok"].all() and one.sizes["step"] == 7


def test_workers_are_pinned(tmp_path):
    process = started(script(tmp_path, "runs.zarr", steps=200_000))
    line(process, "done 1")
    own = sorted(os.sched_getaffinity(0))
    masks = sorted(worker.cpu_affinity() for worker in workers_of(process))
    assert masks == sorted([own[number % len(own)]] for number in range(2))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


@pytest.mark.parametrize("every", ["None", "3_000"])
def test_a_killed_worker(tmp_path, every):
    """In the middle of the sweep, in a shard; the results are those of a sweep in which nothing dies, to the bit."""
    finished(started(script(tmp_path, "whole.zarr", every=every)))
    process = started(script(tmp_path, "runs.zarr", every=every))
    line(process, r"done [1-4]\.")
    victim = workers_of(process)[0]
    until(lambda: victim.cpu_percent(0.05) > 50 or len(list((tmp_path / "runs.zarr/.sweep/shards").iterdir())) > 5)
    os.kill(victim.pid, signal.SIGKILL)
    assert "computed by" in finished(process)
    whole, runs = (xr.open_zarr(tmp_path / name).load() for name in ("whole.zarr", "runs.zarr"))
    xr.testing.assert_identical(runs, whole)


def test_workers_that_die_always(tmp_path):
    driver = os.getpid()

    def deadly(seed):
        if os.getpid() != driver:
            os.kill(os.getpid(), signal.SIGKILL)
        return experiment(0.1, 2, seed)

    with pytest.raises(RuntimeError, match="Workers of the sweep died again and again"):
        sweep(deadly, {"seed": [0]}, run=train, store=tmp_path / "runs.zarr", workers=1)
    whole = sweep(lambda seed: experiment(0.1, 2, seed), {"seed": [0]}, run=train, workers=1)  # in memory
    assert whole["ok"].all()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_killed_driver(tmp_path, name):
    """Nothing of it goes on, and started again it computes the rest."""
    finished(started(script(tmp_path, "whole.zarr")))
    process = started(script(tmp_path, "runs.zarr"))
    line(process, r"done [2-4]\.")
    below = psutil.Process(process.pid).children(recursive=True)
    if name == "SIGINT":  # as from a keyboard
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    _, err = process.communicate(timeout=60)
    assert name == "SIGKILL" or "CommClosedError" not in err  # what the workers would say
    until(lambda: not any(child.is_running() and child.status() != "zombie" for child in below))
    stored = len(list((tmp_path / "runs.zarr/.sweep/shards").iterdir()))
    assert 0 < stored < 8
    out = finished(started(script(tmp_path, "runs.zarr")))
    assert f"done {stored}\n" in out and f"done {stored - 1}\n" not in out
    whole, runs = (xr.open_zarr(tmp_path / name).load() for name in ("whole.zarr", "runs.zarr"))
    xr.testing.assert_identical(runs, whole)


def test_nothing_is_left(tmp_path):
    """Of an interrupted sweep, in a session that goes on and holds the error."""

    def stop(done, total, left):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as held:
        sweep(experiment, AXES, run=train, store=tmp_path / "runs.zarr", workers=1, shard_size=2, progress=stop)
    assert held.value and not [c for c in psutil.Process().children() if "dask" in " ".join(c.cmdline())]
    assert sweep(experiment, AXES, run=train, store=tmp_path / "runs.zarr", workers=1, shard_size=2)["ok"].all()


def test_a_cluster_of_the_users(tmp_path):
    """By a client and by the address, and with one of its workers killed."""
    import distributed

    expected = sweep(experiment, AXES, run=train, shard_size=2)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client:
            runs = sweep(experiment, AXES, run=train, client=client, shard_size=2)
            np.testing.assert_allclose(runs["w"], expected["w"], rtol=1e-13)
            pid = next(iter(client.run(os.getpid).values()))
            killer = threading.Timer(1.0, os.kill, (pid, signal.SIGKILL))
            killer.start()
            runs = sweep(experiment, AXES, run=train, client=cluster.scheduler_address, store=tmp_path / "runs.zarr")
            killer.join()
            np.testing.assert_allclose(runs["w"], expected["w"], rtol=1e-12)

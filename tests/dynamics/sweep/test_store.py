"""What a store survives, and what it refuses; computed in this process, where a fault can be had at any place."""

import errno
import json
import subprocess
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr
from marks import some
from sweeps import OBJECTIVE, experiment

from dynamics import solve, sweep, train
from dynamics._sweep import kept, store
from dynamics._sweep.described import Described, Digests
from dynamics._sweep.shard import Shards
from equations import Adam

AXES = {"learning_rate": [0.1, 0.2], "batch_size": [2], "seed": range(3)}
CASES = [
    ("interrupted", "instance", "the driver is interrupted between shards and started again", "test_interrupted"),
    ("interrupted", "brother", "an experiment that fails in its third shard", "test_a_failing_run"),
    ("interrupted", "brother", "in a shard, between its segments", "test_segments_go_on"),
    ("full disk", "instance", "a chunk cannot be written", "test_full_disk[chunk]"),
    ("full disk", "brother", "a checksum cannot be written", "test_full_disk[record]"),
    ("full disk", "brother", "the store cannot be made", "test_full_disk[new]"),
    ("full disk", "brother", "the state of a shard cannot be kept", "test_full_disk[state]"),
    ("full disk", "brother", "a real one", "test_a_disk_that_is_full"),
    ("corrupted", "instance", "a bit of a chunk is flipped", "test_corrupted[flipped]"),
    ("corrupted", "brother", "a chunk holds other numbers, well encoded", "test_corrupted[rewritten]"),
    ("corrupted", "brother", "a chunk is gone", "test_corrupted[gone]"),
    ("corrupted", "brother", "a checksum is cut off", "test_corrupted[record]"),
    ("corrupted", "brother", "the state of a shard is", "test_segments_go_on"),
    ("two drivers", "instance", "a second sweep while the first one runs", "test_two_drivers"),
    ("two drivers", "brother", "both make the store", "test_two_drivers_make_the_store"),
    ("two drivers", "brother", "another experiment while the first one runs", "test_two_drivers"),
    ("another sweep", "instance", "another version", "test_refused[version]"),
    ("another sweep", "instance", "another experiment", "test_refused[experiment]"),
    ("another sweep", "brother", "other axes, another run, another size of shards", "test_refused[axes]"),
    ("another sweep", "brother", "what is no store", "test_refused[folder]"),
    (
        "another sweep",
        "brother",
        "a function, constant or array that an experiment only reads",
        "test_a_sweep_is_known",
    ),
    ("another sweep", "brother", "an experiment that is another one at every call", "test_another_at_every_call"),
    ("none", "brother", "nothing is wrong", "test_the_same_as_in_memory"),
]


def swept(path, experiment=experiment, axes=AXES, **options):
    return sweep(
        experiment, axes, store=path, **{"run": train, "workers": 0, "shard_size": 2, "progress": False} | options
    )


@pytest.fixture(scope="module")
def whole():
    """The results, which never were on a disk."""
    return sweep(experiment, AXES, run=train, shard_size=2, progress=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.zarr"


@pytest.fixture
def computed(monkeypatch):
    """The numbers of the shards that are computed."""
    numbers, call = [], Shards.__call__
    monkeypatch.setattr(
        Shards, "__call__", lambda self, number, *more: (numbers.append(number), call(self, number, *more))[1]
    )
    return numbers


def same(found, expected):
    xr.testing.assert_identical(found.load(), expected)
    assert {n: v.dtype.kind for n, v in found.variables.items()} == {
        n: v.dtype.kind for n, v in expected.variables.items()
    }


def stop_at(shards):
    def show(done, total, left):
        if done >= shards:
            raise KeyboardInterrupt

    return show


@pytest.mark.slow
def test_the_same_as_in_memory(path, whole):
    runs = swept(path)
    assert all(runs[name].chunks for name in ("loss", "w", "time"))  # nothing is read as yet
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(xr.open_zarr(path), whole)
    same(runs, whole)
    assert not [file for file in path.rglob("*") if file.suffix in (".pkl", ".pickle", ".part", ".partial")]
    assert all(
        file.read_bytes()[:1] != b"\x80" for file in path.rglob("*") if file.is_file()
    )  # as what is pickled begins


def test_interrupted(path, whole, computed):
    with pytest.raises(KeyboardInterrupt):
        swept(path, progress=stop_at(2))
    half = xr.open_zarr(path).load()
    assert set(np.unique(half["failed_at"])) == {-2, -1} and half["loss"].isnull().any()
    first = computed.copy()
    same(swept(path), whole)
    assert sorted(computed) == list(range(3)) and len(first) == 2
    computed.clear()
    same(swept(path), whole)
    assert computed == []


def test_a_failing_run(path, whole, monkeypatch):
    call = Shards.__call__

    def failing(self, number, *more):
        if number == 2:
            raise RuntimeError("no memory")
        return call(self, number, *more)

    monkeypatch.setattr(Shards, "__call__", failing)
    with pytest.raises(RuntimeError, match="no memory"):
        swept(path)
    monkeypatch.setattr(Shards, "__call__", call)
    same(swept(path), whole)


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("what", some(["chunk", "record", "new", "state"], ("chunk", "state")))
def test_full_disk(path, whole, monkeypatch, what):
    options = {"checkpoint_every": 4} if what == "state" else {}
    if what != "new":
        with pytest.raises(KeyboardInterrupt):
            swept(path, progress=stop_at(1), **options)
    before = files(path.parent)
    with monkeypatch.context() as patch:
        if what in ("chunk", "new"):
            patch.setattr(zarr.storage.LocalStore, "set", full)
        else:
            patch.setattr(kept if what == "state" else store, "write_whole", full)
        with pytest.raises(OSError, match=r"is full\. What is stored is whole: free some space and call `sweep` again"):
            swept(path, **options)
    assert files(path.parent) == before
    if not options:
        same(swept(path), whole)


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path, whole):
    """A file system of its own, which becomes full in a shard, and larger."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(tmp_path)], capture_output=True)
    if done.returncode:
        pytest.skip("No file system can be mounted here.")
    try:
        path = tmp_path / "runs.zarr"
        with pytest.raises(OSError, match="is full"):
            swept(path, shard_size=1)
        stored, found = len(list((path / ".sweep/shards").iterdir())), xr.open_zarr(path).load()
        assert 0 < stored < 6 and int((found["failed_at"] > -2).sum()) == stored
        assert all(int(found[name].notnull().any(("path", "step")).sum()) == stored for name in ("loss",))
        subprocess.run(["mount", "-o", "remount,size=4m", str(tmp_path)], check=True)
        xr.testing.assert_allclose(swept(path, shard_size=1).load(), whole, rtol=1e-12)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def files(folder):
    return {file for file in folder.rglob("*") if file.is_file() and file.name != "lock"}


def flipped(path):
    chunk = next(path.glob("w/c/1/0/1/0/0/0"))
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)


def rewritten(path):
    array = zarr.open_group(path, mode="r+")["w"]
    array[1, 0, 1] = array[1, 0, 1] + 1e-9


def gone(path):
    next(path.glob("w/c/1/0/1/0/0/0")).unlink()


def record(path):
    file = path / ".sweep" / "shards" / "2.json"
    file.write_text(file.read_text()[:20])


@pytest.mark.parametrize("harm", [flipped, rewritten, *some((gone, record), ())])
def test_corrupted(path, whole, computed, harm):
    swept(path)
    computed.clear()
    harm(path)
    if harm is flipped:  # who reads is told, whoever that is
        with pytest.raises(Exception, match="(?i)crc32c|checksum"):
            xr.open_zarr(path).load()
    same(swept(path), whole)
    assert len(computed) == 1


def test_segments_go_on(path, whole, monkeypatch):
    """Killed between two segments, with the state whole, cut off, or of another shard, to the bit."""
    together = swept(path.with_name("whole.zarr"), checkpoint_every=4)
    np.testing.assert_allclose(together["w"], whole["w"], rtol=1e-13)
    np.testing.assert_array_equal(together["time"], whole["time"])
    states, found, load = path / ".sweep" / "states", [], kept.Kept.load
    monkeypatch.setattr(kept.Kept, "load", lambda self: (found.append(load(self)), found[-1])[1])
    for number, harm in enumerate((lambda data: data, lambda data: data[:-9], lambda data: b"")):
        with pytest.raises(KeyboardInterrupt):
            swept(path, progress=stop_at(number + 0.5), checkpoint_every=4)
        (state,) = states.iterdir()
        state.write_bytes(harm(state.read_bytes()))
    same(swept(path, checkpoint_every=4), together.load())
    # The first shard goes on from step 4, the second has lost its state, the third too.
    assert [state and state[2] for state in found] == [None, 4, None, None, None, None] and not list(states.iterdir())


def test_two_drivers(path, whole):
    refused = []

    def again(done, total, left):
        for other in (experiment, lambda **setting: experiment(**setting) | {"noise": "gaussian"}):
            with pytest.raises(ValueError, match="another one is writing"):
                swept(path, other)
            refused.append(done)

    same(swept(path, progress=again), whole)
    assert len(refused) == 8
    same(swept(path), whole)


def test_two_drivers_make_the_store(path, whole, monkeypatch):
    made = store._write

    def slowly(temporary, layout):
        monkeypatch.setattr(store, "_write", made)
        swept(path)
        made(temporary, layout)

    monkeypatch.setattr(store, "_write", slowly)
    same(swept(path), whole)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "what", some(["version", "experiment", "axes", "run", "shard_size", "folder"], ("version", "experiment", "folder"))
)
def test_refused(path, what):
    one = {"learning_rate": [0.1], "batch_size": [1], "seed": [0]}
    if what == "folder":
        path.mkdir()
    else:
        swept(path, axes=one)
    before, words = files(path), "`store` must be of the same experiment"
    options = {"axes": one}
    if what == "version":
        manifest = path / ".sweep" / "manifest.json"
        about = json.loads(manifest.read_text())
        about["versions"]["traindyn"] = "0.0.9"
        manifest.write_text(json.dumps(about))
        words = r"`store` must be of the same versions.*traindyn 0\.0\.9 \(here"
    elif what == "folder":
        words = "`store` must be a path at which nothing is"
    elif what == "experiment":
        options["experiment"] = lambda **setting: experiment(**setting) | {"equation": Adam(0.1)}
    else:
        options |= {"axes": {"axes": one | {"seed": [1]}}, "run": {"run": solve}, "shard_size": {"shard_size": 3}}[what]
    with pytest.raises(ValueError, match=words):
        swept(path, **options)
    assert files(path) == before


def made(factor, array, source="w * factor + array.sum() + helper(w)", helper="w"):
    """A function as of a user's module, from its source."""
    scope = {"factor": factor, "array": array}
    exec(
        compile(f"def helper(w):\n    return {helper}\ndef function(w):\n    return {source}", "user.py", "exec"), scope
    )
    return scope["function"]


def test_a_sweep_is_known():
    """By what the functions are that it is given, and by what these read."""
    described = Described(Digests())
    one = described(made(2.0, np.ones(3)))
    assert described(made(2.0, np.ones(3))) == one and one[1] == ()
    others = [
        made(3.0, np.ones(3)),
        made(2.0, np.zeros(3)),
        made(2.0, np.ones(3), "w * factor - array.sum() + helper(w)"),
        made(2.0, np.ones(3), helper="w + 1"),
    ]
    assert len({described(other) for other in others} | {one}) == 5
    assert described(OBJECTIVE)[0] != described(type(OBJECTIVE)(OBJECTIVE.loss, (np.ones((8, 2)), np.ones(8))))[0]


def test_another_at_every_call(path):
    calls = iter(range(1000))

    def other(learning_rate):
        return experiment(learning_rate, 1, next(calls))

    with pytest.raises(ValueError, match="`experiment` must give the same for a setting whenever it is called"):
        swept(path, other, {"learning_rate": [0.1, 0.2]})

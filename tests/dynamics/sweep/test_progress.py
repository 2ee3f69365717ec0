"""How far a sweep has come, and what the measures of the other modules reject."""

import sys

import numpy as np
import pytest
from marks import some
from sweeps import experiment

from dynamics import sweep, train
from dynamics._sweep import described, progress, segments, store

AXES = {"learning_rate": [0.1, 0.2], "seed": range(2)}


def fixed(learning_rate, seed):
    return experiment(learning_rate, 2, seed)


def test_the_time_left(monkeypatch):
    """By what is done since it began, parts of shards too; what was stored before took no time of this run."""
    now, seen = [100.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    counted = progress.Progress(10, 2, lambda *told: seen.append(told))
    now[0] = 130.0
    counted.share(3, 0.5)
    now[0] = 160.0
    counted.share(3, 1.0)
    counted.share(4, 0.5)
    counted.share(3, 0.7)  # as it comes late from a worker
    assert seen.pop() == seen[-1] == (3.5, 10, 60 * 6.5 / 1.5)
    assert seen == [(2, 10, None), (2.5, 10, 30 * 7.5 / 0.5), (3, 10, 60 * 7), (3.5, 10, 60 * 6.5 / 1.5)]


@pytest.mark.parametrize(
    ("left", "words"),
    [(None, "2.5 of 10 shards"), (30, "30 s left"), (90, "1.5 min left"), (9000, "2.5 h"), (2e5, "days")],
)
def test_words(left, words):
    assert words in progress.words(2.5, 10, left)


def test_a_line_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress.shown(True) as show:
        show(1.0, 4, 90.0)
    with progress.shown(False) as show:
        assert show(1.0, 4, None) is None


def test_without_the_extra(monkeypatch, tmp_path):
    for name in ("zarr", "distributed"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            options = {"workers": 1} if name == "distributed" else {"store": tmp_path / "runs.zarr", "workers": 0}
            with pytest.raises(ImportError, match=r"needs " + name + r".*pip install traindyn\[sweep\]"):
                sweep(fixed, AXES, run=train, **options)
    sweep(fixed, AXES, run=train)  # which needs none of them


def right(path):
    """Whether a sweep into a store, corrupted and begun again in the middle, gives what single runs give."""
    options = {"run": train, "store": path, "workers": 0, "shard_size": 2, "checkpoint_every": 4, "progress": False}
    sweep(fixed, AXES, **options)
    next(path.glob("w/c/1/*/0/0/0")).unlink()
    runs = sweep(fixed, AXES, **options).load()
    return all(
        np.allclose(
            runs["w"].sel(learning_rate=rate, seed=seed), train(**fixed(rate, seed)).observables["w"], rtol=1e-12
        )
        for rate in AXES["learning_rate"]
        for seed in AXES["seed"]
    )


PLACES = store.Store._places
MUTANTS = {
    "none": None,
    "checksums that are all the same": (store, "_checksum", lambda arrays: "the same"),
    "settings that are taken for equal": (described.Digests, "__call__", lambda self, array: "the same"),
    "segments that begin with the first step": (
        segments.Segments,
        "_later",
        lambda self, done, *args: self._first(*args[:2]),
    ),
    "shards in the wrong places": (store.Store, "_places", lambda self, number: PLACES(self, number)[::-1]),
}


@pytest.mark.parametrize("name", some(MUTANTS, ("none", "checksums that are all the same")))
def test_mutants(name, monkeypatch, tmp_path):
    if MUTANTS[name]:
        monkeypatch.setattr(*MUTANTS[name])
    assert right(tmp_path / "runs.zarr") == (name == "none")

"""The history of the benchmarks: kept whole, and what has become worse is named."""

import json

import pytest

from benchmarks._history import load, machine, place, recorded, said, save, worse
from benchmarks._timing import Figure, Ratio


def figure(name, *ratio, limit=None):
    return Figure(name, Ratio(*ratio), limit, "3 ms")


def test_what_has_become_worse_is_named(tmp_path):
    here = machine()
    path = place(here, tmp_path / "history")
    assert load(path) == [] and worse([figure("a", 1.0, 0.9, 1.1)], []) == []
    before = [figure("a", 1.0, 0.9, 1.05), figure("b", 1.0, 0.9, 1.1), figure("c", 1.0, 0.5, 2.0), Figure("d", 3.0)]
    save([recorded(before, here)], path)
    now = [
        figure("a", 1.2, 1.1, 1.3),
        figure("b", 1.09, 1.0, 1.2),
        figure("c", 1.2, 0.6, 2.0),
        figure("e", 9.0, 9.0, 9.0),
    ]
    lines = worse(now, load(path))
    assert [line.split(":")[0] for line in lines] == ["a", "c"]
    assert "1.200 [1.100, 1.300] now, 1.000 [0.900, 1.050]" in lines[0] and "within" not in lines[0]
    assert lines[1].endswith("though within what both varied by")


def test_it_is_held_against_the_last_run(tmp_path):
    """And a mutant that looks at the first one finds nothing."""
    runs = [recorded([figure("a", median, median, median)], machine()) for median in (2.0, 1.0)]
    now = [figure("a", 1.5, 1.5, 1.5)]
    assert worse(now, runs) and not worse(now, runs[:1])


def test_a_file_is_whole(tmp_path):
    path = tmp_path / "one.json"
    save([recorded([figure("a", 1.0, 0.9, 1.1, limit=2.0)], machine())], path)
    (run,) = json.loads(path.read_text())
    assert run["figures"]["a"] == {"median": 1.0, "low": 0.9, "high": 1.1, "limit": 2.0, "note": "3 ms"}
    assert run["versions"]["jax"] in said(run) and list(tmp_path.iterdir()) == [path]
    for text in ("{", "{}", "[1]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="must hold the history of benchmarks"):
            load(path)

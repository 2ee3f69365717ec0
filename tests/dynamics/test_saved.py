"""Trajectories at rest: what was saved goes on as if it had never been, or is refused."""

import gc
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

from dynamics import Trajectory, solve, train
from equations import SGD, Adam, Objective, from_optax, scheduled

W0 = {"a": jnp.array([0.3, 0.5]), "b": jnp.array([1.0, -1.0, 0.5])}
DATA = (jnp.linspace(-1, 1, 12).reshape(6, 2), jnp.ones(6))
KEY = jax.random.key(0)
RULES = {
    "adam": Adam(0.05, 2),
    "scheduled": scheduled(SGD(0.05, 2), optax.cosine_decay_schedule(1.0, 40)),
    "half": from_optax(lambda learning_rate: optax.adam(learning_rate, mu_dtype=jnp.bfloat16), 0.05, 2),
}


def squared(w, example):
    x, y = example
    return jnp.sum((jnp.tanh(w["a"] * x) - y) ** 2) + 0.1 * jnp.sum(w["b"] ** 2)


OBJECTIVE = Objective(squared, DATA)
OBSERVE = {"loss": OBJECTIVE.value, "a": lambda w: w["a"]}


def same(a, b):
    return all(np.array_equal(*map(np.asarray, pair)) for pair in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.fixture(scope="module")
def half():
    return train(RULES["adam"], OBJECTIVE, W0, steps=4, key=KEY, paths=2, observe=OBSERVE, keep_states=True)


@pytest.fixture
def path(half, tmp_path):
    half.save(tmp_path / "half.nc")
    return tmp_path / "half.nc"


@pytest.mark.slow
@pytest.mark.parametrize("run", [train, pytest.param(solve, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["adam", *(pytest.param(n, marks=pytest.mark.slow) for n in ("scheduled", "half"))])
def test_goes_on(name, run, tmp_path):
    options = dict(observe=OBSERVE, save_every=2)
    half = run(RULES[name], OBJECTIVE, W0, steps=4, key=KEY, paths=2, **options)
    half.save(tmp_path / "half.nc")
    again = Trajectory.load(tmp_path / "half.nc", like=W0)
    rest = run(RULES[name], OBJECTIVE, start=half, steps=4, **options)
    loaded = run(RULES[name], OBJECTIVE, start=again, steps=4, **options)
    assert same((rest.final, rest.observables, rest.times), (loaded.final, loaded.observables, loaded.times))
    assert not same(rest.final, half.final)


PROCESS = """
import sys; sys.path.insert(0, {tests!r})
import jax; jax.config.update("jax_enable_x64", True)
from dynamics.test_saved import OBJECTIVE, OBSERVE, RULES, W0
from dynamics import Trajectory, train
half = Trajectory.load({path!r}, like=W0)
train(RULES["adam"], OBJECTIVE, start=half, steps=4, observe=OBSERVE).save({end!r})
"""


@pytest.mark.slow
def test_goes_on_in_a_new_process(half, path, tmp_path):
    module = pathlib.Path(__file__)
    code = PROCESS.replace("from dynamics.test_saved import", "from test_saved import")
    code = code.format(tests=str(module.parent), path=str(path), end=str(tmp_path / "end.nc"))
    flags = {"XLA_FLAGS": os.environ.get("XLA_FLAGS", ""), "PYTHONPATH": str(module.parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | flags)
    rest = train(RULES["adam"], OBJECTIVE, start=half, steps=4, observe=OBSERVE)
    end = Trajectory.load(tmp_path / "end.nc", like=W0)
    assert same((rest.final, rest.observables), (end.final, end.observables))


@pytest.mark.slow
def test_all_of_it_is_there(half, path):
    again = Trajectory.load(path, like=W0)
    assert same((half.final, half.observables), (again.final, again.observables))
    assert same(
        (half.steps, half.times, half.ok, half.failed_at), (again.steps, again.times, again.ok, again.failed_at)
    )
    assert (again.kind, again.details, again.units) == (half.kind, half.details, half.units)
    assert again.to_xarray().attrs["equation"] == "Adam" and again.to_xarray().attrs["b2"] == 0.999
    for name in ("states", "twin_states", "final_state", "twin_final_state"):
        assert jax.tree.structure(getattr(again, name)) == jax.tree.structure(getattr(half, name))
        assert same(getattr(again, name), getattr(half, name))
    again.save(path)  # over the file that it came from
    assert same(Trajectory.load(path, like=W0).final, half.final)


@pytest.mark.slow
def test_xarray_opens_it(half, path):
    with xr.open_dataset(path, engine="h5netcdf") as found:
        np.testing.assert_array_equal(found["loss"], half.observables["loss"])
        assert found.attrs["learning_rate"] == 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kept", [96, 200, 1000])
def test_what_is_half_open_is_closed(path, kept):
    """Nothing is told at the end of a process of a file that could not be read, as one of the right length is."""
    whole = path.read_bytes()
    path.write_bytes(whole[:kept] + bytes(len(whole) - kept))
    seen = []
    hook, sys.unraisablehook = sys.unraisablehook, seen.append
    try:
        with pytest.raises(ValueError, match="Argument `path` must be a whole file"):
            Trajectory.load(path, like=W0)
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not seen


@pytest.mark.slow
def test_names_of_files_that_are_none(half, tmp_path):
    for name, words in ((tmp_path, "is a directory"), (tmp_path / "run.zarr", "be taken for a Zarr store")):
        with pytest.raises(ValueError, match=f"Argument `path` must be the name of .*{words}"):
            half.save(name)
    half.save(tmp_path / "half.nc")
    for call in (half.save, lambda path: Trajectory.load(path, like=W0)):
        with pytest.raises(TypeError, match="Argument `path` must be a path, but 3 was given"):
            call(3)
    with pytest.raises(TypeError, match="Argument `like` must be parameters like those of the run, but None"):
        Trajectory.load(tmp_path / "half.nc")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(path, part):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match="Argument `path` must be a whole file"):
        Trajectory.load(path, like=W0)


@pytest.mark.slow
def test_a_changed_number(path):
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        tree = tree.load()
    tree["recorded"]["recorded_0"].values[0, 0] += 1e-9
    path.unlink()
    tree.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(ValueError, match="Argument `path` must be a whole file .* is none, or was changed"):
        Trajectory.load(path, like=W0)


def test_foreign_files(tmp_path):
    xr.Dataset({"a": ("x", np.ones(3))}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    (tmp_path / "text.nc").write_text("no NetCDF")
    for name, words in (("other.nc", "is none"), ("text.nc", "cannot be read"), ("nowhere.nc", "there is none")):
        with pytest.raises(ValueError, match=f"Argument `path`.*{words}"):
            Trajectory.load(tmp_path / name, like=W0)


@pytest.mark.slow
def test_other_parameters(path):
    for like in ({"a": W0["a"]}, W0 | {"a": jnp.ones(3)}, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), W0)):
        with pytest.raises(ValueError, match="Argument `like` must be parameters like those of the run"):
            Trajectory.load(path, like=like)


def test_nothing_is_left_half_written(half, tmp_path, monkeypatch):
    half.save(tmp_path / "half.nc")
    before = (tmp_path / "half.nc").read_bytes()

    def fails(self, path, **kwargs):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(xr.DataTree, "to_netcdf", fails)
    with pytest.raises(OSError, match="disk full"):
        half.save(tmp_path / "half.nc")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("half.nc", before)]


def test_where_there_is_no_directory(half, tmp_path):
    with pytest.raises(ValueError, match="Argument `path` must lie in a directory that exists"):
        half.save(tmp_path / "nowhere" / "half.nc")
    with pytest.raises(ValueError, match="of one run, not of several under vmap"):
        jax.vmap(lambda rate: train(SGD(rate, 2), OBJECTIVE, W0, steps=2, key=KEY))(jnp.ones(2) / 9).save(
            tmp_path / "x"
        )

"""Trajectories at rest: one NetCDF file each, written whole or not at all, and read only if it is whole."""

import hashlib
import json
import os
import pathlib
from collections import OrderedDict
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations.internal import is_parameter

from ._checkpoint import Checkpoint
from ._described import Recorded, hyperparameters, is_recorded, title
from ._file_states import States, state_at_end
from ._files import path_of, write_whole
from ._paths.progress import Stored, names_of
from ._paths.quotient import Peak
from ._rebuilt import describe

_STATIC = ("how", "kind", "paths", "rule", "drew", "frozen")  # of a checkpoint, beside its arrays
_STATES = ("states", "twin_states", "recorded", "final_state")
_FORMAT = "traindyn.Trajectory 3"


def save(trajectory: Any, path: str | os.PathLike) -> None:
    """Writes a trajectory, with all that a run needs to go on from it, as `Trajectory.save` says."""
    import xarray as xr

    target, checkpoint = _target(path), trajectory.checkpoint
    if trajectory.ok.ndim != 1:
        raise ValueError("`Trajectory.save` takes the result of one run, not of several under vmap.")
    record = trajectory.to_xarray()
    parts = _parts(trajectory, checkpoint)
    about = {
        "format": _FORMAT,
        "kind": trajectory.kind,
        "details": trajectory.details,
        "units": trajectory.units,
        "equation": title(trajectory.equation),
        "hyperparameters": sorted(hyperparameters(trajectory.equation).items()),
        "checkpoint": None if checkpoint is None else {name: vars(checkpoint)[name] for name in _STATIC},
        "dtypes": {name: [_dtype(leaf) for leaf in jax.tree.leaves(tree)] for name, tree in parts.items()},
        "names": {name: _names(trajectory, tree) for name, tree in parts.items()},
        "classes": {name: describe(parts[name], parts["final"]) for name in _STATES if name in parts},
    }
    groups = {name: _as_dataset(xr, name, _leaves(tree)) for name, tree in parts.items()}
    record.attrs["about"] = json.dumps(about, sort_keys=True)
    record.attrs["checksum"] = _checksum({"": record, **groups}, record.attrs["about"])
    tree = xr.DataTree.from_dict({"/": record} | {f"/{name}": dataset for name, dataset in groups.items()})
    write_whole(target, lambda temporary: tree.to_netcdf(temporary, engine="h5netcdf"))


def _target(path: str | os.PathLike) -> pathlib.Path:
    """Where a file may be written; a ValueError where none can be."""
    target = path_of("path", path)
    if not target.parent.is_dir():
        raise ValueError(f"Argument `path` must lie in a directory that exists, but {str(path)!r} was given.")
    if target.is_dir():
        raise ValueError(f"Argument `path` must be the name of a file, but {str(path)!r} is a directory.")
    if target.suffix.lower() == ".zarr":
        raise ValueError(
            f"Argument `path` must be the name of a NetCDF file, such as 'run.nc', but {str(path)!r} was given, which "
            "would be taken for a Zarr store."
        )
    return target


def load(path: str | os.PathLike, like: PyTree, equation: Any = None) -> dict[str, Any]:
    """The fields of the trajectory that `save` wrote, as `Trajectory.load` says."""
    import h5py
    import xarray as xr

    if like is None:
        raise TypeError("Argument `like` must be parameters like those of the run, but None was given.")
    if not path_of("path", path).is_file():
        raise ValueError(
            f"Argument `path` must be a file that Trajectory.save wrote, but there is none at {str(path)!r}."
        )
    try:
        with h5py.File(path, "r") as file:  # before h5netcdf, which tells of itself at exit where either fails
            file.attrs.get("checksum")
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            found = {name: node.to_dataset(inherit=False).load() for name, node in tree.subtree_with_keys}
    except Exception as error:
        raise ValueError(
            f"Argument `path` must be a whole file that Trajectory.save wrote, but {str(path)!r} cannot be read as one: "
            f"{type(error).__name__}: {error}"
        ) from error
    record = found.pop(".")
    about: Any = record.attrs.get("about")
    try:
        said = json.loads(about)
        known = said["format"] == _FORMAT and _checksum({"": record, **found}, about) == record.attrs.get("checksum")
    except Exception:
        known = False
    if not known:
        raise ValueError(
            f"Argument `path` must be a whole file that Trajectory.save wrote, but {str(path)!r} is none, or was changed."
        )
    leaves = {name: _from_dataset(found.get(name), said["dtypes"][name], name) for name in said["dtypes"]}
    return _fields(record, said, leaves, like, equation)


def _parts(trajectory: Any, checkpoint: Checkpoint | None) -> dict[str, Any]:
    parts = {"final": eqx.filter(trajectory.final, is_parameter)}
    parts |= {"states": trajectory.states, "twin_states": trajectory.twin_states}
    parts["stopped"] = trajectory.result, trajectory.stopped_at
    if checkpoint is None:
        return parts
    progress = checkpoint.progress
    return parts | {
        "final_state": state_at_end(trajectory),
        "running": progress.running,
        "recorded": progress.recorded,
        "rest": (progress.failed_at, progress.peak, checkpoint.owes, checkpoint.step, checkpoint.time),
        "key": checkpoint.key,
    }


def _names(trajectory: Any, tree: PyTree) -> tuple[str, ...]:
    """Of the leaves of a part; from a file some have nothing but names."""
    return tuple(tree) if is_recorded(trajectory.equation) and type(tree) is OrderedDict else names_of(tree)


def _leaves(tree: PyTree) -> list[np.ndarray]:
    return [np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for leaf in jax.tree.leaves(tree)]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _dtype(leaf: Any) -> str:
    """Of a leaf; of a typed key its implementation."""
    return f"key {jax.random.key_impl(leaf)}" if _is_key(leaf) else str(leaf.dtype)


def _as_dataset(xr, name: str, leaves: list[np.ndarray]):
    """Every leaf a variable; what NetCDF has no type for as the integers of its bits."""

    def variable(place, leaf):
        bits = leaf if leaf.dtype.kind in "fiu" and leaf.dtype.isbuiltin else leaf.view(f"u{leaf.dtype.itemsize}")
        return [f"{name}_{place}_axis_{axis}" for axis in range(leaf.ndim)], bits

    return xr.Dataset({f"{name}_{place}": variable(place, leaf) for place, leaf in enumerate(leaves)})


def _from_dataset(dataset, dtypes: list[str], name: str) -> list[Array]:
    def leaf(place, dtype):
        values = np.asarray(dataset[f"{name}_{place}"].values)
        kind, _, implementation = dtype.partition(" ")
        if kind == "key":
            return jax.random.wrap_key_data(jnp.asarray(values), impl=implementation)
        return _array(values.view(jnp.dtype(dtype)))

    return [leaf(*pair) for pair in enumerate(dtypes)]


def _array(values: Any) -> Array:
    """On the device, to the last bit; a ValueError where JAX would round it."""
    values = np.asarray(values)
    found = jax.dtypes.canonicalize_dtype(values.dtype)
    if found != values.dtype:
        raise ValueError(
            f"Argument `path` must hold numbers as JAX has them here, but it holds {values.dtype}, which would become "
            f"{found}: jax.config.update('jax_enable_x64', True), as in the process that saved it."
        )
    return jnp.asarray(values)


def _checksum(datasets: dict[str, Any], about: str) -> str:
    total = hashlib.sha256(about.encode())
    for name in sorted(datasets):
        for key in sorted(datasets[name].variables):
            values = np.ascontiguousarray(datasets[name].variables[key].values)
            total.update(f"{name}/{key} {values.dtype.str} {values.shape}".encode())
            total.update(values.tobytes())
    return total.hexdigest()


def _fields(record, said: dict, leaves: dict[str, list[Array]], like: PyTree, equation: Any) -> dict[str, Any]:
    varying, static = eqx.partition(like, is_parameter)
    own, treedef = jax.tree.flatten(varying)
    shapes = _described(names_of(varying), own, 0)
    found = _described(said["names"]["final"], leaves["final"], 1)
    if shapes != found:
        raise ValueError(
            f"Argument `like` must be parameters like those of the run, with arrays {', '.join(found)} in this order, but "
            f"it has {', '.join(shapes)}."
        )
    numbers = tuple((name, value) for name, value in said["hyperparameters"])
    states = States(said, leaves, like, Recorded(said["equation"], numbers), equation)
    return dict(
        steps=_array(record["step"].values),
        times=_array(record["time"].values),
        observables={
            str(name): _array(values.values)
            for name, values in record.data_vars.items()
            if name not in ("ok", "failed_at")
        },
        final=eqx.combine(jax.tree.unflatten(treedef, leaves["final"]), static),
        ok=_array(record["ok"].values),
        failed_at=_array(record["failed_at"].values),
        equation=states.equation,
        kind=said["kind"],
        details=tuple((name, value) for name, value in said["details"]),
        states=states.kept("states"),
        twin_states=states.kept("twin_states"),
        checkpoint=_checkpoint(said, leaves, states),
        units=tuple(said["units"]),
        **_stopped(*leaves["stopped"]),
    )


def _stopped(result: Array | None = None, stopped_at: Array | None = None) -> dict[str, Any]:
    """How a run with an event or times of output ended, and when; nothing is said of others."""
    if result is None:
        return {}
    of_diffrax = jax.tree.structure(dfx.RESULTS.successful)
    return dict(result=jax.tree.unflatten(of_diffrax, [result]), stopped_at=stopped_at)


def _described(names: Any, leaves: list, ahead: int) -> list[str]:
    return [f"{n or 'params'}: {leaf.dtype}{list(leaf.shape[ahead:])}" for n, leaf in zip(names, leaves, strict=True)]


def _checkpoint(said: dict, leaves: dict[str, list[Array]], states: States) -> Checkpoint | None:
    if said["checkpoint"] is None:
        return None
    static = {name: _hashable(value) for name, value in said["checkpoint"].items()}
    failed_at, quotient, peaked, owes, step, time = leaves["rest"]
    recorded = states.tree("recorded")
    progress = Stored(
        running=states.by_name("running"),
        recorded=states.by_name("recorded") if recorded is None else recorded,
        failed_at=failed_at,
        peak=Peak(quotient, peaked),
        ended=states.tree("final_state"),
    )
    return Checkpoint(key=leaves["key"][0], step=step, time=time, progress=progress, owes=owes, **static)


def _hashable(value: Any) -> Any:
    """What JSON has for a tuple as one again."""
    return tuple(value) if isinstance(value, list) else value

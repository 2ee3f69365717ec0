"""The results of a sweep in one Zarr store, shard by shard."""

import contextlib
import errno
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._described import version
from .._files import path_of, write_whole
from .axes import Axes
from .described import digest
from .extra import needed
from .layout import Layout
from .plan import Plan

FORMAT = 1
_BESIDE = ".sweep"  # within the store: what is not arrays


class Store:
    """A store that this process writes, and no other.

    Every setting is a chunk of every array. A shard is stored when the file with its checksum is, which is written last.
    """

    def __init__(self, path: Path, lock: Any, axes: Axes, plan: Plan, names: list[str]):
        self.path, self._lock, self._axes, self._plan = path, lock, axes, plan
        self._group = needed("zarr").open_group(path, mode="r+", use_consolidated=False)
        self.names = names

    @classmethod
    def of(cls, given: Any, axes: Axes, plan: Plan, layout: Callable[[], Layout], experiment: str) -> "Store":
        """The store at a path, made if there is none.

        **Arguments:** `layout`, asked for where it is made; `experiment`, the digest of the sweep.

        **Raises:** TypeError or ValueError, naming `store`: what is there is something else, another driver's, of other
        versions, or of another experiment.
        """
        path = check_path(given)
        needed("dask", "zarr", "filelock")
        if not path.exists():
            _create(path, layout(), experiment)
        manifest = _manifest(path)
        lock = _locked(path)
        try:
            _check_same(path, manifest, experiment)
            _tidy(path)
            return cls(path, lock, axes, plan, manifest["arrays"])
        except BaseException:
            lock.release()
            raise

    @property
    def kept(self) -> Path:
        """The folder of states from which shards go on."""
        return self.path / _BESIDE / "states"

    def put(self, number: int, found: dict[str, np.ndarray]) -> None:
        """Stores the results of a shard, or nothing of it.

        **Raises:** OSError, of a full disk with what to do.
        """
        try:
            with full_disk(self.path):
                for name in self.names:
                    for place, value in zip(self._places(number), found[name], strict=True):
                        self._group[name][place] = value
                about = {"checksum": _checksum(found[name] for name in self.names), "settings": self._members(number)}
                write_whole(self._record(number), lambda path: path.write_text(json.dumps(about)))
        except BaseException:
            self._remove(number)
            raise

    def done(self) -> list[int]:
        """The shards that are stored, and are what was stored; others are removed."""
        return [number for number in range(len(self._plan.shards)) if self._is_stored(number)]

    def close(self) -> None:
        """Lets others write it."""
        self._lock.release()

    def dataset(self) -> Any:
        """The `xarray.Dataset` of all, lazily opened."""
        return needed("xarray").open_zarr(self.path)

    def _places(self, number: int) -> list[tuple[int, ...]]:
        return [self._axes.place(member) for member in self._plan.shards[number].members]

    def _members(self, number: int) -> list[int]:
        return list(self._plan.shards[number].members)

    def _record(self, number: int) -> Path:
        return self.path / _BESIDE / "shards" / f"{number}.json"

    def _is_stored(self, number: int) -> bool:
        record = self._record(number)
        if not record.is_file():
            return False
        try:
            about = json.loads(record.read_text())
            arrays = (np.stack([self._group[name][place] for place in self._places(number)]) for name in self.names)
            if about == {"checksum": _checksum(arrays), "settings": self._members(number)}:
                return True
        except Exception:  # of a chunk that cannot be read, or a record that is none
            pass
        self._remove(number)
        return False

    def _remove(self, number: int) -> None:
        """Removes what there is of a shard: a chunk of nothing but what stands for nothing is no file."""
        self._record(number).unlink(missing_ok=True)
        for name in self.names:
            array = self._group[name]
            for place in self._places(number):
                array[place] = array.fill_value


def check_path(given: Any) -> Path:
    """The path of a store, in a folder that is there."""
    path = path_of("store", given, " or None").absolute()
    if not path.parent.is_dir():
        raise ValueError(f"Argument `store` must lie in a directory that exists, but {str(given)!r} was given.")
    return path


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """The error of a full disk says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"The disk of the store {str(path)!r} is full. What is stored is whole: free some space and call `sweep` "
            "again, which goes on from there",
        ) from error


def versions() -> dict[str, Any]:
    """What results may depend on beside the experiment."""
    config: Any = jax.config
    names = ("jax", "jaxlib", "equinox", "diffrax", "optax", "lineax")
    return {
        "format": FORMAT,
        "traindyn": version(),
        **{name: version_of(name) for name in names},
        "python": ".".join(map(str, sys.version_info[:2])),
        "platform": jax.default_backend(),
        "precision": str(jnp.result_type(float)),
        "partitionable keys": bool(config.jax_threefry_partitionable),
    }


def _create(path: Path, layout: Layout, experiment: str) -> None:
    """Makes a store in which nothing is computed; whole or not at all."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(full_disk(path))
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        made = temporary / path.name
        _write(made, layout)
        (made / _BESIDE / "shards").mkdir(parents=True)
        manifest = {"experiment": experiment, "versions": versions(), "arrays": sorted(layout.variables)}
        (made / _BESIDE / "manifest.json").write_text(json.dumps(manifest, indent=1))
        try:
            os.rename(made, path)
        except OSError:
            if not path.exists():  # which another driver made in the meantime
                raise


def _write(path: Path, layout: Layout) -> None:
    dask, codecs = needed("dask.array", "zarr.codecs")
    arrays, encoding = {}, {}
    for name, variable in layout.variables.items():
        shape = *layout.axes.shape, *variable.shape
        chunks = *(1 for _ in layout.axes.shape), *(max(size, 1) for size in variable.shape)
        arrays[name] = dask.full(shape, variable.empty, dtype=variable.dtype, chunks=chunks)
        encoding[name] = {
            "chunks": chunks,
            "fill_value": variable.dtype.type(variable.empty),
            "compressors": (codecs.ZstdCodec(level=1), codecs.Crc32cCodec()),
        }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata")  # which xarray looks for first
        layout.dataset(arrays).to_zarr(path, compute=False, zarr_format=3, consolidated=True, encoding=encoding)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / _BESIDE / "manifest.json").read_text())
    except (OSError, ValueError):
        raise ValueError(
            f"Argument `store` must be a path at which nothing is, or a store of this sweep, but {str(path)!r} is neither."
        ) from None


def _locked(path: Path) -> Any:
    """The lock of a store, which ends with the process."""
    filelock = needed("filelock")
    lock = filelock.FileLock(path / _BESIDE / "lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise ValueError(
            f"Argument `store` must be written by one sweep at a time, but another one is writing {str(path)!r}: wait for "
            "it, or give another path."
        ) from None
    return lock


def _tidy(path: Path) -> None:
    """Removes files that a process was writing when it was killed."""
    for file in (*path.rglob("*.partial"), *(path / _BESIDE).rglob("*.part")):
        file.unlink(missing_ok=True)


def _check_same(path: Path, manifest: dict[str, Any], experiment: str) -> None:
    found, own = manifest["versions"], versions()
    other = [
        f"{name} {found.get(name)} (here {own.get(name)})" for name in own | found if found.get(name) != own.get(name)
    ]
    if other:
        raise ValueError(
            f"Argument `store` must be of the same versions, but {str(path)!r} was written with {', '.join(other)}: give "
            "another path; what is stored can be opened by xarray.open_zarr."
        )
    if manifest["experiment"] != experiment:
        raise ValueError(
            f"Argument `store` must be of the same experiment, axes, `run`, `shard_size` and `checkpoint_every`, but "
            f"{str(path)!r} is of others: give another path."
        )


def _checksum(arrays: Iterable[np.ndarray]) -> str:
    return digest(*(part for array in arrays for part in (f"{array.dtype} {array.shape}", array.tobytes())))

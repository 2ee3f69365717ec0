"""The state of a shard that is being computed, in a file: whole or not there."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._files import write_whole
from .described import digest, numbers


@dataclasses.dataclass(frozen=True)
class Kept:
    """In a `folder`, of shard `number`, whose settings have this `digest`: a NumPy archive of plain arrays."""

    folder: Path
    number: int
    digest: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"{self.number}.npz"

    def save(self, found: dict[str, np.ndarray], state: list[jax.Array], done: int) -> None:
        """Keeps the records and the state after `done` training steps, in place of those before."""
        about = {"digest": self.digest, "done": done, "dtypes": [_dtype(leaf) for leaf in state]}
        arrays = {f"found {name}": values for name, values in found.items()}
        arrays |= {f"state {place}": _bits(leaf) for place, leaf in enumerate(state)}
        arrays["about"] = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
        arrays["checksum"] = np.frombuffer(_checksum(arrays).encode(), np.uint8)
        self.folder.mkdir(exist_ok=True)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:  # by its path NumPy would give it another name
                np.savez(file, allow_pickle=False, **arrays)

        write_whole(self.path, write)

    def load(self) -> tuple[dict[str, np.ndarray], list[Any], int] | None:
        """What `save` kept of this shard; None where there is nothing, or nothing whole."""
        try:
            with self.path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            checksum = arrays.pop("checksum").tobytes().decode()
            about = json.loads(arrays["about"].tobytes())
        except Exception:  # of a file that is none, or is not whole
            return None
        if checksum != _checksum(arrays) or about["digest"] != self.digest:
            return None
        found = {name.removeprefix("found "): values for name, values in arrays.items() if name.startswith("found ")}
        state = [_leaf(arrays[f"state {place}"], dtype) for place, dtype in enumerate(about["dtypes"])]
        return found, state, about["done"]

    @classmethod
    def drop(cls, folder: Path, number: int) -> None:
        """Removes that of a shard which is finished."""
        cls(folder, number, "").path.unlink(missing_ok=True)


def _bits(leaf: jax.Array) -> np.ndarray:
    """A leaf as NumPy's own kinds of numbers; what these do not know as the integers of its bits."""
    array = numbers(leaf)
    return array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")


def _leaf(bits: np.ndarray, dtype: str) -> jax.Array:
    kind, _, implementation = dtype.partition(" ")
    if kind == "key":
        return jax.random.wrap_key_data(jnp.asarray(bits), impl=implementation)
    return jnp.asarray(bits.view(jnp.dtype(dtype)))


def _dtype(leaf: jax.Array) -> str:
    """Of a leaf; of typed keys their implementation."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return f"key {jax.random.key_impl(leaf)}" if is_key else str(leaf.dtype)


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    names = sorted(arrays)
    return digest(*(p for n in names for p in (f"{n} {arrays[n].dtype} {arrays[n].shape}", arrays[n].tobytes())))

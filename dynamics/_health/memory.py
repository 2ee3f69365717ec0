"""Runs that were found healthy: of another one like them only what it shows itself is looked at.

What the programs of `health.py` find is given by the dynamics, its numbers, the signal, the start, the solver and its
steps. Another key leads elsewhere, which the run itself shows: paths that fail and the quotient of stages are looked at in
every call. What is not healthy is not remembered: it is told in every call.
"""

import collections
import hashlib
import math
import threading
import weakref
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

# Numbers of at most so many bytes are known by what they are, in 50 us; more by which array they are: it does not change.
_SMALL = 2**16
_MOST = 64  # runs


class Run(NamedTuple):
    """What a run is known by, and the large arrays that the ids in it are those of."""

    identity: tuple
    large: tuple[weakref.ref, ...]


def run_of(*parts: PyTree) -> Run | None:
    """A run from all that its health depends on; None where that can be told from nothing else for no price."""
    leaves, treedef = jax.tree.flatten(parts)
    tokens, large = [], []
    for leaf in leaves:
        token: Any = (type(leaf), leaf)
        if isinstance(leaf, np.ndarray | np.generic | jax.Array):
            token = _bytes(leaf)
            if token is None and isinstance(leaf, jax.Array):
                token = id(leaf)
                large.append(weakref.ref(leaf))
        if token is None:  # large, and may have changed since
            return None
        tokens.append(token)
    identity = treedef, tuple(tokens)
    try:
        hash(identity)
    except TypeError:
        return None
    return Run(identity, tuple(large))


def _bytes(array: Any) -> tuple | None:
    """Shape, dtype and numbers of a small array that is at hand."""
    at_hand = not isinstance(array, jax.Array) or array.is_fully_addressable
    if not at_hand or jnp.issubdtype(array.dtype, jax.dtypes.extended) or array.nbytes > _SMALL:
        return None
    numbers = np.asarray(array).tobytes()
    return array.shape, array.dtype, numbers if len(numbers) <= 64 else hashlib.blake2b(numbers).digest()


class Healthy:
    """The last runs that were healthy, each with the largest quotient of its stages; keeps no large array alive."""

    def __init__(self):
        self._runs: collections.OrderedDict[tuple, tuple] = collections.OrderedDict()
        self._lock = threading.Lock()

    def holds(self, run: Run | None, quotient: float, harmless: float) -> bool:
        """Whether such a run was healthy, and a quotient of its stages was that large, or is `harmless` in any run."""
        if run is None:
            return False
        with self._lock:
            large, known = self._runs.get(run.identity, ((), None))
            if known is None or not _same(large, run.large):
                return False
            self._runs.move_to_end(run.identity)
            return quotient <= max(harmless, known)

    def add(self, run: Run | None, quotient: float) -> None:
        if run is None or math.isnan(quotient):
            return
        with self._lock:
            self._runs[run.identity] = run.large, quotient
            self._runs.move_to_end(run.identity)
            if len(self._runs) > _MOST:
                self._runs.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._runs.clear()


def _same(one: tuple[weakref.ref, ...], other: tuple[weakref.ref, ...]) -> bool:
    """Whether ids that are equal are those of the same arrays, none of which is gone."""
    pairs = zip(one, other, strict=True)
    return all(a() is not None and a() is b() for a, b in pairs)


HEALTHY = Healthy()

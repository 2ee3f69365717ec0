"""The results of a sweep in memory."""

from typing import Any

import numpy as np

from .layout import Layout
from .plan import Plan


class Memory:
    """All results as arrays."""

    def __init__(self, layout: Layout, plan: Plan):
        self._layout, self._plan = layout, plan
        self._arrays = {
            name: np.full((*layout.axes.shape, *variable.shape), variable.empty, variable.dtype)
            for name, variable in layout.variables.items()
        }

    def put(self, number: int, found: dict[str, np.ndarray]) -> None:
        """The results of a shard, with a leading axis of settings."""
        for name, values in found.items():
            for member, value in zip(self._plan.shards[number].members, values, strict=True):
                self._arrays[name][self._layout.axes.place(member)] = value

    def dataset(self) -> Any:
        """The `xarray.Dataset` of all."""
        return self._layout.dataset(self._arrays)

"""Which settings are computed together."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from equations.internal import integer

from .axes import Axes
from .described import digest
from .setting import Setting


@dataclasses.dataclass(frozen=True)
class Structure:
    """Settings that are computed by one compiled function.

    **Attributes:** `members`, their numbers; `varies`, which of the numbers of a setting differ among them; `size`, how
    many are computed at once.
    """

    members: tuple[int, ...]
    varies: tuple[bool, ...]
    size: int


@dataclasses.dataclass(frozen=True)
class Shard:
    """Settings that are computed at once, and stored at once: those of one structure in `members`, their numbers."""

    structure: int
    members: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is computed, in which parts: a function of the experiment and its axes alone, whatever computes it.

    **Attributes:** `digests` of the settings.
    """

    structures: tuple[Structure, ...]
    shards: tuple[Shard, ...]
    digests: tuple[str, ...]

    @classmethod
    def of(cls, at: Callable[[int], Setting], count: int, most: int) -> tuple["Plan", list[Setting]]:
        """The plan of `count` settings, with at most so many in a shard, and the first setting of every structure."""
        groups: dict[Any, list[int]] = {}
        first: dict[Any, Setting] = {}
        differ: dict[Any, list[bool]] = {}
        digests, kept = [], []
        for number in range(count):
            setting = at(number)
            kept.append(setting.opaque)  # and with it its identity
            key = setting.structure, len(setting.places), *map(id, setting.opaque)
            groups.setdefault(key, []).append(number)
            one = first.setdefault(key, setting)
            before = differ.get(key, [False] * len(one.digests))
            both = zip(before, one.digests, setting.digests, strict=True)
            differ[key] = [was or a != b for was, a, b in both]
            digests.append(setting.digest)
        structures = tuple(
            Structure(tuple(members), tuple(differ[key]), -(-len(members) // -(-len(members) // most)))
            for key, members in groups.items()
        )
        # One of each structure first: while they compile none waits for another.
        cut = [list(_cut(number, structure)) for number, structure in enumerate(structures)]
        shards = [row[place] for place in range(max(map(len, cut))) for row in cut if place < len(row)]
        return cls(structures, tuple(shards), tuple(digests)), list(first.values())

    def digest(self, axes: Axes, *options: Any) -> str:
        """What tells one sweep from another."""
        return digest(repr(axes.names), repr([axis.labels for axis in axes.axes]), repr(options), *self.digests)


def check_shard_size(value: Any) -> int:
    """How many settings are computed at once, at most."""
    return integer("shard_size", value)


def _cut(number: int, structure: Structure) -> Iterable[Shard]:
    for begin in range(0, len(structure.members), structure.size):
        yield Shard(number, structure.members[begin : begin + structure.size])

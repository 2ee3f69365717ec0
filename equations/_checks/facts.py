"""What the checks of a user's class ask the class of ours that it derives from: told there, not asked by name."""

import dataclasses
import functools
from typing import Any


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of a class of these packages and all that derive from it.

    - `argument`: under which one is given.
    - `contract`: whether the class itself says what others are to give.
    - `algorithm`: whether it is the equation of an algorithm, with a twin.
    - `singular`: whether the first step must be the algorithm's; None: as that of the equation inside.
    - `reads`: what of the equations inside is read, see `check_class`; None: what of itself is.
    - `instead`: what to override in place of `velocity`, from which its drift does not follow.
    - `own_method`: a method that is the user's to give, and what it is.
    - `late`: whether part of it may act late, after its `delay`.
    - `owner`: the class in which this stands.
    """

    argument: str
    contract: bool = False
    algorithm: bool = False
    singular: bool | None = False
    reads: str | None = None
    instead: str = "`drift`"
    own_method: tuple[str, str] | None = None
    late: bool = False
    owner: type | None = dataclasses.field(default=None, init=False, compare=False)

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "owner", owner)


@functools.lru_cache(maxsize=4096)
def facts(kind: type) -> Facts | None:
    """Those of a class, whatever a user's class has under this name; None of one that is no part of a contract."""
    ours = (base for base in kind.__mro__ if isinstance(getattr(base, "_facts", None), Facts))
    return next((base._facts for base in ours), None)


def told_by(kind: type) -> Facts:
    """Those of a class of a contract."""
    told = facts(kind)
    if told is None:
        raise TypeError(f"{kind.__name__} is no part of a contract.")
    return told


def refined(kind: type, contract: bool = False, **changes: Any) -> Facts:
    """Those of a subclass of `kind`, to stand in it under the same name."""
    return dataclasses.replace(told_by(kind), contract=contract, **changes)


def is_given_as(kind: type, argument: str) -> bool:
    """Whether a class is of what is given under an argument, or returned by a method of that name."""
    told = facts(kind)
    return told is not None and told.argument == argument


def acts_late(kind: type) -> bool:
    """Whether a part of a dynamics may act late: that of an AbstractCircuit."""
    told = facts(kind)
    return told is not None and told.late


def is_contract(kind: type) -> bool:
    """Whether a class says itself what others are to give."""
    told = facts(kind)
    return told is not None and told.contract and told.owner is kind


def root(kind: type) -> type:
    """The first class of a contract, that all others derive from."""
    return next(base for base in reversed(kind.__mro__) if facts(base) is not None)

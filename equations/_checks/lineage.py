"""Which class defines a method, and whether a user's override is newer than what is derived from the method."""

import functools

_PACKAGES = ("equations", "dynamics", "validation")


def is_ours(kind: type) -> bool:
    """Whether a class is of these packages, or no part of the contract at all."""
    return kind.__module__.partition(".")[0] in _PACKAGES


def definer(kind: type, name: str) -> type:
    """The class that defines an attribute."""
    return next(c for c in kind.__mro__ if name in vars(c))


@functools.lru_cache(maxsize=4096)
def newer(kind: type, name: str, than: str) -> bool:
    """Whether a class of the user's defines `name` below the class that defines `than`.

    What `than` says in terms of the old `name` is then no longer true. The classes of these packages know what they
    override.
    """
    place = kind.__mro__.index
    mine = definer(kind, name)
    return not is_ours(mine) and place(mine) < place(definer(kind, than))

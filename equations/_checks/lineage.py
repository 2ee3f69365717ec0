"""Which class defines a method, and whether a user's override is newer than what is derived from the method."""

import functools

from .facts import is_contract

_PACKAGES = ("equations", "dynamics", "validation")


def is_ours(kind: type) -> bool:
    """Whether a class is of these packages, or no part of the contract at all."""
    return kind.__module__.partition(".")[0] in _PACKAGES


def definer(kind: type, name: str) -> type:
    """The class that defines an attribute."""
    return next(c for c in kind.__mro__ if name in vars(c))


def users(kind: type, name: str) -> bool:
    """Whether a class of the user's defines an attribute."""
    return name in dir(kind) and not is_ours(definer(kind, name))


@functools.lru_cache(maxsize=4096)
def newer(kind: type, name: str, than: str) -> bool:
    """Whether a class of the user's defines `name` below the class that defines `than`.

    What `than` says in terms of the old `name` is then no longer true. The classes of these packages know what they
    override.
    """
    place = kind.__mro__.index
    mine = definer(kind, name)
    return not is_ours(mine) and place(mine) < place(definer(kind, than))


def as_of(kind: type, name: str, than: str):
    """The attribute `name` that the class which defines `than` knows, whatever a user's class has given since."""
    bases = kind.__mro__[kind.__mro__.index(definer(kind, than)) :]
    if is_ours(bases[0]):  # which may have it from a class of ours between
        return ours(kind, name)
    return next(vars(base)[name] for base in bases if name in vars(base))


def ours(kind: type, name: str):
    """The attribute `name` of the first class of ours that has one."""
    return next(vars(base)[name] for base in kind.__mro__ if is_ours(base) and name in vars(base))


def overrides(kind: type, name: str) -> bool:
    """Whether a class, of these packages or a user's, gives another `name` than the contract."""
    return not is_contract(definer(kind, name))


def inside(equation):
    """The equation that one of these packages' classes has inside, None where there is none."""
    owners = [base for base in type(equation).__mro__ if "equation" in vars(base).get("__annotations__", {})]
    return equation.equation if owners and is_ours(owners[0]) else None


def within(equation):
    """The equation and all that it has inside, from the outermost on."""
    while equation is not None:
        yield equation
        equation = inside(equation)

"""Values described by what they are, the same in every process: by this a structure is known, and an experiment."""

import collections
import dataclasses
import dis
import functools
import hashlib
import inspect
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_ROOT = Path(__file__).parents[2]
_LIBRARIES = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    *(str(_ROOT / name) for name in ("equations", "dynamics", "validation")),
)
_MOST = 256  # arrays whose digests are remembered


def digest(*parts: str | bytes) -> str:
    """One digest of several parts."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)} ".encode() + data)
    return total.hexdigest()


class Digests:
    """Digests of arrays, remembered for the last ones by identity: what all settings share is read once."""

    def __init__(self):
        self._known: collections.OrderedDict[int, tuple[Any, str]] = collections.OrderedDict()

    def __call__(self, array: Any) -> str:
        """Of the content of an array, a typed key or a Python float."""
        known = self._known.get(id(array))
        if known is not None and known[0] is array:
            return known[1]
        found = digest(
            str(array.dtype) if isinstance(array, jax.Array | np.ndarray) else "float", numbers(array).tobytes()
        )
        self._known[id(array)] = array, found
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return found


def numbers(array: Any) -> np.ndarray:
    """An array as NumPy's; of typed keys their integers."""
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.ascontiguousarray(np.asarray(array))


class Described:
    """Describes values in words that two values share just when they are of equal content.

    A function is described by its code, its defaults, what it holds in its closure, and what it reads of its module; one of
    a library by its name, since the versions of libraries stand in a store. What cannot be looked into is named by its
    type; whether it is the same one sees by its identity only.
    """

    def __init__(self, digests: Digests):
        self._digests = digests
        self._opaque: list[Any] = []

    def __call__(self, value: Any) -> tuple[str, tuple[Any, ...]]:
        """The description, and what could not be looked into."""
        self._opaque = []
        return "\n".join(self._words(value, {})), tuple(self._opaque)

    def _words(self, value: Any, seen: dict[int, tuple[int, Any]]) -> Iterator[str]:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            yield repr(value)
            return
        if id(value) in seen:
            yield f"again {seen[id(value)][0]}"
            return
        seen[id(value)] = len(seen), value  # which keeps it, and so its identity
        kind = type(value)
        yield f"{kind.__module__}.{kind.__qualname__}"
        for part in self._parts(value):
            yield from [part] if isinstance(part, _Word) else self._words(part, seen)

    def _parts(self, value: Any) -> Iterator[Any]:
        """What a value consists of: words, and values again."""
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            yield from (_Word(value.dtype), _Word(value.shape), _Word(self._digests(value)))
        elif isinstance(value, Mapping):
            for key in value:
                yield from (key, value[key])
        elif isinstance(value, list | tuple):
            yield from (len(value), *value)
        elif isinstance(value, set | frozenset):
            yield from sorted(map(repr, value))
        elif isinstance(value, types.FunctionType):
            yield from _function(value)
        elif isinstance(value, types.CodeType):
            yield from _code(value)
        elif isinstance(value, types.ModuleType):
            yield _Word(value.__name__)
        elif isinstance(value, type):
            yield from _class(value)
        elif isinstance(value, functools.partial):
            yield from (value.func, value.args, value.keywords)
        elif isinstance(value, types.MethodType):
            yield from (value.__func__, value.__self__)
        elif dataclasses.is_dataclass(value):
            here = vars(value)
            yield type(value)
            for field in dataclasses.fields(value):
                if field.name in here:
                    yield from (_Word(field.name), here[field.name])
        elif isinstance(value, np.dtype):
            yield _Word(value)
        else:
            yield from self._other(value)

    def _other(self, value: Any) -> Iterator[Any]:
        try:
            inside = dict(vars(value))
        except TypeError:
            self._opaque.append(value)
            return
        if callable(value) and "__wrapped__" in inside:  # of functools.wraps, jax.jit, ...
            yield inside["__wrapped__"]
            return
        if not inside:
            self._opaque.append(value)
        yield from (type(value), inside)


# Of what a function reads of its module, what is looked into: constants, data, and other functions.
_PLAIN = (
    int,
    float,
    complex,
    str,
    bytes,
    tuple,
    types.FunctionType,
    types.ModuleType,
    type,
    np.ndarray,
    np.generic,
    jax.Array,
)


class _Word(str):
    """What stands in a description as it is."""

    def __new__(cls, value: Any):
        return super().__new__(cls, str(value))


def _is_library(filename: str) -> bool:
    return filename.startswith(_LIBRARIES)


def _cells(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # empty as yet
            yield None


def _function(function: types.FunctionType) -> Iterator[Any]:
    code = function.__code__
    yield from (_Word(function.__module__), _Word(function.__qualname__))
    yield from (function.__defaults__, function.__kwdefaults__)
    yield from _cells(function)
    if not _is_library(code.co_filename):
        yield code
        for name in _read(code):
            if name in function.__globals__:
                found = function.__globals__[name]
                yield _Word(name)
                yield found if isinstance(found, _PLAIN) or dataclasses.is_dataclass(found) else _Word(type(found))


@functools.lru_cache(maxsize=1024)
def _read(code: types.CodeType) -> tuple[str, ...]:
    """The names that a code reads of its module, in its inner functions too."""
    inner = [_read(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    own = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return tuple(sorted(own.union(*inner)))


def _code(code: types.CodeType) -> Iterator[Any]:
    yield from (digest(code.co_code), code.co_names, code.co_varnames, code.co_freevars, code.co_consts)


def _class(kind: type) -> Iterator[Any]:
    """A class by its name, with the functions of a user's own."""
    yield from (_Word(kind.__module__), _Word(kind.__qualname__))
    for base in inspect.getmro(kind):
        for name, value in vars(base).items():
            if isinstance(value, types.FunctionType) and not value.__code__.co_filename.startswith("<"):
                yield from () if _is_library(value.__code__.co_filename) else (_Word(name), value)

"""Checks that need values: made once for a structure and an objective, silent under a trace, told to whoever called."""

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.core
from jaxtyping import PyTree

_PACKAGES = tuple(str(Path(__file__).parents[2] / name) for name in ("equations", "dynamics", "validation"))
_unchecked = False


def is_traced(value: Any) -> bool:
    """Whether a value is known only when the program runs: checks of it are left out, or made then."""
    return isinstance(value, jax.core.Tracer)


def once(check: Callable, *args: PyTree):
    """What `check(*args)` returns, None under a trace; remembered, so that a warm call pays for a look-up only.

    Remembered by the check, the shapes and dtypes of the arrays in `args` and the values of everything else, never by the
    values of the arrays: a check must be one whose answer these hardly change. Give a function defined once, not a closure
    made for the call. What cannot be hashed is checked anew.
    """
    arrays, rest = eqx.partition(args, eqx.is_array)
    leaves, treedef = jax.tree.flatten(arrays)
    if _unchecked or any(is_traced(leaf) for leaf in leaves):
        return None
    rest_leaves, rest_treedef = jax.tree.flatten(rest)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    key = _Key((check, shapes, treedef, tuple(map(type, rest_leaves)), tuple(rest_leaves), rest_treedef), args)
    try:
        hash(key)
    except TypeError:
        return check(*args)
    return _remembered(check, key)


class _Key:
    """What an answer is remembered by; the arguments ride along for the one call that they are needed in."""

    def __init__(self, identity: tuple, args: tuple):
        self.identity, self.args = identity, args

    def __hash__(self):
        return hash(self.identity)

    def __eq__(self, other):
        return self.identity == other.identity


@functools.lru_cache(maxsize=512)
def _remembered(check, key):
    args, key.args = key.args, None
    return check(*args)


_OPTIONS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}


@functools.cache
def _knows_options() -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={"xla_backend_optimization_level": 0} | _OPTIONS)()
    except Exception:
        return False
    return True


def quick_jit(level: int) -> Callable[[Callable], Callable]:
    """`eqx.filter_jit` for what is run once or twice: most of its time goes into compiling.

    At level 0 XLA on a CPU compiles a check in a quarter of the time and it runs half as fast; at level 1 it compiles in
    half of the time and runs as ever. Where XLA does not know these options they are left out.
    """

    def decorate(function):
        @functools.cache
        def compiled():
            options = {"xla_backend_optimization_level": level} | _OPTIONS
            jit: Any = eqx.filter_jit  # whose overloads leave the options of jit out
            return jit(function, compiler_options=options if _knows_options() else None)

        return functools.wraps(function)(lambda *args: compiled()(*args))

    return decorate


@contextlib.contextmanager
def unchecked():
    """Without the checks of `once` and those of traced numbers: to measure what they cost, or where all is checked."""
    global _unchecked
    _unchecked, before = True, _unchecked
    try:
        yield
    finally:
        _unchecked = before


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """A warning that points at the line of the user's which called into the packages."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_machinery(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_machinery(filename: str) -> bool:
    """Whether a frame is of the packages or of the libraries around them, no line of a user's."""
    return filename.startswith((*_PACKAGES, "<@beartype")) or "site-packages" in filename


def silent(tree: PyTree = None) -> bool:
    """Whether checks of values are left out: they are switched off, or an array of `tree` is traced."""
    return _unchecked or any(is_traced(leaf) for leaf in jax.tree.leaves(tree))

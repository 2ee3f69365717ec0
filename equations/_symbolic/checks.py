"""Checks of the arguments of `symbolic`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks.arguments import number, positive
from .table import TABLE
from .to_jax import names_of, to_jax

_LARGEST_ORDER = 6  # of derivatives in a modified equation


def check_symbol(name: str, symbol: Any):
    """A symbol, or None."""
    import sympy

    if symbol is not None and not isinstance(symbol, sympy.Symbol):
        raise TypeError(f"Argument `{name}` must be a SymPy symbol or None, but {symbol!r} was given.")
    return symbol


def check_state(state: Any) -> tuple:
    """A symbol or several as a tuple."""
    import sympy

    given: Any = state
    state = tuple(given) if isinstance(state, Sequence | sympy.MatrixBase) else (state,)
    if not state or not all(isinstance(symbol, sympy.Symbol) for symbol in state):
        raise TypeError(f"Argument `state` must be a SymPy symbol or a tuple of symbols, but {given!r} was given.")
    if len(set(state)) < len(state):
        raise ValueError(f"Argument `state` must hold each symbol once, but {given!r} was given.")
    return state


def check_floats(state: Any) -> None:
    """Raises a TypeError unless a state is an array of floats: of integers the results would be integers."""
    is_array = isinstance(state, jax.Array | np.ndarray)
    if not is_array or not jnp.issubdtype(state.dtype, jnp.floating):
        given = f"one of dtype {state.dtype}" if is_array else repr(state)
        raise TypeError(f"Argument `state` must be an array of float32 or float64, but {given} was given.")


def check_expression(name: str, value: Any):
    """A number or SymPy expression, finite sums and products written out. Strings, which SymPy would execute, are not."""
    import sympy

    wording = f"Argument `{name}` must hold scalar SymPy expressions or numbers, but {value!r} was given."
    if isinstance(value, str):
        raise TypeError(wording)
    try:
        value = sympy.sympify(value, strict=True)
    except sympy.SympifyError:
        raise TypeError(wording) from None
    if not isinstance(value, sympy.Expr) or not value.is_commutative or value.is_Matrix:
        raise TypeError(wording)
    return value.doit() if value.has(sympy.Sum, sympy.Product) else value


def check_vector(name: str, value: Any, size: int) -> tuple:
    """`size` expressions."""
    import sympy

    given: Any = value
    several = isinstance(value, Sequence | sympy.MatrixBase) and not isinstance(value, str)
    entries = tuple(given) if several else (given,)
    entries = tuple(check_expression(name, entry) for entry in entries)
    if len(entries) != size:
        raise ValueError(
            f"Argument `{name}` must hold an expression for each of {size} state symbols, but {len(entries)} were given."
        )
    return entries


def check_matrix(name: str, value: Any, size: int):
    """An immutable matrix of `size` rows."""
    import sympy

    rows = value.tolist() if isinstance(value, sympy.MatrixBase) else value
    rows = list(rows) if isinstance(rows, Sequence) and not isinstance(rows, str) else [rows]
    rows = [list(row) if isinstance(row, Sequence) and not isinstance(row, str) else [row] for row in rows]
    rows = [[check_expression(name, entry) for entry in row] for row in rows]
    if len(rows) != size or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError(
            f"Argument `{name}` must be a matrix with a row for each of {size} state symbols, but {value!r} was given."
        )
    return sympy.ImmutableMatrix(rows)


def check_numbers(values: Any, needed: set, rate: Any) -> dict:
    """Numbers for the symbols that are needed, as weakly typed arrays; empty for None."""
    import sympy

    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(symbol, sympy.Symbol) for symbol in values):
        raise TypeError(f"Argument `values` must be a dict from SymPy symbols to numbers, but {values!r} was given.")
    missing = sorted(str(symbol) for symbol in needed - set(values))
    if missing:
        raise ValueError(f"Argument `values` must give a number for every symbol, but {missing[0]!r} has none.")

    def convert(symbol):
        name = f"values[{symbol}]"
        if symbol == rate:
            return positive(name)(values[symbol])
        return number(name, values[symbol], allowed="a finite number", test=lambda x: x == x)

    return {symbol: convert(symbol) for symbol in sorted(needed, key=str)}


def check_functions(name: str, expressions: tuple, functions: Any, written: tuple = ()) -> None:
    """Raises unless JAX or `functions` has every function in the expressions; opaque ones may be missing from None.

    `written` are the expressions that were given, of which these may hold derivatives.
    """
    import sympy

    if functions is not None and not (
        isinstance(functions, dict) and all(isinstance(k, str) and callable(f) for k, f in functions.items())
    ):
        raise TypeError(
            f"Argument `functions` must be a dict from names to JAX functions, but {functions!r} was given."
        )
    for expression in expressions:
        try:
            missing = names_of(expression) - set(TABLE) - set(functions or {})
        except ValueError as error:
            raise ValueError(f"Argument `{name}` must be real for real symbols, but {error}.") from None
        missing = sorted(missing - set(opaque((expression,)) if functions is None else ()))
        if missing:
            source = _differentiated(missing[0], written)
            raise ValueError(
                f"Argument `{name}` must be made of functions that JAX or `functions` has, but {missing[0]!r} is in none"
                + (f": it is in derivatives of {source}, which are needed here." if source else ".")
            )
    if functions is not None:
        for call in {node for e in expressions for node in e.atoms(sympy.core.function.AppliedUndef)}:
            _check_scalar(type(call).__name__, functions[type(call).__name__], len(call.args))


def _differentiated(missing: str, written: tuple) -> str | None:
    """The smallest call in the expressions that were given of which a derivative holds a function, None if it is there."""
    import sympy

    calls = {node for e in written for node in e.atoms(sympy.core.function.Application, sympy.Piecewise)}
    if any(type(call).__name__ == missing for call in calls):
        return None
    for call in sorted(calls, key=lambda call: (call.count_ops(), str(call))):
        derivatives = [call.xreplace({s: sympy.Symbol(s.name, real=True) for s in call.free_symbols})]
        for _ in range(_LARGEST_ORDER):
            derivatives = [d.diff(s) for d in derivatives for s in sorted(d.free_symbols, key=str)[:2]]
            if any(type(node).__name__ == missing for d in derivatives for node in d.atoms(sympy.Function)):
                return str(call)
    return None


def _check_scalar(name: str, function: Callable, arguments: int) -> None:
    scalar = jax.ShapeDtypeStruct((), jnp.result_type(float))
    try:
        result = jax.eval_shape(function, *[scalar] * arguments)
    except Exception as error:
        raise ValueError(
            f"Argument `functions` must hold functions of as many scalars as the expressions give, but {name!r} fails "
            f"on {arguments}: {type(error).__name__}: {error}"
        ) from error
    if (
        not isinstance(result, jax.ShapeDtypeStruct)
        or result.shape != ()
        or not jnp.issubdtype(result.dtype, jnp.floating)
    ):
        raise ValueError(
            f"Argument `functions` must hold functions that return a real scalar, but {name!r} returns {result!r}."
        )


def check_trace(name: str, expressions: tuple, functions: Any) -> None:
    """Raises a ValueError unless JAX can trace the expressions, where nothing opaque is missing."""
    if functions is None and opaque(expressions):
        return
    symbols = tuple(set().union(*(expression.free_symbols for expression in expressions)))
    scalars = [jax.ShapeDtypeStruct((), jnp.result_type(float))] * max(len(symbols), 1)
    try:
        jax.eval_shape(to_jax(expressions, symbols or ("constant",), functions), *scalars)
    except Exception as error:
        raise ValueError(f"Argument `{name}` must be traceable by JAX, but {type(error).__name__}: {error}.") from error


def opaque(expressions: tuple) -> list[str]:
    """The names of opaque functions."""
    import sympy

    found = {type(node).__name__ for e in expressions for node in e.atoms(sympy.core.function.AppliedUndef)}
    return sorted(found)

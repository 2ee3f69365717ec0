"""SymPy expressions as JAX functions, by a table of our own.

`sympy.lambdify(modules="jax")` lets erf, gamma and others fall back on Python's `math`, which fails under a trace, and
finds a missing function only when it runs. Here a function is in the table, or it is refused before anything is traced.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .table import TABLE


def to_jax(expressions: Sequence, symbols: Sequence, functions: dict[str, Callable] | None = None) -> Callable:
    """A function of as many arrays as there are symbols, which gives a tuple of arrays, one for each expression.

    The arrays have one dtype, float32 or float64, and so have the results; they are computed element by element, in their
    common shape. Common parts of the expressions are computed once.

    **Arguments:**

    - `expressions`: SymPy expressions, real in real symbols.
    - `symbols`: the SymPy symbols that they may hold.
    - `functions`: JAX functions by name, for `sympy.Function("L")` or in place of what the table has. They must be
        differentiable in JAX where the expressions hold their derivatives.

    **Raises:** ValueError, naming it, for a function that is in neither, for a symbol that is not among `symbols` and for
    a number that is not real.
    """
    functions = dict(functions or {})
    expressions, symbols = tuple(expressions), tuple(symbols)
    for expression in expressions:
        for name in sorted(names_of(expression) - set(TABLE) - set(functions)):
            raise ValueError(f"Argument `functions` must hold {name!r}, which is no function that JAX has.")
        for symbol in sorted(expression.free_symbols - set(symbols), key=str):
            raise ValueError(f"Argument `symbols` must hold all symbols of the expressions, but {symbol} is missing.")

    def compiled(*arrays: Array) -> tuple[Array, ...]:
        steps, results = _plan(expressions)
        dtype, shape = jnp.result_type(*arrays), jnp.broadcast_shapes(*(jnp.shape(array) for array in arrays))
        values, memory = dict(zip(symbols, arrays, strict=True)), {}
        for symbol, expression in steps:
            values[symbol] = _value(expression, values, memory, functions, dtype)
        found = [_value(expression, values, memory, functions, dtype) for expression in results]
        return tuple(jnp.broadcast_to(jnp.asarray(value, dtype), shape) for value in found)

    return compiled


@functools.lru_cache(maxsize=256)
def _plan(expressions):
    """Common subexpressions as (symbol, expression) in the order of use, and the expressions in these symbols."""
    import sympy

    # Inside a derivative a subexpression is a function of what one differentiates by, and no value.
    bound = (sympy.Derivative, sympy.Subs)
    if any(expression.has(*bound) for expression in expressions):
        return (), expressions
    fresh = sympy.numbered_symbols("_", cls=sympy.Dummy)
    return sympy.cse(expressions, symbols=fresh, order="none")


@functools.lru_cache(maxsize=1024)
def names_of(expression) -> frozenset[str]:
    """The names of all functions in an expression; a ValueError for a number that is not real."""
    import sympy
    from sympy.functions.elementary.piecewise import ExprCondPair

    arithmetic = (sympy.Add, sympy.Mul, sympy.Pow, sympy.Piecewise, ExprCondPair)
    names, seen, waiting = set(), set(), [expression]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, sympy.Subs):
            waiting += [node.expr, *node.point.args]
        elif isinstance(node, sympy.Derivative):
            if not all(isinstance(variable, sympy.Symbol) for variable in node.variables):
                raise ValueError(f"{node} is no derivative by a symbol")
            waiting.append(node.expr)
        elif node.is_number:
            _number(node)
        elif not isinstance(node, sympy.Symbol):
            if not isinstance(node, (*arithmetic, sympy.Tuple)):
                names.add(type(node).__name__)
            waiting += node.args
    return frozenset(names)


def _number(node) -> float:
    try:
        value = float(node if node.is_Rational else node.evalf(20))
    except (TypeError, OverflowError):
        value = math.nan
    if math.isnan(value):
        raise ValueError(f"{node} is no real number")
    return value


def _value(node, values: dict, memory: dict, functions: dict[str, Callable], dtype) -> Any:
    """The value of a node: an array, or a Python number where no symbol is in it, which promotes no dtype."""
    if node in values:
        return values[node]
    if node not in memory:
        memory[node] = _compute(node, values, memory, functions, dtype)
    return memory[node]


def _compute(node, values, memory, functions, dtype):
    import sympy

    def value(part):
        return _value(part, values, memory, functions, dtype)

    if isinstance(node, sympy.Subs):
        points = [jnp.asarray(value(point), dtype) for point in node.point.args]
        inner = {**values, **dict(zip(node.variables.args, points, strict=True))}
        return _value(node.expr, inner, {}, functions, dtype)
    if isinstance(node, sympy.Derivative):
        return _derivative(node, values, functions, dtype)
    if node.is_number:
        return _number(node)
    if isinstance(node, sympy.Add):
        return functools.reduce(lambda a, b: a + b, map(value, node.args))
    if isinstance(node, sympy.Mul):
        above, below = node.as_numer_denom() if _is_quotient(node) else (node, sympy.S.One)
        if below is not sympy.S.One:
            return value(above) / value(below)
        return functools.reduce(lambda a, b: a * b, map(value, node.args))
    if isinstance(node, sympy.Pow):
        return _power(node, value)
    if isinstance(node, sympy.Piecewise):
        result = math.nan
        branches: Any = node.args
        for expression, condition in reversed(branches):
            held = value(condition)
            result = value(expression) if held is True else jnp.where(held, value(expression), result)
        return result
    name = type(node).__name__
    return functions.get(name, TABLE.get(name))(*map(value, node.args))


def _is_quotient(node) -> bool:
    """Whether a product has a power with a negative number as exponent, which is divided by, one rounding less."""
    return any(factor.is_Pow and factor.exp.is_number and factor.exp.is_negative for factor in node.args)


def _power(node, value):
    base, exponent = node.args
    if not exponent.is_Rational:
        return jnp.power(value(base), value(exponent))
    if exponent.is_negative:
        return 1 / value(base**-exponent)
    if exponent.is_Integer:
        return value(base) ** int(exponent)
    if exponent.q == 2:
        return jnp.sqrt(value(base)) ** int(exponent.p)
    return jnp.power(value(base), float(exponent))


def _derivative(node, values, functions, dtype):
    """A derivative of anything, by JAX, one direction after the other."""

    def differentiated(variables, values):
        if not variables:
            return jnp.asarray(_value(node.expr, values, {}, functions, dtype), dtype)
        first, *rest = variables
        point = values[first]
        along = lambda x: differentiated(rest, {**values, first: x})  # noqa: E731
        return jax.jvp(along, (point,), (jnp.ones_like(point),))[1]

    return differentiated(list(node.variables), values)

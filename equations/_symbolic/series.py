"""Modified equations by SymPy: the logarithm of the Euler map, and the second-order terms of stochastic equations."""

import functools
import operator
from collections.abc import Callable

from .._checks.arguments import flag, integer


def real(expressions: tuple, operation: Callable) -> tuple:
    """`operation` on expressions whose symbols are taken for real, so that SymPy differentiates |x| as one expects.

    The symbols of the result are the original ones.
    """
    import sympy

    symbols = set().union(*(expression.free_symbols for expression in expressions))
    there = {s: sympy.Symbol(s.name, real=True) for s in symbols if s.is_real is None}
    if len(set(there.values()) | (symbols - set(there))) < len(symbols):  # two symbols of one name
        there = {}
    back = {new: old for old, new in there.items()}
    found = operation(tuple(expression.xreplace(there) for expression in expressions), there)
    return tuple(expression.xreplace(back) for expression in found)


def gradient(function, state: tuple) -> tuple:
    """The partial derivatives of a scalar expression."""

    def differentiate(expressions, there):
        return tuple(expressions[0].diff(there.get(x, x)) for x in state)

    return real((function,), differentiate)


def directional_derivative(field: tuple, direction: tuple, state: tuple) -> tuple:
    """The derivative of a vector field along another, field' direction."""
    return tuple(_sum(f.diff(x) * v for x, v in zip(state, direction, strict=True)) for f in field)


def euler_series(drift: tuple, state: tuple, order: int) -> list[tuple]:
    """The fields f_1, ..., f_order of the equation y' = f_1 + h f_2 + ... whose flow over h is the step y + h f_1(y).

    From exp(h L) y = y + h f, where L is the derivative along the whole field: with P_{1,j} = f_j and
    P_{i,j} = sum_k D_k P_{i-1,j-k}, D_k the derivative along f_k, the coefficient of h^j gives
    f_j = -sum_{i=2}^j P_{i,j} / i!. (Hairer, Lubich and Wanner, Geometric Numerical Integration, section IX.1.)
    """
    import sympy

    def series(drift, there):
        variables = tuple(there.get(x, x) for x in state)
        first, simple = _polynomials(drift, variables)
        fields, products = [first], {(1, 1): first}
        for j in range(2, order + 1):
            parts = []
            for i in range(2, j + 1):
                terms = [
                    directional_derivative(products[i - 1, j - k], fields[k - 1], variables)
                    for k in range(1, j - i + 2)
                ]
                products[i, j] = tuple(simple(_sum(term)) for term in zip(*terms, strict=True))
                parts.append(tuple(p * sympy.Rational(-1, sympy.factorial(i)) for p in products[i, j]))
            products[1, j] = tuple(simple(_sum(part)) for part in zip(*parts, strict=True))
            fields.append(products[1, j])
        return tuple(component.as_expr() for field in fields for component in field)

    flat, d = real(drift, series), len(state)
    return [flat[j * d : (j + 1) * d] for j in range(order)]


def _sum(terms):
    return functools.reduce(operator.add, terms)


def _polynomials(expressions: tuple, state: tuple) -> tuple[tuple, Callable]:
    """The expressions as polynomials in the state and their other symbols where they are, which is faster, and what keeps
    sums short. A symbol of the state counts also where no expression holds it: they are differentiated by it.
    """
    import sympy

    symbols = sorted(set(state).union(*(expression.free_symbols for expression in expressions)), key=str)
    if all(expression.is_polynomial(*symbols) for expression in expressions):
        return tuple(sympy.Poly(expression, *symbols) for expression in expressions), lambda polynomial: polynomial
    return tuple(expressions), tidy


def tidy(expression):
    """Expanded as a polynomial in its symbols, functions, derivatives and other powers.

    Equal terms then meet. Left as they come, the terms of order 5 of a field with tanh and exp in two dimensions take
    70 000 operations.
    """
    import sympy

    found = {}

    def plain(node):
        if not node.args:
            return node
        whole_power = node.is_Pow and node.exp.is_Integer and node.exp.is_positive
        if whole_power:
            return plain(node.base) ** node.exp
        if node.is_Add or node.is_Mul:
            return node.func(*map(plain, node.args))
        return found.setdefault(node, sympy.Dummy())

    polynomial = sympy.expand(plain(expression))
    return polynomial.xreplace({dummy: node for node, dummy in found.items()})


def corrected_drift(drift: tuple, state: tuple, rate, order: int) -> tuple:
    """f_1 + h f_2 + ... + h^(order-1) f_order."""
    import sympy

    fields = euler_series(drift, state, order)
    # Common factors to the front, for reading; the leading field as the user wrote it.
    later = [tuple(sympy.factor_terms(f) for f in field) for field in fields[1:]]
    powers = [(rate**j, field) for j, field in enumerate([tuple(drift), *later])]
    return tuple(sympy.Add(*(power * field[i] for power, field in powers)) for i in range(len(state)))


def corrected_diffusion(drift: tuple, diffusion, state: tuple, rate):
    """sigma - (h/2) (b' sigma + sigma' b), that is (1 - (h/2) b') sigma(y - (h/2) b) up to O(h^2)."""
    import sympy

    rows, columns = diffusion.shape

    def correct(expressions, there):
        variables = tuple(there.get(x, x) for x in state)
        field, entries = expressions[:rows], expressions[rows:]
        found = []
        for k in range(columns):
            column = entries[k::columns]
            bracket = zip(
                directional_derivative(field, column, variables),
                directional_derivative(column, field, variables),
                strict=True,
            )
            change = [sympy.factor_terms(tidy(a + b)) for a, b in bracket]
            found += [entry - rate / 2 * c for entry, c in zip(column, change, strict=True)]
        return tuple(found)

    flat = real((*drift, *diffusion), correct)
    return sympy.ImmutableMatrix(rows, columns, lambda i, k: flat[k * rows + i])


def noise_is_small(diffusion, rate) -> bool:
    """Whether sigma sigma^T is O(rate) as rate goes to zero, which the second-order terms take for granted."""
    import sympy

    for row in diffusion.tolist():
        variance = sympy.expand(sympy.Add(*(entry**2 for entry in row)) / rate)
        try:
            variance = sympy.cancel(variance)
        except sympy.PolynomialError:  # of a Piecewise, say
            pass
        if variance.subs(rate, 0).has(sympy.oo, sympy.zoo, sympy.nan):
            return False
    return True


def check_order(equation, order, fluctuations) -> tuple[int, bool]:
    """The arguments of `Symbolic.modified`, checked against the equation."""
    order = integer("order", order, maximum=6)
    fluctuations = flag("fluctuations")(fluctuations)
    noise, rate = equation.diffusion_expressions, equation.learning_rate_symbol
    if rate is None:
        raise ValueError("Argument `learning_rate` must be a symbol for a modified equation, but None was given.")
    if equation.order > 1:
        raise ValueError(f"Argument `equation` must not be modified yet, but one of order {equation.order} was given.")
    if noise is not None and order > 2:
        raise ValueError(f"Argument `order` must be at most 2 for an equation with noise, but {order} was given.")
    if fluctuations and (noise is None or order != 2):
        raise ValueError(
            "Argument `fluctuations` must be False unless the equation has noise and `order` is 2, but True was given."
        )
    if noise is not None and order > 1 and not noise_is_small(noise, rate):
        raise ValueError(
            f"Argument `diffusion` must be O(sqrt({rate})) for a modified equation, but {noise.tolist()} was given."
        )
    return order, fluctuations

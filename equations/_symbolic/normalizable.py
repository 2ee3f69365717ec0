"""Whether a density in symbols has a finite integral over all of space."""

import functools
import itertools
import operator
from typing import Any


def normalizable(density, state: tuple, numbers: dict) -> bool | None:
    """True or False where it can be told, else None: for letters without signs, functions without a formula, or too hard.

    In one dimension from the growth of log p at both ends and at its singular points; in more where log p is a sum over
    coordinates, or a polynomial whose leading form is definite or takes the wrong sign, or quadratic in one of two.

    Letters are real, and not zero.

    **Arguments:** the density, the symbols of the state, and what is known of the others, a dict from symbols to numbers.
    """
    import sympy

    known = {symbol: sympy.nsimplify(float(value), rational=True) for symbol, value in numbers.items()}
    variables = tuple(sympy.Dummy(str(symbol), real=True) for symbol in state)
    letters = density.free_symbols - set(state) - set(known)
    real = {symbol: sympy.Dummy(symbol.name, real=True, nonzero=True) for symbol in letters if symbol.is_real is None}
    density = density.xreplace({**known, **real, **dict(zip(state, variables, strict=True))})
    if density.has(sympy.core.function.AppliedUndef, sympy.Integral, sympy.Derivative):
        return None
    try:
        return _decide(sympy.expand_log(sympy.log(density), force=True), variables)
    except (NotImplementedError, ValueError, TypeError, AttributeError, sympy.PolynomialError):
        return None  # what SymPy cannot do with this expression


def positive_definite(matrix) -> bool | None:
    """Whether a symmetric matrix is, by the signs of its leading minors; None where these are unknown."""
    minors = [matrix[:k, :k].det() for k in range(1, matrix.rows + 1)]
    if any(minor.is_nonpositive for minor in minors):
        return False
    return True if all(minor.is_positive for minor in minors) else None


def _both(answers) -> bool | None:
    """False if any is, True if all are."""
    answers = list(answers)
    return False if False in answers else None if None in answers else True


def _decide(logarithm, variables):
    import sympy

    if len(variables) == 1:
        return _line(logarithm, variables[0])
    logarithm = sympy.expand(logarithm)
    parts: dict[Any, Any] = {x: sympy.S.Zero for x in variables}
    for term in sympy.Add.make_args(logarithm):
        among = [x for x in variables if x in term.free_symbols]
        if len(among) > 1:
            return _polynomial(logarithm, variables) if logarithm.is_polynomial(*variables) else None
        if among:
            parts[among[0]] += term
    return _both(_line(part, x) for x, part in parts.items())


def _line(logarithm, x):
    """In one dimension."""
    import sympy

    if x not in logarithm.free_symbols:
        return False
    if logarithm.is_polynomial(x):
        polynomial = sympy.Poly(logarithm, x)
        leading = polynomial.LC()
        if polynomial.degree() % 2:
            return False if leading.is_zero is False else None
        return True if leading.is_negative else False if leading.is_positive else None
    singular = sympy.singularities(logarithm, x, sympy.Reals)
    if not isinstance(singular, sympy.FiniteSet):
        return None if singular is not sympy.S.EmptySet else _both(_ends(logarithm, x, ()))
    return _both(_ends(logarithm, x, singular))


def _ends(logarithm, x, points):
    """For infinity, and for each side of a singular point, whether the integral is finite there."""
    import sympy

    u = sympy.Dummy(positive=True)
    for side in (1, -1):
        yield _end(logarithm.subs(x, side * u), u)
        for point in points:  # u is one over the distance
            yield _end(logarithm.subs(x, point + side / u) - 2 * sympy.log(u), u)


def _end(logarithm, u):
    """Whether the integral of the exponential to u = oo is finite: where log p falls faster than -log u."""
    import sympy

    slope = sympy.limit(logarithm / sympy.log(u), u, sympy.oo)
    if (slope + 1).is_extended_negative:
        return True
    if (slope + 1).is_extended_positive:
        return False
    rest = sympy.limit(logarithm + sympy.log(u), u, sympy.oo)
    return False if rest.is_finite or rest is sympy.oo else None


def _polynomial(logarithm, variables):
    """In two dimensions and more, with numbers for coefficients."""
    import sympy

    potential = sympy.Poly(-logarithm, *variables)
    if potential.free_symbols_in_domain:
        return None
    degree = potential.total_degree()
    leading = sympy.Poly.from_dict({m: c for m, c in potential.terms() if sum(m) == degree}, *variables)
    values = [leading.eval(dict(zip(variables, d, strict=True))) for d in _directions(len(variables))]
    if degree % 2 or any(value.is_negative for value in values):
        return False
    if len(variables) > 2:
        return None
    x, y = variables
    along = sympy.Poly(leading.as_expr().subs({x: 1, y: x}), x)
    if along.degree() == degree and along.eval(0).is_positive and along.count_roots() == 0:
        return True
    for y, x in itertools.permutations(variables):
        quadratic = sympy.Poly(potential.as_expr(), y)
        if quadratic.degree() == 2:
            a, b, c = quadratic.all_coeffs()
            if any(a.subs(x, sympy.Rational(k, 4)).is_negative for k in range(-400, 401)):
                return False
            return _line(b**2 / (4 * a) - c - sympy.log(a) / 2, x)  # after the Gaussian integral over y
    return None


def _directions(dimensions: int):
    """A grid of directions with whole coordinates."""
    size = 16 if dimensions == 2 else 2
    grid = itertools.product(range(-size, size + 1), repeat=dimensions)
    return [direction for direction in grid if functools.reduce(operator.or_, map(abs, direction))]

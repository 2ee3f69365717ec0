"""Gamma and zeta functions that JAX has not on the whole real line: bounded work, and NaN where no real value is known.

Arguments are arrays, or Python numbers for constants. Formulas are those of the Digital Library of Mathematical Functions
(dlmf.nist.gov), named by their numbers.
"""

import functools
import math

import jax.numpy as jnp
import jax.scipy.special as jsp
import numpy as np

# B_2j/(2j)! and B_2j/(2j (2j - 1)), j = 1, 2, ...
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)
_MACLAURIN = tuple(b / math.factorial(2 * j) for j, b in enumerate(_BERNOULLI, 1))
_STIRLING = tuple(b / (2 * j * (2 * j - 1)) for j, b in enumerate(_BERNOULLI[:8], 1))
_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def whole_order(name: str, order) -> int:
    """An order that must be a given integer."""
    if not (isinstance(order, int | float) and float(order).is_integer()):
        raise ValueError(f"the order of {name} must be a given whole number, but {order!r} was given")
    return int(order)


def is_whole(value, least: int, most: int) -> bool:
    """Whether a constant is an integer within the bounds."""
    return isinstance(value, int | float) and float(value).is_integer() and least <= value <= most


def floating(*xs):
    return tuple(
        jnp.asarray(x, jnp.result_type(*xs, float) if all(map(_plain, xs)) else jnp.result_type(*xs)) for x in xs
    )


def _plain(x) -> bool:
    return isinstance(x, int | float)


def safe(allowed, x, otherwise):
    """x where a formula holds, else a point at which neither it nor its derivative fails."""
    return jnp.where(allowed, x, jnp.asarray(otherwise, x.dtype))


def known(allowed, found, *xs):
    """What is found where a formula holds; elsewhere NaN, and so are all derivatives by the arguments `xs`."""
    out = jnp.where(allowed, 0.0, math.nan)
    found = jnp.where(allowed, found, math.nan)
    for x in xs:
        found = found + (jnp.sin(jnp.where(jnp.isfinite(x), x, 0)) * out).astype(found.dtype)
    return found


def _stirling(x):
    """log gamma(x) - (x - 1/2) log x + x - log(2 pi)/2 for x >= 10 (5.11.1)."""
    inverse = 1 / x**2
    total = 0.0
    for coefficient in reversed(_STIRLING):
        total = total * inverse + coefficient
    return total / x


def loggamma(x):
    return known(x > 0, jsp.gammaln(x), x)  # the logarithm of a negative number is not real


def _by_signs(above, below):
    """Products and quotients of gamma functions; 0 at poles of what is below alone, NaN at others and out of reach."""
    pole = lambda x: (x <= 0) & (x == jnp.floor(x))  # noqa: E731
    logarithm, sign, poles, zeros, far = 0.0, 1.0, False, False, False
    for factors, power in ((above, 1), (below, -1)):
        for x in factors:
            at = pole(x)
            y = safe(~at, x, 0.5)
            logarithm, sign = logarithm + power * jsp.gammaln(y), sign * jsp.gammasgn(y)
            poles, zeros = (poles | at, zeros) if power == 1 else (poles, zeros | at)
            far = far | (abs(x) > 170)  # where logarithms of this size cancel
    return jnp.where(poles | far, math.nan, jnp.where(zeros, 0.0, sign * jnp.exp(logarithm)))


def beta(a, b):
    """gamma(a) gamma(b)/gamma(a + b), by Stirling's series where the logarithms would cancel."""
    a, b = floating(a, b)
    a, b = jnp.broadcast_arrays(a, b)
    positive = (a > 0) & (b > 0)
    low, high = (
        jnp.minimum(safe(positive, a, 1), safe(positive, b, 1)),
        jnp.maximum(safe(positive, a, 1), safe(positive, b, 1)),
    )
    # Both small.
    p, q = safe(high < 10, low, 1), safe(high < 10, high, 1)
    small = jnp.exp(jsp.gammaln(p) + jsp.gammaln(q) - jsp.gammaln(p + q))
    # One large, q.
    p, q = safe((low < 10) & (high >= 10), low, 1), safe(high >= 10, high, 10)
    rest = _stirling(q) - _stirling(p + q)
    mixed = jnp.exp(jsp.gammaln(p) + rest + p - p * jnp.log(p + q) + (q - 0.5) * jnp.log1p(-p / (p + q)))
    # Both large.
    p = safe(low >= 10, low, 10)
    q = jnp.maximum(q, p)
    rest = _stirling(p) + _stirling(q) - _stirling(p + q) + _HALF_LOG_TWO_PI - 0.5 * jnp.log(q)
    large = jnp.exp(rest + (p - 0.5) * jnp.log(p / (p + q)) + q * jnp.log1p(-p / (p + q)))
    found = jnp.where(high < 10, small, jnp.where(low < 10, mixed, large))
    a, b = safe(~positive, a, 1), safe(~positive, b, 1)
    return jnp.where(positive, found, _by_signs((a, b), (a + b,)))


def rising(x, n):
    """gamma(x + n)/gamma(x); a product where n is a small whole number."""
    if is_whole(n, 0, 64):
        return functools.reduce(lambda product, k: product * (x + k), range(int(n)), 1.0 + 0.0 * x)
    x, n = floating(x, n)
    x, n = jnp.broadcast_arrays(x, n)
    positive = (x > 0) & (x + n > 0)
    low, high = (f(safe(positive, x, 1), safe(positive, x + n, 1)) for f in (jnp.minimum, jnp.maximum))
    change = safe(positive, abs(n), 0)
    # gamma(high)/gamma(low): both large, or by logarithms.
    p, d = safe(low >= 10, low, 10), safe(low >= 10, change, 0)
    q = p + d
    large = (p - 0.5) * jnp.log1p(d / p) + d * jnp.log(q) - d + _stirling(q) - _stirling(p)
    small = jsp.gammaln(safe(low < 10, high, 1)) - jsp.gammaln(safe(low < 10, low, 1))
    logarithm = jnp.where(low >= 10, large, small)
    found = jnp.exp(jnp.where(n >= 0, logarithm, -logarithm))
    found = jnp.where(low < 10, jnp.where(high > 1e8, math.nan, found), found)  # where logarithms cancel
    x, n = safe(~positive, x, 1), safe(~positive, n, 0)
    return jnp.where(positive, found, _by_signs((x + n,), (x,)))


def binomial(n, k):
    """gamma(n + 1)/(gamma(k + 1) gamma(n - k + 1)); a polynomial in n where k is a small whole number."""
    if is_whole(k, 0, 64):
        factors = ((n - i) / (i + 1) for i in range(int(k)))
        return functools.reduce(lambda product, factor: product * factor, factors, 1.0 + 0.0 * n)
    n, k = floating(n, k)
    n, k = jnp.broadcast_arrays(n, k)
    positive = (n > -1) & (k > -1) & (n - k > -1)
    p, q = safe(positive, k + 1, 1), safe(positive, n - k + 1, 1)
    found = 1 / ((p + q - 1) * beta(p, q))
    a, b = safe(~positive, n, 0), safe(~positive, k, 0)
    return jnp.where(positive, found, _by_signs((a + 1,), (b + 1, a - b + 1)))


def polygamma(order, x):
    """The derivatives of the digamma function; for negative x by reflection (5.15.6)."""
    n = whole_order("polygamma", order)
    if n < 0:
        raise ValueError(f"the order of polygamma must be at least 0, but {n} was given")
    if n == 0:
        return jsp.digamma(x)
    (x,) = floating(x)
    positive = x > 0
    right, left = safe(positive, x, 1), safe(~positive, x, -0.5)
    # d^n/dx^n cot(pi x) = pi^n Q_n(cot(pi x)), with Q_0 = c and Q_{n+1} = -(1 + c^2) Q_n'.
    powers = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(n):
        powers = -np.polynomial.Polynomial([1.0, 0.0, 1.0]) * powers.deriv()
    away = left - jnp.round(left)
    size = safe(away != 0, abs(away), 0.25)
    cotangent = jnp.where(size > 0.25, jnp.tan(math.pi * (0.5 - size)), 1 / jnp.tan(math.pi * size)) * jnp.sign(away)
    value = functools.reduce(lambda total, c: total * cotangent + c, reversed(powers.coef.tolist()), 0.0 * cotangent)
    reflected = (-1) ** n * jsp.polygamma(n, 1 - left) - math.pi ** (n + 1) * value
    reflected = jnp.where(away != 0, reflected, math.inf if n % 2 else math.nan)  # at a pole, from either side
    return jnp.where(positive, jsp.polygamma(n, right), reflected)


def hurwitz(s, a):
    """sum_k (a + k)^-s for s > -1, a > 0, by the formula of Euler and Maclaurin (2.10.1)."""
    count = 12
    total = sum(((a + k) ** -s for k in range(count)), 0.0 * s)
    end = a + count
    last = end**-s
    total = total + end * last / (s - 1) + last / 2
    term = s * last / end
    for j, coefficient in enumerate(_MACLAURIN):
        total = total + coefficient * term
        term = term * (s + 2 * j + 1) * (s + 2 * j + 2) / end**2
    return total


def zeta(s, a=1.0):
    """Riemann's zeta function for all s but the pole, below -1 by its functional equation (25.4.1); Hurwitz's for a > 0 and
    s > -1, NaN elsewhere; a ValueError where that is everywhere."""
    riemann = _plain(a) and a == 1
    if not riemann and ((_plain(s) and s <= -1) or (_plain(a) and a <= 0)):
        raise ValueError(f"zeta(s, a) is known for s > -1 and a > 0, but s = {s!r} and a = {a!r} were given")
    s, a = floating(s, a)
    s, a = jnp.broadcast_arrays(s, a)
    allowed = (s > -1) & (s != 1) & (a > 0)
    found = jnp.where(allowed, hurwitz(safe(allowed, s, 2), safe(allowed, a, 1)), math.nan)
    if not riemann:
        return found
    below = s <= -1
    r = 1 - safe(below, s, -1.5)
    turn = r - 4 * jnp.floor(r / 4)  # cos(pi r/2) by a sine, which is exactly zero at odd r
    cosine = jnp.sin(math.pi / 2 * jnp.where(turn < 2, 1 - turn, turn - 3))
    reflected = 2 * cosine * jnp.exp(jsp.gammaln(r) - r * math.log(2 * math.pi)) * hurwitz(r, jnp.ones_like(r))
    return jnp.where(below, reflected, found)

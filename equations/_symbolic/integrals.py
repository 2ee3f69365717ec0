"""Exponential integrals, incomplete gamma and Bessel functions: bounded work, and NaN where no real value is known.

Arguments are arrays, or Python numbers for constants. Formulas are those of the Digital Library of Mathematical Functions
(dlmf.nist.gov), named by their numbers.
"""

import functools
import math

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
import numpy as np

from .gamma import floating, hurwitz, is_whole, known, safe, whole_order

# (zeta(k) - 1)/k, k = 2, 3, ...
_LOG_GAMMA = tuple(hurwitz(float(k), 2.0) / k for k in range(2, 30))


def _horner(step, terms: int, x):
    """1 + step(1) (1 + step(2) (1 + ...)), a series whose terms have the ratio `step(k)`, with a given number of terms."""

    def body(total, k):
        return 1 + step(k) * total, None

    k = jnp.arange(terms, 0, -1).astype(x.dtype)
    return jax.lax.scan(body, jnp.ones_like(x), k)[0]


def expint(order, x):
    """E_n(x) = int_1^inf exp(-x t) t^-n dt: for n < 1 in closed form (8.19.7), else for x >= 0 by the power series (8.19.8)
    or, beyond 1, the continued fraction (8.19.17), with a given number of terms."""
    n = whole_order("expint", order)
    (x,) = floating(x)
    if n <= 0:
        # E_{-m} = m!/x^{m+1} exp(-x) sum_{k <= m} x^k/k!
        terms = functools.reduce(lambda total, k: 1 + x / k * total, range(-n, 0, -1), jnp.ones_like(x))
        return math.factorial(-n) * (terms / x ** (1 - n)) * jnp.exp(-x)
    low = safe((x > 0) & (x <= 1), x, 0.5)
    series, power = jnp.zeros_like(x), jnp.ones_like(x)
    harmonic = -np.euler_gamma + sum(1 / k for k in range(1, n))
    for m in range(max(24, n + 12)):  # power is (-x)^m/m!
        series = series + power * ((harmonic - jnp.log(low)) if m == n - 1 else -1 / (m - n + 1))
        power = power * -low / (m + 1)

    def body(below, k):
        return high + n + 2 * k - (k + 1) * (n + k) / below, None

    high = safe(x > 1, x, 2)
    ks = jnp.arange(100, -1, -1).astype(x.dtype)
    fraction = jnp.exp(-high) / jax.lax.scan(body, high + n + 202, ks)[0]
    at_zero = math.inf if n == 1 else 1 / (n - 1)
    return known(x >= 0, jnp.where(x > 1, fraction, jnp.where(x > 0, series, at_zero)), x)


def exponential_integral(x):
    """Ei(x): -E_1(-x) for x < 0, the power series up to 40 (6.6.1), the asymptotic one beyond (6.12.2)."""
    (x,) = floating(x)
    middle, far = safe((x > 0) & (x <= 40), x, 1), safe(x > 40, x, 50)
    k = jnp.arange(130, 0, -1).astype(x.dtype)

    def body(total, k):
        return middle / k * (1 / k + total), None

    series = np.euler_gamma + jnp.log(middle) + jax.lax.scan(body, jnp.zeros_like(x), k)[0]
    beyond = jnp.exp(far) / far * _horner(lambda k: k / far, 40, far)
    left = -expint(1, jnp.where(x < 0, -x, 1))
    return jnp.where(x > 40, beyond, jnp.where(x > 0, series, jnp.where(x < 0, left, jnp.where(x == 0, -math.inf, x))))


def cosine_integral(x):
    """Ci, which is complex for x < 0."""
    (x,) = floating(x)
    return known(x >= 0, jsp.sici(safe(x > 0, x, 1))[1], x) + jnp.where(x == 0, -math.inf, 0.0)


def lowergamma(a, x):
    """int_0^x t^(a-1) exp(-t) dt for a > 0, x >= 0; the first terms of its series where JAX's ratio underflows."""
    given = a, x = floating(a, x)
    allowed = (a > 0) & (x >= 0)
    a, x = safe(allowed, a, 1), safe(allowed, x, 1)
    ratio = jsp.gammainc(a, x)
    tiny = (ratio < 1e6 * jnp.finfo(x.dtype).tiny) & (x < a)
    b, y = safe(tiny, a, 1), safe(tiny, x, 0)
    first = b**-1 * y**b * jnp.exp(-y) * _horner(lambda k: y / (b + k), 12, b + y)
    return known(allowed, jnp.where(tiny, first, ratio * jsp.gamma(a)), *given)


def uppergamma(a, x):
    """int_x^inf t^(a-1) exp(-t) dt for x >= 0, by `expint` where a is a whole number below 1; NaN for other a <= 0.

    Where both are small, from (gamma(1 + a) - x^a)/a and the rest of the series of `lowergamma` (8.7.1): 1 less JAX's ratio
    loses what is left.
    """
    if is_whole(a, -64, 0):
        (x,) = floating(x)
        return x ** int(a) * expint(1 - int(a), x)
    given = a, x = floating(a, x)
    allowed = (a > 0) & (x >= 0)
    small = allowed & (a < 0.5) & (x <= 1) & (x > 0)
    b, y = safe(small, a, 0.25), safe(small, x, 0.5)
    # log gamma(1 + b) = -log(1 + b) + b (1 - gamma) + sum_{k > 1} (-b)^k (zeta(k) - 1)/k   (5.7.3)
    logarithm = functools.reduce(lambda total, c: total * -b + c, reversed(_LOG_GAMMA), 0.0 * b) * b**2
    logarithm = logarithm - jnp.log1p(b) + b * (1 - np.euler_gamma)
    rest, power = 0.0 * y, jnp.ones_like(y)
    for k in range(1, 20):
        power = power * -y / k
        rest = rest + power / (b + k)
    near = (jnp.expm1(logarithm) - jnp.expm1(b * jnp.log(y))) / b - y**b * rest
    a, x = safe(allowed & ~small, a, 1), safe(allowed & ~small, x, 1)
    return known(allowed, jnp.where(small, near, jsp.gammaincc(a, x) * jsp.gamma(a)), *given)


def _bessel(order, x, sign, reach, terms, integrand, scale=lambda x: 1.0):
    """A Bessel function of integer order: up to `reach` by its power series (10.2.2, 10.25.2), beyond as the mean

        (1/pi) int_0^pi integrand(n, a, |x|) da scale(|x|)

    by the midpoint rule, whose 256 points are exact to rounding for n + |x| < 400; NaN beyond.
    """
    n, count = abs(order), 256
    size = abs(x)
    near = size <= reach
    small, large = safe(near, size, 1), safe(~near, size, reach + 1)
    leading = jnp.exp(n * jnp.log(safe(small > 0, small, 1) / 2) - math.lgamma(n + 1))
    leading = jnp.where(small > 0, leading, 1.0 if n == 0 else 0.0)
    series = leading * _horner(lambda k: sign * small**2 / 4 / (k * (k + n)), terms, small)
    angles = (np.arange(count) + 0.5) * np.pi / count
    mean = jnp.mean(integrand(n, angles, large[..., None], lambda constant: jnp.asarray(constant, x.dtype)), axis=-1)
    found = jnp.where(near, series, jnp.where(size + n < 400, mean * scale(large), math.nan))
    odd = n % 2 == 1
    found = jnp.where((x < 0) & odd, -found, found)
    return -found if odd and order < 0 and sign < 0 else found  # J_-n = (-1)^n J_n, I_-n = I_n


def besselj(order, x):
    n = whole_order("besselj", order)
    (x,) = floating(x)
    reach = (8 * (abs(n) + 1)) ** 0.5

    def integrand(n, a, x, array):
        return jnp.cos(array(n * a) - x * array(np.sin(a)))

    found = _bessel(n, x, -1, reach, 40, integrand)
    # Between the series and its order the function falls below what the mean resolves.
    lost = (abs(x) > reach) & (abs(x) < abs(n)) & (abs(found) < 2e3 * jnp.finfo(x.dtype).eps)
    return jnp.where(lost, math.nan, found)


def besseli(order, x):
    n = whole_order("besseli", order)
    (x,) = floating(x)
    reach = min(400.0, 10 + n**2 / 9)

    def integrand(n, a, x, array):
        return jnp.exp(x * array(np.cos(a) - 1)) * array(np.cos(n * a))

    # Of exp(-|x|) I_n, which cannot overflow.
    return _bessel(n, x, 1, reach, int(reach) + 60, integrand, lambda x: jnp.exp(x))

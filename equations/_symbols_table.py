"""The table of functions: SymPy's names and what they are in JAX. Arguments are arrays, or Python numbers for constants."""

import functools
import math

import jax.numpy as jnp
import jax.scipy.special as jsp
import numpy as np


def _whole(name: str, order) -> int:
    """An order that must be a given integer."""
    if not isinstance(order, int | float) or order != int(order):
        raise ValueError(f"the order of {name} must be a given whole number, but {order!r} was given")
    return int(order)


def _heaviside(x, at_zero=0.5):
    return jnp.where(x > 0, 1.0, jnp.where(x < 0, 0.0, at_zero))


def _loggamma(x):
    return jnp.where(x > 0, jsp.gammaln(x), math.nan)  # the logarithm of a negative number is not real


def _mean_over_half_circle(name, order, x, integrand):
    """(1/pi) int_0^pi integrand(n, a, x) da, the Bessel functions of integer order n.

    The midpoint rule with 256 points is exact to rounding for |n| + |x| < 400; beyond, NaN. (JAX's own recurrence for J_n
    gives NaN at zero and for most of float32.)
    """
    order, count = _whole(name, order), 256
    x = jnp.asarray(x)[..., None]
    angles = (np.arange(count) + 0.5) * np.pi / count
    mean = jnp.mean(integrand(order, angles, x, lambda constant: jnp.asarray(constant, x.dtype)), axis=-1)
    return jnp.where(abs(x[..., 0]) + abs(order) < 400, mean, math.nan)


def _besselj(order, x):
    return _mean_over_half_circle(
        "besselj", order, x, lambda n, a, x, array: jnp.cos(array(n * a) - x * array(np.sin(a)))
    )


def _besseli(order, x):
    return _mean_over_half_circle(
        "besseli", order, x, lambda n, a, x, array: jnp.exp(x * array(np.cos(a))) * array(np.cos(n * a))
    )


def _binomial(n, k):
    return jsp.gamma(n + 1) / (jsp.gamma(k + 1) * jsp.gamma(n - k + 1))


TABLE = {
    # elementary
    **{name: getattr(jnp, name) for name in "exp log sin cos tan sinh cosh tanh floor sign".split()},
    **{f"a{name}": getattr(jnp, f"arc{name}") for name in "sin cos tan sinh cosh tanh".split()},
    "atan2": jnp.arctan2,
    "sec": lambda x: 1 / jnp.cos(x),
    "csc": lambda x: 1 / jnp.sin(x),
    "cot": lambda x: 1 / jnp.tan(x),
    "sech": lambda x: 1 / jnp.cosh(x),
    "csch": lambda x: 1 / jnp.sinh(x),
    "coth": lambda x: 1 / jnp.tanh(x),
    "sinc": lambda x: jnp.sinc(x / math.pi),
    "Abs": jnp.abs,
    "ceiling": jnp.ceil,
    "frac": lambda x: x - jnp.floor(x),
    "Mod": jnp.mod,
    "Max": lambda *xs: functools.reduce(jnp.maximum, xs),
    "Min": lambda *xs: functools.reduce(jnp.minimum, xs),
    "expm1": jnp.expm1,
    "log1p": jnp.log1p,
    "log2": jnp.log2,
    "log10": jnp.log10,
    "exp2": jnp.exp2,
    "hypot": jnp.hypot,
    # all symbols are real
    "re": lambda x: x,
    "im": lambda x: 0.0 * x,
    "conjugate": lambda x: x,
    # by cases
    "Heaviside": _heaviside,
    "KroneckerDelta": lambda i, j: jnp.where(i == j, 1.0, 0.0),
    "BooleanTrue": lambda: True,
    "BooleanFalse": lambda: False,
    "StrictLessThan": lambda x, y: x < y,
    "StrictGreaterThan": lambda x, y: x > y,
    "LessThan": lambda x, y: x <= y,
    "GreaterThan": lambda x, y: x >= y,
    "Equality": lambda x, y: x == y,
    "Unequality": lambda x, y: x != y,
    "And": lambda *conditions: functools.reduce(jnp.logical_and, conditions),
    "Or": lambda *conditions: functools.reduce(jnp.logical_or, conditions),
    "Not": jnp.logical_not,
    "ITE": jnp.where,
    # special
    "erf": jsp.erf,
    "erfc": jsp.erfc,
    "erfi": lambda x: 2 / math.sqrt(math.pi) * jnp.exp(x**2) * jsp.dawsn(x),
    "erfinv": jsp.erfinv,
    "erfcinv": lambda x: -jsp.ndtri(x / 2) / math.sqrt(2),
    "gamma": jsp.gamma,
    "factorial": lambda x: jsp.gamma(x + 1),
    "binomial": _binomial,
    "RisingFactorial": jsp.poch,
    "loggamma": _loggamma,
    "digamma": jsp.digamma,
    "polygamma": lambda n, x: jsp.polygamma(_whole("polygamma", n), x) if n else jsp.digamma(x),
    "lowergamma": lambda a, x: jsp.gammainc(a, x) * jsp.gamma(a),
    "uppergamma": lambda a, x: jsp.gammaincc(a, x) * jsp.gamma(a),
    "beta": jsp.beta,
    "zeta": lambda s, a=1.0: jsp.zeta(s, a),
    "Ei": jsp.expi,
    "expint": lambda n, x: jsp.expn(_whole("expint", n), x),
    "Si": lambda x: jsp.sici(x)[0],
    "Ci": lambda x: jsp.sici(x)[1],
    "fresnels": lambda x: jsp.fresnel(x)[0],
    "fresnelc": lambda x: jsp.fresnel(x)[1],
    "besselj": _besselj,
    "besseli": _besseli,
}

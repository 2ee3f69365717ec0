"""The table of functions: SymPy's names and what they are in JAX. Arguments are arrays, or Python numbers for constants."""

import functools
import math

import jax.numpy as jnp
import jax.scipy.special as jsp

from . import gamma as gammas
from . import integrals


def _heaviside(x, at_zero=0.5):
    return jnp.where(x > 0, 1.0, jnp.where(x < 0, 0.0, at_zero))


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
    "binomial": gammas.binomial,
    "RisingFactorial": gammas.rising,
    "loggamma": gammas.loggamma,
    "digamma": jsp.digamma,
    "polygamma": gammas.polygamma,
    "lowergamma": integrals.lowergamma,
    "uppergamma": integrals.uppergamma,
    "beta": gammas.beta,
    "zeta": gammas.zeta,
    "Ei": integrals.exponential_integral,
    "expint": integrals.expint,
    "Si": lambda x: jsp.sici(x)[0],
    "Ci": integrals.cosine_integral,
    "fresnels": lambda x: jsp.fresnel(x)[0],
    "fresnelc": lambda x: jsp.fresnel(x)[1],
    "besselj": integrals.besselj,
    "besseli": integrals.besseli,
}

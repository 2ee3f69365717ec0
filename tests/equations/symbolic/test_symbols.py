"""Expressions of SymPy at their edges: special functions on the whole line, missing symbols, densities that are none."""

import functools
import warnings

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
import mpmath
import numpy as np
import pytest
import sympy as sp
from marks import some

from dynamics import solve
from equations import modified, symbolic
from equations._symbolic.table import TABLE
from equations._symbolic.to_jax import to_jax

CASES = [
    ("a function without a value", "instance", "zeta(x, 5/2) at -2.5: named", "test_what_has_no_value_is_named[zeta]"),
    ("a function without a value", "brother", "log gamma at -1.5", "test_what_has_no_value_is_named[loggamma]"),
    ("a function without a value", "brother", "Ci at -1.5, inside of another", "test_what_has_no_value_is_named[Ci]"),
    ("a function without a value", "brother", "zeta(-5/2, x): never known", "test_what_is_never_known_is_refused"),
    ("a state that is no float", "instance", "gamma(x + 1/2) of int64", "test_a_state_of_integers[int64]"),
    ("a state that is no float", "brother", "bool and complex", "test_a_state_of_integers"),
    ("a state that is no float", "brother", "a list, the diffusion, `solve`", "test_no_state_of_floats"),
    ("derivatives that are no functions", "instance", "sign", "test_what_was_differentiated_is_named[sign]"),
    ("derivatives that are no functions", "instance", "Heaviside", "test_what_was_differentiated_is_named[Heaviside]"),
    ("derivatives that are no functions", "brother", "|x| at order 3", "test_what_was_differentiated_is_named[Abs]"),
    ("derivatives that are no functions", "brother", "the loss's own", "test_what_was_differentiated_is_named[loss]"),
    ("derivatives that are no functions", "brother", "DiracDelta itself", "test_what_was_written_is_no_derivative"),
    ("terms of SymPy's that cancel", "instance", "lowergamma(10, .1), order a symbol", "test_the_order_as_a_symbol"),
    ("terms of SymPy's that cancel", "brother", "lowergamma(5/2, 1e-6)", "test_the_order_as_a_symbol"),
    ("terms of SymPy's that cancel", "brother", "the order written out: lost", "test_the_order_as_a_symbol"),
    (
        "gradients where there is no value",
        "instance",
        "uppergamma(x, 2) at -1.5",
        "test_gradients_of_no_value[uppergamma]",
    ),
    (
        "gradients where there is no value",
        "brother",
        "lowergamma(x, 2) at -1.5",
        "test_gradients_of_no_value[lowergamma]",
    ),
    ("gradients where there is no value", "brother", "log gamma at -1.5", "test_gradients_of_no_value[loggamma]"),
    ("gradients where there is no value", "brother", "Ci at -1.5", "test_gradients_of_no_value[Ci]"),
    ("gradients where there is no value", "brother", "E_2 at -1.5", "test_gradients_of_no_value[expint]"),
    (
        "special functions on the whole line",
        "instance",
        "polygamma(1, -12.3) is 15.00, not -.078",
        "test_special_functions[polygamma1]",
    ),
    ("special functions on the whole line", "instance", "zeta(s) for s < 1", "test_special_functions[zeta]"),
    (
        "special functions on the whole line",
        "instance",
        "expint(1, x) on the batch [1e-6, 1.5] ends",
        "test_special_functions[expint1]",
    ),
    ("special functions on the whole line", "instance", "beta(12.9, 5/2) in float64", "test_special_functions[beta]"),
    ("special functions on the whole line", "brother", "Ei on a batch", "test_special_functions[Ei]"),
    (
        "special functions on the whole line",
        "brother",
        "Ci of negative numbers is complex",
        "test_special_functions[Ci]",
    ),
    (
        "special functions on the whole line",
        "brother",
        "Bessel functions near zero, in float32",
        "test_special_functions[besselj3]",
    ),
    (
        "special functions on the whole line",
        "brother",
        "modified ones near zero, and where exp overflows",
        "test_special_functions[besseli3]",
    ),
    (
        "special functions on the whole line",
        "brother",
        "polygamma of even order at half-integers",
        "test_special_functions[polygamma2]",
    ),
    (
        "special functions on the whole line",
        "brother",
        "binomial coefficients of large and of negative numbers",
        "test_special_functions[binomial]",
    ),
    (
        "special functions on the whole line",
        "brother",
        "rising factorials of large numbers",
        "test_special_functions[rising]",
    ),
    (
        "special functions on the whole line",
        "brother",
        "Hurwitz's zeta function at negative a",
        "test_special_functions[hurwitz]",
    ),
    (
        "special functions on the whole line",
        "brother",
        "incomplete gamma functions of small a",
        "test_special_functions[uppergamma]",
    ),
    (
        "special functions on the whole line",
        "instance",
        "JAX's own fail the same test",
        "test_the_functions_of_jax_are_rejected",
    ),
    ("special functions on the whole line", "brother", "their derivatives, by JAX and by SymPy", "test_derivatives"),
    (
        "special functions on the whole line",
        "brother",
        "orders that are no whole numbers",
        "test_orders_that_are_refused",
    ),
    ("state symbols that the drift lacks", "instance", "drift=(y, -y)", "test_modified_without_a_symbol[linear]"),
    ("state symbols that the drift lacks", "brother", "a constant drift", "test_modified_without_a_symbol[constant]"),
    (
        "state symbols that the drift lacks",
        "brother",
        "a loss of one coordinate",
        "test_modified_without_a_symbol[loss]",
    ),
    (
        "state symbols that the drift lacks",
        "brother",
        "with noise and fluctuations",
        "test_modified_without_a_symbol[noise]",
    ),
    ("densities without an integral", "instance", "loss x^3", "test_densities_that_are_none[cubic]"),
    ("densities without an integral", "instance", "loss x^2 y^2", "test_densities_that_are_none[valley]"),
    (
        "densities without an integral",
        "instance",
        "letters without signs",
        "test_densities_that_cannot_be_told[letters]",
    ),
    (
        "densities without an integral",
        "brother",
        "geometric Brownian motion, singular at zero",
        "test_densities_that_are_none[geometric]",
    ),
    ("densities without an integral", "brother", "too fat a tail", "test_densities_that_are_none[tail]"),
    ("densities without an integral", "brother", "a coordinate without drift", "test_densities_that_are_none[flat]"),
    ("densities without an integral", "brother", "an opaque loss", "test_densities_that_cannot_be_told[opaque]"),
    (
        "densities without an integral",
        "brother",
        "densities that there are give no warning",
        "test_densities_that_there_are",
    ),
]

x, y, k, eta = sp.symbols("x y k eta")
POSITIVE = sp.Symbol("k", positive=True)
LINE = np.array([
    -171.2, -60.3, -25.5, -12.3, -7, -3.7, -3, -2.5, -1.5, -1, -0.99, -0.5, -0.1, -1e-3, -1e-8, 0, 1e-12, 1e-6, 1e-3, 0.3,
    0.5, 0.99, 1, 1.01, 1.5, 2, 2.5, 4.2, 6, 12.9, 20, 33.3, 50, 87.2, 170.2, 300.5, 700, 1e4,
])  # fmt: skip
SOME = np.array([-20.5, -2, -0.5, 0.25, 1, 2.5, 12.9, 40.2, 1e6])
PAIRS = [values.ravel() for values in np.meshgrid(SOME, SOME)]
ORDERS, ENDS = (-2.5, 0, 1e-3, 0.3, 2.5, 12.9, 60), (-1, 1e-8, 1e-3, 0.3, 1, 40)
SMALL = [values.ravel() for values in np.meshgrid(ORDERS, ENDS)]
ZETA = [values.ravel() for values in np.meshgrid((-0.5, 0.5, 2, 3.5, 12.9), (-2.5, 0.3, 1, 7, 40))]
HALF = (np.arange(256) + 0.5) * np.pi / 256


def upper(a, t):
    return mpmath.gammainc(a, t) if t >= 0 and a > 0 else mpmath.nan


def lower(a, t):
    return t**a / a * mpmath.exp(-t) * mpmath.hyp1f1(1, a + 1, t) if t >= 0 and a > 0 else mpmath.nan


# The function, what it is, the points, and which of those that have a value may be NaN.
FUNCTIONS = {
    "polygamma1": (lambda t: TABLE["polygamma"](1, t), lambda t: mpmath.psi(1, t), [LINE], None),
    "polygamma2": (lambda t: TABLE["polygamma"](2, t), lambda t: mpmath.psi(2, t), [LINE], None),
    "zeta": (TABLE["zeta"], mpmath.zeta, [LINE], None),
    "hurwitz": (lambda s, a: 3 + TABLE["zeta"](s, a), lambda s, a: 3 + mpmath.zeta(s, a), ZETA, lambda s, a: a <= 0),
    "expint1": (lambda t: TABLE["expint"](1, t), mpmath.e1, [LINE], None),
    "expint5": (lambda t: TABLE["expint"](5, t), lambda t: mpmath.expint(5, t), [LINE], None),
    "expint-2": (lambda t: TABLE["expint"](-2, t), lambda t: mpmath.expint(-2, t), [LINE], None),
    "Ei": (TABLE["Ei"], mpmath.ei, [LINE], None),
    "Ci": (TABLE["Ci"], mpmath.ci, [LINE], None),
    "beta": (TABLE["beta"], mpmath.beta, PAIRS, lambda a, b: (a < 0) | (b < 0)),
    "binomial": (TABLE["binomial"], mpmath.binomial, PAIRS, lambda n, k: (n < 0) | (k < 0) | (n < k)),
    "rising": (TABLE["RisingFactorial"], mpmath.rf, PAIRS, lambda x, n: (x < 0) | (n < 0)),
    "loggamma": (lambda t: 3 + TABLE["loggamma"](t), lambda t: 3 + mpmath.loggamma(t), [LINE], None),
    "lowergamma": (TABLE["lowergamma"], lower, SMALL, None),
    "uppergamma": (TABLE["uppergamma"], upper, SMALL, None),
    **{
        f"besselj{n}": (
            lambda t, n=n: TABLE["besselj"](n, t), lambda t, n=n: mpmath.besselj(n, t), [LINE], lambda t: abs(t) > 390,
        )
        for n in (0, 3, -3)
    },
    **{
        f"besseli{n}": (
            lambda t, n=n: TABLE["besseli"](n, t), lambda t, n=n: mpmath.besseli(abs(n), t), [LINE], lambda t: abs(t) > 390,
        )
        for n in (0, 3, -3)
    },
}  # fmt: skip


@functools.cache
def exactly(function, point):
    """The real value, or NaN where there is none."""
    try:
        with mpmath.workdps(30):
            value = function(*(mpmath.mpf(float(number)) for number in point))
            return float(value.real) if value.imag == 0 else np.nan
    except (ValueError, ZeroDivisionError, OverflowError, mpmath.libmp.NoConvergence):  # a pole
        return np.nan


def wrong(function, oracle, points, unknown, dtype):
    """The points at which a function is neither right, nor infinite at a pole or NaN where it may be."""
    points = [values.astype(np.float32).astype(dtype) for values in points]
    found = np.asarray(jax.jit(function)(*map(jnp.asarray, points)), float)
    exact = np.array([exactly(oracle, tuple(map(float, point))) for point in zip(*points, strict=True)])
    eps, limits = np.finfo(dtype).eps, np.finfo(dtype)
    with np.errstate(invalid="ignore"):
        # Where gamma functions of a large number meet, rounding in the number itself has this effect.
        scale = 200 + 20 * np.max(
            [np.log1p(np.abs(values)) * np.minimum(np.abs(values), 40) for values in points], axis=0
        )
        right = np.abs(found - exact) <= scale * eps * np.maximum(np.abs(exact), 1e3 * limits.tiny)
        right |= (np.abs(exact) > limits.max) & ~np.isfinite(found)
        right |= np.isnan(exact) & ~np.isfinite(found)
    if unknown is not None:
        right |= np.isnan(found) & unknown(*points)
    return [tuple(map(float, point)) for point, good in zip(zip(*points, strict=True), right, strict=True) if not good]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_functions(name):
    for dtype in (np.float64, np.float32):
        assert wrong(*FUNCTIONS[name], dtype) == [], dtype


@pytest.mark.parametrize(
    "name, mutant",
    [
        ("polygamma1", lambda t: jsp.polygamma(1, t)),
        ("zeta", lambda s: jsp.zeta(s, 1.0)),
        ("hurwitz", lambda s, a: 3 + jsp.zeta(s, a)),
        ("beta", jsp.beta),
        ("Ci", lambda t: jsp.sici(t)[1]),
        ("besselj3", lambda t: jnp.mean(jnp.cos(3 * HALF - t[:, None] * np.sin(HALF)), 1)),
    ],
)  # fmt: skip
def test_the_functions_of_jax_are_rejected(name, mutant):
    assert wrong(mutant, *FUNCTIONS[name][1:], np.float64)


def test_derivatives():
    """By JAX, of the compiled expressions; by SymPy, compiled; also where another branch of the code is not finite."""
    expressions = [
        sp.polygamma(1, x), sp.beta(x, sp.Rational(5, 2)), sp.expint(3, x), sp.besselj(2, x), sp.binomial(x, 4),
    ]  # fmt: skip
    compiled = to_jax(expressions, (x,))
    points = jnp.array([0.4, 1.7, 12.9])
    by_jax = jax.jit(jax.vmap(jax.jacfwd(compiled)))(points)
    by_sympy = jax.jit(to_jax([e.expand(func=e.has(sp.binomial)).diff(x) for e in expressions], (x,)))(points)
    np.testing.assert_allclose(by_jax, by_sympy, rtol=1e-10)
    assert abs(jax.grad(lambda s: TABLE["zeta"](s))(-2.0) + 0.030448457058393271) < 1e-12  # -zeta(3)/(4 pi^2)


@pytest.mark.parametrize("bad", [sp.expint(x, 2), sp.polygamma(sp.Rational(1, 2), x), sp.besseli(sp.Rational(1, 2), x)])
def test_orders_that_are_refused(bad):
    with pytest.raises(ValueError, match="Argument `drift` must be traceable .* must be a given whole number"):
        symbolic(x, drift=-x + bad)


def euler_logarithm(matrix, order):
    """log(1 + eta A)/eta up to a power, the modified equation of a linear drift."""
    return sum(((-eta) ** (j - 1) * matrix**j / j for j in range(1, order + 1)), sp.zeros(2, 2))


LINEAR = sp.Matrix([[0, 1], [0, -1]])


@pytest.mark.parametrize(
    "arguments, order, fluctuations, expected",
    [
        (dict(drift=(y, -y)), 4, False, euler_logarithm(LINEAR, 4) * sp.Matrix([x, y])),
        (dict(drift=(2, k)), 3, False, sp.Matrix([2, k])),
        (dict(loss=y**2), 3, False, sp.Matrix([0, -2 * y * (1 + eta + 4 * eta**2 / 3)])),
        (dict(drift=(y, -y), diffusion=sp.sqrt(eta) * sp.eye(2)), 2, True, euler_logarithm(LINEAR, 2) * sp.Matrix([x, y])),
    ],
    ids=["linear", "constant", "loss", "noise"],
)  # fmt: skip
def test_modified_without_a_symbol(arguments, order, fluctuations, expected):
    found = symbolic((x, y), learning_rate=eta, **arguments).modified(order, fluctuations)
    assert (sp.Matrix(found.drift_expressions) - expected).expand() == sp.zeros(2, 1)
    if fluctuations:
        noise = sp.sqrt(eta) * (sp.eye(2) - eta / 2 * LINEAR)
        assert (found.diffusion_expressions - noise).expand() == sp.zeros(2, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(state=x, loss=x**3, diffusion=1),
        dict(state=(x, y), loss=x**2 * y**2, diffusion=sp.eye(2)),
        dict(state=x, drift=-x, diffusion=x),
        dict(state=x, drift=k * x, diffusion=sp.sqrt(1 + x**2), values={k: 0.6}),
        dict(state=(x, y), loss=x**4, diffusion=sp.eye(2)),
        dict(state=(x, y), loss=x**4 + y**4 - 3 * x**2 * y**2, diffusion=sp.eye(2)),
        dict(state=x, drift=sp.sin(x), diffusion=1),
        dict(state=x, loss=sp.log(1 + x**2) / 4, diffusion=1),
    ],
    ids=["cubic", "valley", "geometric", "tail", "flat", "saddle", "periodic", "logarithm"],
)
def test_densities_that_are_none(arguments):
    equation = symbolic(**arguments)
    with pytest.warns(UserWarning, match="cannot be normalized: its integral is infinite") as record:
        density = equation.stationary_density()
    assert record[0].filename == __file__
    assert sp.simplify(equation.fokker_planck(density)) == 0


@pytest.mark.parametrize(
    "arguments",
    [dict(state=x, drift=-k * x, diffusion=1), dict(state=x, loss=sp.Function("L")(x), diffusion=1)],
    ids=["letters", "opaque"],
)
def test_densities_that_cannot_be_told(arguments):
    with pytest.warns(UserWarning, match="not known whether the stationary density .* give signs to letters"):
        symbolic(**arguments).stationary_density()


@pytest.mark.parametrize(
    "arguments",
    [
        dict(state=x, drift=x - x**3, diffusion=k),
        dict(state=x, drift=-POSITIVE * x, diffusion=1),
        dict(state=x, drift=-k * x, diffusion=1, values={k: 2.0}),
        dict(state=x, drift=k * x, diffusion=sp.sqrt(1 + x**2), values={k: 0.25}),
        dict(state=x, loss=sp.sqrt(1 + x**2), diffusion=1),
        dict(state=(x, y), drift=(-2 * x + 3 * y + 1, -x - y), diffusion=[[1, 0], [k, 2]]),
        dict(state=(x, y), loss=x**4 + y**4 + x**3 * y, diffusion=sp.eye(2)),
        dict(state=(x, y), loss=x**2 * y**2 + x**2 + y**2 / 2, diffusion=sp.eye(2)),
        dict(state=(x, y), loss=x**2 + sp.cosh(y), diffusion=sp.eye(2)),
    ],
)
def test_densities_that_there_are(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        symbolic(**arguments).stationary_density()


PARTLY = {
    "uppergamma": lambda t: TABLE["uppergamma"](t, 2.0),
    "lowergamma": lambda t: TABLE["lowergamma"](t, 2.0),
    "loggamma": TABLE["loggamma"],
    "Ci": TABLE["Ci"],
    "expint": lambda t: TABLE["expint"](2, t),
}


@pytest.mark.parametrize("name", some(PARTLY, ["loggamma", "Ci"]))
def test_gradients_of_no_value(name):
    """NaN where the value is, not 0; and they do not spoil those beside them."""
    points = jnp.array([-1.5, 0.7, 1.5])
    value, gradient = jax.vmap(jax.value_and_grad(PARTLY[name]))(points)
    forward = jax.jvp(PARTLY[name], (points,), (jnp.ones(3),))[1]
    assert np.isnan(value[0]) and np.isnan(gradient[0]) and np.isnan(forward[0])
    assert np.all(np.isfinite(gradient[1:])) and np.all(np.isfinite(value[1:]))
    np.testing.assert_allclose(gradient[1:], forward[1:], rtol=1e-9)


def test_the_order_as_a_symbol():
    """As a symbol it goes into our formula; as a number SymPy writes out terms that cancel."""
    order, t = sp.symbols("order t", real=True)
    ours = to_jax([sp.lowergamma(order, t)], (order, t))
    for a, at in ((10.0, 0.1), (2.5, 1e-6)):
        exact = float(mpmath.gammainc(a, 0, at))
        (value,) = ours(jnp.asarray(a), jnp.asarray(at))
        assert abs(value / exact - 1) < 1e-12
        (written_out,) = to_jax([sp.lowergamma(sp.nsimplify(a), t)], (t,))(jnp.asarray(at))
        assert abs(written_out / exact - 1) > 1e-5


UNKNOWN = {
    "zeta": (sp.zeta(x, sp.Rational(5, 2)), -2.5, r"zeta\(x, 5/2\)"),
    "loggamma": (1 + sp.loggamma(x), -1.5, r"loggamma\(x\)"),
    "Ci": (sp.exp(sp.Ci(x)) - x, -1.5, r"Ci\(x\)"),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "loggamma")) for n in UNKNOWN])
def test_what_has_no_value_is_named(name):
    drift, at, words = UNKNOWN[name]
    with pytest.warns(UserWarning, match=f"{words} has no real value that is known there; start elsewhere") as said:
        solve(symbolic(x, drift=drift), None, jnp.array([at]), steps=1, dt=0.1)
    assert "norm or a root" not in str(said[0].message)


def test_what_is_never_known_is_refused():
    for s, a in ((sp.Rational(-5, 2), x), (x, sp.Rational(-1, 2))):
        with pytest.raises(ValueError, match="`drift` must be traceable.*is known for s > -1 and a > 0, but s = "):
            symbolic(x, drift=sp.zeta(s, a))
    found = symbolic(x, drift=sp.zeta(x, sp.Rational(5, 2))).drift(0.0, jnp.array([-0.5]), None)[0]
    assert abs(found - float(sp.zeta(-0.5, 2.5))) < 1e-12


GAMMA = symbolic(x, drift=sp.gamma(x + sp.Rational(1, 2)), diffusion=x)


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64"])
def test_a_state_of_integers(dtype):
    with pytest.raises(TypeError, match=f"`state` must be an array of float32 or float64, but one of dtype {dtype}"):
        GAMMA.drift(0.0, np.array([3]).astype(dtype), None)


def test_no_state_of_floats():
    with pytest.raises(TypeError, match="`state` must be an array of float32 or float64, but .3. was given"):
        GAMMA.drift(0.0, [3], None)
    with pytest.raises(TypeError, match="`state` must be an array of float32 or float64"):
        GAMMA.diffusion(0.0, jnp.array([3]), None)
    with pytest.raises(TypeError, match="`params` must hold float32 or float64 arrays"):
        solve(GAMMA, None, jnp.array([3]), steps=1, dt=0.1)
    assert abs(GAMMA.drift(0.0, jnp.array([3.0]), None)[0] - 3.3233509704478426) < 1e-12


JUMPS = {
    "sign": (dict(drift=-sp.sign(x) * sp.exp(x)), 2, r"sign\(x\)"),
    "Heaviside": (dict(drift=-sp.Heaviside(2 * x)), 2, r"Heaviside\(2\*x\)"),
    "Abs": (dict(drift=-sp.Abs(x)), 3, r"Abs\(x\)"),
    "loss": (dict(loss=sp.sign(x) * x), 1, r"sign\(x\)"),
}


@pytest.mark.parametrize("name", JUMPS)
def test_what_was_differentiated_is_named(name):
    given, order, words = JUMPS[name]
    with pytest.raises(ValueError, match=f"'DiracDelta' is in none: it is in derivatives of {words}, which are needed"):
        modified(symbolic(x, learning_rate=eta, values={eta: 0.1}, **given), order)


def test_what_was_written_is_no_derivative():
    with pytest.raises(ValueError, match="but 'DiracDelta' is in none.$"):
        symbolic(x, drift=sp.DiracDelta(x))

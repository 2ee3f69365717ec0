"""Equations from SymPy: compiled as SymPy evaluates them, printed, modified, solved; their stationary densities."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from oracles import within

from dynamics import solve
from equations import modified, symbolic
from equations._symbolic.to_jax import to_jax

x, y, z, eta, k, s = sp.symbols("x y z eta k s")
L = sp.Function("L")
QUARTIC = x**4 / 4 + x**2 * y / 3 + x * y**2 + y**2 / 2 - x

ELEMENTARY = [
    x**2 - y / 3, sp.sqrt(x) / y**3, x ** sp.Rational(2, 3), 2**x, x**y, sp.exp(-x) * sp.sin(y), sp.log(x * y),
    sp.tanh(x) ** 3 / sp.cosh(y), sp.atan2(x, y), sp.sinc(x), sp.sec(x), sp.acosh(1 + x),
    sp.pi * x + sp.EulerGamma + sp.LambertW(1) * y,
    sp.erf(x), sp.erfc(y), sp.erfi(x), sp.erfinv(x / 3), sp.gamma(x), sp.loggamma(x), sp.digamma(y), sp.polygamma(2, x),
    sp.beta(x, y), sp.zeta(1 + x), sp.zeta(2, y), sp.besselj(0, x), sp.besselj(1, y), sp.besseli(1, x), sp.Ei(x),
    sp.lowergamma(2, x), sp.factorial(x),
]  # fmt: skip
BY_CASES = [
    sp.Max(x, y, 1), sp.Min(x, y), sp.Abs(x - y), sp.sign(x - y), sp.Heaviside(x - y), sp.Mod(x, y), sp.floor(3 * x),
    sp.KroneckerDelta(sp.floor(x), sp.floor(y)), sp.Piecewise((x**2, x < y), (sp.log(y), y > 5), (sp.sin(x), True)),
    sp.Piecewise((1, sp.And(x > 1, sp.Not(y < 1))), (y, True)), sp.Sum(x**z, (z, 0, 3)).doit(),
]  # fmt: skip
POINTS = [(0.7, 1.3), (1.9, 0.4), (2.5, 6.0)]


def exactly(expression, point):
    where = {symbol: sp.Rational(str(value)) for symbol, value in zip((x, y), point, strict=True)}
    return float(expression.subs(where).evalf(20))


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float64, 1e-12), (jnp.float32, 1e-5)])
def test_compiled_as_sympy_evaluates(dtype, tolerance):
    expressions = ELEMENTARY + BY_CASES
    arrays = [jnp.asarray(column, dtype) for column in zip(*POINTS, strict=True)]
    found = jax.jit(jax.vmap(to_jax(expressions, (x, y))))(*arrays)
    for expression, values in zip(expressions, found, strict=True):
        assert values.dtype == dtype
        exact, values = np.array([exactly(expression, point) for point in POINTS]), np.asarray(values, float)
        assert np.all(np.abs(values - exact) <= tolerance * np.maximum(1, np.abs(exact))), expression


@pytest.mark.slow
def test_derivatives_of_what_is_compiled():
    """By JAX, of the compiled expressions; by SymPy, compiled. Where SymPy has none (zeta in its order), JAX may fail."""
    smooth = [e for e in ELEMENTARY if not e.has(sp.zeta, sp.lowergamma, sp.Ei)]
    point = [jnp.asarray(value) for value in POINTS[0]]
    by_jax = jax.jit(jax.jacfwd(to_jax(smooth, (x, y))))(*point)
    by_sympy = jax.jit(to_jax([e.diff(x) for e in smooth], (x, y)))(*point)
    np.testing.assert_allclose(by_jax, by_sympy, rtol=1e-11, atol=1e-12)


@pytest.mark.slow
def test_bessel_functions_out_of_reach_are_not_numbers():
    far = to_jax([sp.besselj(0, x)], (x,))
    assert jnp.isfinite(far(jnp.asarray(300.0))[0]) and jnp.isnan(far(jnp.asarray(500.0))[0])


WRONG = [
    (dict(), ValueError, "`drift` or `loss` must be given, one of the two, but none"),
    (dict(drift=-x, loss=x**2), ValueError, "one of the two, but both"),
    (dict(state=(), drift=()), TypeError, "`state` must be a SymPy symbol"),
    (dict(state="x", drift=-x), TypeError, "`state` must be a SymPy symbol"),
    (dict(state=(x, x), drift=(x, x)), ValueError, "`state` must hold each symbol once"),
    (dict(drift="-x"), TypeError, "`drift` must hold scalar SymPy expressions"),
    (dict(drift=(-x, -x)), ValueError, "`drift` must hold an expression for each of 1 state symbols, but 2"),
    (dict(drift=sp.Matrix([x]) * sp.I), ValueError, "`drift` must be real for real symbols, but I"),
    (dict(drift=x > 0), TypeError, "`drift` must hold scalar"),
    (dict(drift=sp.sqrt(-2) * x), ValueError, "`drift` must be real"),
    (dict(drift=sp.LambertW(x)), ValueError, "`drift` must be made of functions .* but 'LambertW' is in none"),
    (dict(loss=sp.hyper((1,), (2,), x)), ValueError, "`loss` must be made of functions .* but 'hyper'"),
    (dict(loss=sp.Integral(sp.exp(-(z**2) * x), (z, 0, 1))), ValueError, "'Integral' is in none"),
    (dict(drift=-x, diffusion=sp.airyai(x)), ValueError, "`diffusion` must be made of functions .* but 'airyai'"),
    (dict(drift=sp.besselj(sp.Rational(1, 3), x)), ValueError, "`drift` must be traceable .* order of besselj"),
    (dict(drift=-k * x, values={}), ValueError, "`values` must give a number for every symbol, but 'k' has none"),
    (dict(drift=-x, learning_rate=eta, values={}), ValueError, "`values` .* 'eta' has none"),
    (dict(drift=-x, learning_rate=eta, values={eta: -1.0}), ValueError, r"`values\[eta\]` must be a positive"),
    (dict(drift=-k * x, values={k: "1"}), TypeError, r"`values\[k\]` must be a finite number"),
    (dict(drift=-k * x, values={"k": 1.0}), TypeError, "`values` must be a dict from SymPy symbols"),
    (dict(drift=-x, learning_rate=0.1), TypeError, "`learning_rate` must be a SymPy symbol or None"),
    (dict(drift=-x, learning_rate=x), ValueError, "`learning_rate` must be none of the state symbols"),
    (dict(drift=-x, diffusion=[[1], [1]]), ValueError, "`diffusion` must be a matrix with a row for each of 1"),
    (dict(drift=-x, diffusion="1"), TypeError, "`diffusion` must hold scalar"),
    (dict(loss=L(x), functions={}), ValueError, "`loss` must be made of functions .* but 'L'"),
    (dict(loss=L(x), functions={"L": lambda a, b: a}), ValueError, "`functions` must hold functions of as many"),
    (dict(loss=L(x), functions={"L": lambda a: a[None]}), ValueError, "`functions` must hold .* real scalar, but 'L'"),
    (dict(loss=L(x), functions=[abs]), TypeError, "`functions` must be a dict"),
]


@pytest.mark.parametrize("arguments, kind, message", WRONG, ids=range(len(WRONG)))
def test_refused_when_built(arguments, kind, message):
    with pytest.raises(kind, match=message):
        symbolic(**{"state": x, **arguments})


OU = symbolic(x, drift=-k * x, diffusion=s * sp.sqrt(eta), learning_rate=eta, values={eta: 0.1, k: 1.5, s: 0.5})
LETTERS = symbolic((x, y), loss=L(x, y), learning_rate=eta)


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: LETTERS.modified(7), ValueError, "`order` must be an integer of at least 1 and at most 6, but 7"),
        (lambda: OU.modified(3), ValueError, "`order` must be at most 2 for an equation with noise"),
        (lambda: LETTERS.modified(2, fluctuations=True), ValueError, "`fluctuations` must be False unless"),
        (lambda: LETTERS.modified(2).modified(2), ValueError, "`equation` must not be modified yet"),
        (lambda: symbolic(x, drift=-x).modified(2), ValueError, "`learning_rate` must be a symbol for a modified"),
        (lambda: symbolic(x, drift=-x, diffusion=1, learning_rate=eta).modified(), ValueError, r"be O\(sqrt\(eta\)\)"),
        (lambda: symbolic(x, loss=sp.Max(x, 0), learning_rate=eta).modified(3), ValueError, "'DiracDelta' is in none"),
        (
            lambda: solve(LETTERS, None, jnp.ones(2), steps=1),
            ValueError,
            "`values` must give a number for 'eta' in a run",
        ),
        (
            lambda: solve(symbolic(x, loss=L(x)), None, jnp.ones(1), steps=1, dt=1.0),
            ValueError,
            "`functions` must hold",
        ),
        (lambda: solve(OU, None, jnp.ones(2), steps=1), ValueError, r"`params` must be an array of shape \(1,\)"),
        (lambda: solve(OU, 1.0, jnp.ones(1), steps=1), TypeError, "`objective` must be None for a symbolic equation"),
        (lambda: symbolic(sp.symbols("a:4"), drift=(1,) * 4).fokker_planck(), ValueError, "at most 3 symbols, but 4"),
        (lambda: symbolic(x, drift=-x).stationary_density(), ValueError, "has no noise"),
        (lambda: symbolic(x, drift=x, diffusion=1).stationary_density(), ValueError, "`drift` must be stable"),
        (lambda: symbolic(x, drift=0, diffusion=1).stationary_density(), ValueError, "`drift` must be stable"),
        (lambda: symbolic((x, y), drift=(-x, -y), diffusion=[[1], [0]]).stationary_density(), ValueError, "reach all"),
        (lambda: symbolic((x, y), drift=(y, -(x**3)), diffusion=sp.eye(2)).stationary_density(), ValueError, "`drift`"),
    ],
)
def test_refused_later(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_latex():
    theta = sp.Symbol("theta")
    one = symbolic(theta, loss=L(theta), diffusion=s * sp.sqrt(eta), learning_rate=eta).modified(2)
    assert one.latex() == (
        r"\mathrm{d} \theta = \left(- \partial_{\theta} L - \frac{\eta \partial_{\theta} L \partial_{\theta}^{2} L}{2}"
        r"\right) \, \mathrm{d}t + \sqrt{\eta} s \, \mathrm{d}W"
    )
    cube = symbolic(theta, loss=L(theta), learning_rate=eta).modified(3).latex()
    assert r"\frac{\eta^{2} \left(\partial_{\theta} L \partial_{\theta}^{3} L + 4 \left(\partial_{\theta}^{2} L" in cube
    assert LETTERS.modified(2).latex() == (
        r"\mathrm{d} \begin{pmatrix}x\\y\end{pmatrix} = \begin{pmatrix}- \partial_{x} L - \frac{\eta \left(\partial_{x} L "
        r"\partial_{x}^{2} L + \partial_{y} L \partial_{x} \partial_{y} L\right)}{2}\\- \partial_{y} L - \frac{\eta "
        r"\left(\partial_{x} L \partial_{x} \partial_{y} L + \partial_{y} L \partial_{y}^{2} L\right)}{2}\end{pmatrix} \, "
        r"\mathrm{d}t"
    )
    pair = symbolic((x, y), drift=(-x, L(x, y) ** 2), diffusion=[[1, 0], [x, s]])
    assert pair.latex() == (
        r"\mathrm{d} \begin{pmatrix}x\\y\end{pmatrix} = \begin{pmatrix}- x\\L^{2}\end{pmatrix} \, \mathrm{d}t + "
        r"\begin{pmatrix}1 & 0\\x & s\end{pmatrix} \, \mathrm{d}W"
    )


def quartic(rate=0.1, **more):
    return symbolic((x, y), loss=QUARTIC, learning_rate=eta, values={eta: rate}, **more)


@eqx.filter_jit
def drift(equation, state):
    return equation.drift(0.0, state, None)


def loss(point):
    a, b = point
    return a**4 / 4 + a**2 * b / 3 + a * b**2 + b**2 / 2 - a


def by_hand(h, order, point, half=1 / 2, twelfth=1 / 12):
    f = lambda y: -jax.grad(loss)(y)  # noqa: E731
    d = lambda g, u: lambda y: jax.jvp(g, (y,), (u(y),))[1]  # noqa: E731
    first = d(f, f)
    # The derivative of f'f along f is f''(f, f) + f'f'f.
    third = lambda y: d(f, first)(y) / 3 + (d(first, f)(y) - d(f, first)(y)) * twelfth  # noqa: E731
    return f(point) - half * h * first(point) + (h**2 * third(point) if order == 3 else 0)


@pytest.mark.slow
@pytest.mark.parametrize("order", [2, 3])
def test_modified_as_by_derivatives(order):
    point, rate = jnp.array([0.8, -0.6]), 0.1
    found = drift(quartic(rate).modified(order), point)
    np.testing.assert_allclose(found, by_hand(rate, order, point), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(drift(modified(quartic(rate), order=order), point), found, rtol=1e-14)
    mutant = dict(half=1 / 3) if order == 2 else dict(twelfth=0.0)
    assert jnp.max(jnp.abs(found - by_hand(rate, order, point, **mutant))) > 1e-4


@pytest.mark.slow
def test_opaque_loss_as_a_given_one():
    """Derivatives of the function by JAX, to the fourth, against SymPy's of the expression."""
    opaque = symbolic(
        (x, y), loss=L(x, y), learning_rate=eta, values={eta: 0.1}, functions={"L": lambda a, b: loss((a, b))}
    )
    point = jnp.array([0.8, -0.6])
    for order in (1, 3):
        np.testing.assert_allclose(
            drift(opaque.modified(order), point), drift(quartic().modified(order), point), rtol=1e-12
        )
    shifted = symbolic(x, drift=L(2 * x, x).diff(x), values={}, functions={"L": lambda a, b: jnp.sin(a) * b})
    value = jnp.array([0.3])
    np.testing.assert_allclose(drift(shifted, value), 2 * jnp.cos(0.6) * value + jnp.sin(2 * value), rtol=1e-14)


@eqx.filter_jit
def flow_over_a_step(equation, state):
    """By 32 steps of the classical Runge-Kutta method, exact to rounding here."""
    h = equation.learning_rate / 32

    def step(_, y):
        a = equation.drift(0.0, y, None)
        b = equation.drift(0.0, y + h / 2 * a, None)
        c = equation.drift(0.0, y + h / 2 * b, None)
        return y + h / 6 * (a + 2 * b + 2 * c + equation.drift(0.0, y + h * c, None))

    return jax.lax.fori_loop(0, 32, step, state)


@pytest.mark.slow
def test_order_of_the_remainder():
    """The flow of order n over a step differs from the step by O(h^(n+1)), n = 1 to 6."""
    start, rates = jnp.array([0.8, -0.6]), (0.04, 0.02)
    for order in range(1, 7):
        defects = []
        for rate in rates:
            end = flow_over_a_step(quartic(rate).modified(order), start)
            defects.append(float(jnp.linalg.norm(end - start + rate * jax.grad(loss)(start))))
        assert defects[-1] > 1e-11, "above rounding"
        slope = np.log2(defects[0] / defects[1])
        print(f"order {order}: defects {defects[0]:.2e} {defects[1]:.2e}, slope {slope:.3f}")
        assert abs(slope - order - 1) < 0.1


def test_fluctuations_on_a_quadratic():
    """The stationary variance of the discrete process, eta sigma^2 / (2 k (1 - eta k/2)), to relative O(eta^2)."""
    exact = eta * s**2 / (2 * k * (1 - eta * k / 2))
    rest = {}
    for name, equation in (("first", OU), ("drift", OU.modified(2)), ("both", OU.modified(2, fluctuations=True))):
        density = equation.stationary_density()
        variance = 1 / (-2 * sp.Poly(sp.log(density).expand(force=True), x).coeff_monomial(x**2))
        rest[name] = sp.series(sp.simplify(variance / exact) - 1, eta, 0, 3).removeO().coeff(eta, 1)
    assert sp.simplify(rest["both"]) == 0
    assert sp.simplify(rest["first"] + k / 2) == 0 and sp.simplify(rest["drift"] + k) == 0


def test_fluctuations_of_a_root_that_is_not_symmetric():
    """Against (1 - (eta/2) b') sigma - (eta/2) b . grad sigma by jvp, column by column."""
    x, y, eta = sp.symbols("x y eta")
    root = sp.sqrt(eta) * sp.Matrix([[1 + x**2, x * y], [y, 2 * x]])
    equation = symbolic((x, y), drift=(-x * y, y - x**2), diffusion=root, learning_rate=eta, values={eta: 0.1})
    found = equation.modified(2, fluctuations=True)
    point = jnp.asarray([0.3, -0.7])

    def drift(z):
        return equation.drift(jnp.zeros(()), z, None)

    def column(z, k):
        return equation.diffusion(jnp.zeros(()), z, None).as_matrix()[:, k]

    for k in (0, 1):
        response = jax.jvp(drift, (point,), (column(point, k),))[1]
        along = jax.jvp(lambda z, k=k: column(z, k), (point,), (drift(point),))[1]
        wanted = column(point, k) - 0.05 * (response + along)
        np.testing.assert_allclose(
            found.diffusion(jnp.zeros(()), point, None).as_matrix()[:, k], wanted, rtol=1e-12, atol=1e-14
        )


@pytest.mark.slow
def test_fluctuations_of_multiplicative_noise():
    """The diffusion is (1 - (h/2) J) sigma(y - (h/2) b) up to O(h^2), checked against the shifted one."""
    b, sigma = -sp.sin(x) - x**2, sp.sqrt(eta) * (1 + x**2)
    found = symbolic(x, drift=b, diffusion=sigma, learning_rate=eta).modified(2, fluctuations=True)
    shifted = (1 - eta / 2 * b.diff(x)) * sigma.subs(x, x - eta / 2 * b)
    difference = sp.series((shifted - found.diffusion_expressions[0]) / sp.sqrt(eta), eta, 0, 2).removeO()
    assert sp.simplify(difference) == 0
    assert sp.simplify(found.drift_expressions[0] - b + eta / 2 * b.diff(x) * b) == 0


@pytest.mark.slow
def test_solve_ornstein_uhlenbeck(key):
    rate = 1.5 * (1 + 0.1 * 1.5 / 2)  # of the modified equation
    flow = solve(OU.modified(2), None, jnp.array([1.0]), steps=20, key=key, paths=4000)
    variance = 0.1 * 0.25 * (1 - np.exp(-2 * rate * 2)) / (2 * rate)
    assert within(flow.final, np.array([np.exp(-rate * 2)]), np.array([[variance]])) < 1


@pytest.mark.slow
def test_solve_multiplicative_noise(key):
    """Geometric Brownian motion in two dimensions, one Brownian motion in common."""
    equation = symbolic((x, y), drift=(-x, -y / 2), diffusion=sp.Matrix([x / 2, y / 4]))
    final = solve(equation, None, jnp.array([1.0, 2.0]), steps=40, dt=0.025, key=key, paths=8000).final
    mean = np.exp([-1.0, -0.5]) * np.array([1.0, 2.0])
    noise = np.array([0.5, 0.25])
    covariance = np.outer(mean, mean) * (np.exp(np.outer(noise, noise)) - 1)
    assert within(final, mean, covariance) < 1


def test_solve_a_nonlinear_drift():
    flow = solve(symbolic(x, drift=x - x**3), None, jnp.array([0.2]), steps=60, dt=0.05)
    exact = 0.2 * np.exp(3.0) / np.sqrt(1 + 0.04 * (np.exp(6.0) - 1))
    np.testing.assert_allclose(flow.final[0, 0], exact, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:.* stationary density")  # of letters, and one that has no integral
@pytest.mark.parametrize(
    "arguments",
    [
        dict(state=x, drift=x - x**3, diffusion=s),
        dict(state=x, drift=-k * x, diffusion=s * sp.sqrt(1 + x**2)),
        pytest.param(dict(state=x, drift=-sp.tanh(x) - x, diffusion=sp.Matrix([[1, x]])), marks=pytest.mark.slow),
        dict(state=x, loss=L(x), diffusion=s),
        pytest.param(
            dict(state=(x, y), drift=(-2 * x + 3 * y + 1, -x - y), diffusion=[[1, 0], [s, 2]]), marks=pytest.mark.slow
        ),
        dict(state=(x, y), loss=QUARTIC, diffusion=s * sp.eye(2)),
        dict(state=(x, y), drift=(-x - sp.exp(x) * y, -sp.exp(x) - y**3), diffusion=sp.eye(2)),
        dict(state=(x, y, z), drift=(-x + y, -x - y + z, -2 * z), diffusion=sp.eye(3)),
    ],
)
def test_stationary_density(arguments):
    equation = symbolic(**arguments)
    density = equation.stationary_density()
    assert sp.simplify(equation.fokker_planck(density) / density) == 0
    mutant = density**2  # half the temperature
    assert sp.simplify(equation.fokker_planck(mutant) / mutant) != 0


@pytest.mark.slow
def test_gaussian_densities_are_normalized():
    density = OU.stationary_density().subs({eta: 0.1, k: 1.5, s: 0.5})
    assert abs(float(sp.Integral(density, (x, -2, 2)).evalf()) - 1) < 1e-12
    skew = symbolic((x, y), drift=(-x + y, -x - 2 * y), diffusion=[[1, 0], [0, 2]]).stationary_density()
    at = to_jax([skew], (x, y))
    grid = jnp.linspace(-12.0, 12.0, 481)
    total = jnp.sum(at(grid[:, None], grid[None])[0]) * (grid[1] - grid[0]) ** 2
    assert abs(total - 1) < 1e-12


@pytest.mark.slow
def test_modified_loss_is_the_potential():
    """At order 2 there is one, with its Gibbs density; at order 3 the field has a curl."""
    noisy = quartic(diffusion=sp.sqrt(eta) * sp.eye(2))
    second = noisy.modified(2)
    assert sp.simplify(second.loss_expression.diff(x) + second.drift_expressions[0]) == 0
    with pytest.warns(UserWarning, match="not known whether the stationary density"):  # eta
        density = second.stationary_density()
    assert sp.simplify(second.fokker_planck(density) / density) == 0
    third = quartic().modified(3)
    curl = sp.expand(third.drift_expressions[0].diff(y) - third.drift_expressions[1].diff(x))
    assert third.loss_expression is None and curl != 0 and curl.coeff(eta, 1) == 0


@pytest.mark.slow
def test_new_values_do_not_recompile():
    traced = []
    functions = {"L": lambda a: traced.append(a) or jnp.cos(a)}

    def run(rate, factor):
        equation = symbolic(x, loss=k * L(x), learning_rate=eta, values={eta: rate, k: factor}, functions=functions)
        before = len(traced)
        final = solve(equation.modified(1), None, jnp.array([1.0]), steps=4).final
        return len(traced) - before, float(final[0, 0])

    (first, a), (second, b), (third, c) = run(0.1, 1.0), run(0.2, 1.0), run(0.1, 3)
    assert first > 0 and second == third == 0
    assert len({a, b, c}) == 3


@pytest.mark.slow
def test_float32_stays_and_transformations_work(key):
    noise = sp.sqrt(eta) * sp.Matrix([[1, x], [0, sp.Rational(1, 3)]])
    noisy = symbolic((x, y), loss=x**2 + y**2 * x, diffusion=noise, learning_rate=eta, values={eta: 0.1})
    noisy = noisy.modified(2, fluctuations=True)
    start = jnp.array([0.5, 0.5], jnp.float32)
    assert "f64[2]" not in str(jax.make_jaxpr(lambda u: noisy.drift(0.0, u, None))(start))
    assert noisy.drift(0.0, start, None).dtype == noisy.diffusion(0.0, start, None).as_matrix().dtype == jnp.float32
    assert solve(noisy, None, start, steps=3, key=key, paths=2).final.dtype == jnp.float32
    many = jax.vmap(lambda u: drift(noisy, u))(jnp.ones((5, 2)))
    assert many.shape == (5, 2)
    jacobian = jax.jacrev(lambda u: drift(quartic(), u))(jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(jacobian, -jax.hessian(loss)(jnp.array([0.5, 0.5])), rtol=1e-12)
    sensitivity = eqx.filter_grad(lambda e: drift(e, jnp.array([0.5, 0.5]))[0])(quartic().modified(2)).learning_rate
    np.testing.assert_allclose(
        sensitivity, (by_hand(1.0, 2, jnp.array([0.5, 0.5])) + jax.grad(loss)(jnp.array([0.5, 0.5])))[0]
    )


@pytest.mark.slow
def test_sympy_is_not_imported_with_the_package():
    program = "import sys, equations; assert 'sympy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0

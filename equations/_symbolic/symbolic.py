"""Equations from SymPy expressions: printed, modified, solved."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array

from .._base import AbstractDynamics
from .._checks.lineage import inside
from .._checks.once import is_traced, warn
from .._series import Series
from .._splitting import Splitting
from .checks import (
    check_expression,
    check_floats,
    check_functions,
    check_matrix,
    check_numbers,
    check_state,
    check_symbol,
    check_trace,
    check_vector,
    opaque,
)
from .density import fokker_planck, stationary_density
from .latex import equation_latex
from .series import check_order, corrected_diffusion, corrected_drift, gradient
from .to_jax import to_jax


def symbolic(
    state: Any,
    *,
    drift: Any = None,
    loss: Any = None,
    diffusion: Any = None,
    learning_rate: Any = None,
    values: dict | None = None,
    functions: dict | None = None,
) -> "Symbolic":
    r"""A dynamics from SymPy expressions, dx = drift dt + diffusion dW (Itô), or with drift = -grad loss.

        x, y, eta = sympy.symbols("x y eta")
        flow = symbolic((x, y), loss=x**2 * y**2 + y**2 / 2, learning_rate=eta, values={eta: 0.1})
        flow.modified(3).latex()
        solve(flow.modified(3), None, jnp.array([1.0, 0.5]), steps=100)

    **Arguments:**

    - `state`: a symbol or a tuple of d symbols. They, and all other symbols, are real numbers.
    - `drift`: an expression for each of them. Either this or `loss`.
    - `loss`: a scalar expression, or an opaque `sympy.Function("L")(x, y)`.
    - `diffusion`: a d x m matrix of expressions, the whole factor in front of dW: for noise of a minibatch it contains
        sqrt(learning_rate). A scalar for d = m = 1; None: no noise.
    - `learning_rate`: the symbol of the time of a training step, the small quantity of `modified`.
    - `values`: a dict from all other symbols, the learning rate's too, to numbers. These are traced: new ones do not
        recompile. None: letters only, to derive and to print.
    - `functions`: a dict from the names of opaque functions to JAX functions of as many scalars, that return a scalar.
        Derivatives of these are taken by JAX. None: to derive and to print. An entry replaces a function of SymPy's.

    **Returns:** a `Symbolic`. Its state is an array of shape `(d,)`, float32 or float64.

    Special functions are NaN, and so are the gradients of incomplete gamma functions, E_n, Ci and log gamma, where no real
    value is known: Bessel functions of order n beyond n + |x| = 400. SymPy writes out incomplete gamma functions of a
    whole or half-whole order, by terms that cancel where x is small beside it; give the order as a symbol, with its value.

    **Raises:** TypeError or ValueError, naming the argument, before anything is compiled; also for a function that neither
    JAX nor `functions` has, and for a symbol without a value.
    """
    state = check_state(state)
    if (drift is None) == (loss is None):
        given = "none of them" if drift is None else "both"
        raise ValueError(f"Argument `drift` or `loss` must be given, one of the two, but {given} was given.")
    if loss is not None:
        loss = check_expression("loss", loss)
        drift = gradient(-loss, state)
    else:
        drift = check_vector("drift", drift, len(state))
    diffusion = None if diffusion is None else check_matrix("diffusion", diffusion, len(state))
    rate = check_symbol("learning_rate", learning_rate)
    if rate in state:
        raise ValueError(f"Argument `learning_rate` must be none of the state symbols, but {rate} was given.")
    symbols = set().union(*(e.free_symbols for e in (*drift, *(diffusion or ())))) - set(state)
    values = check_numbers(values, symbols | ({rate} - {None}), rate)
    return _build(
        state,
        drift,
        (drift if loss is None else (loss,), tuple(diffusion or ())),
        diffusion,
        rate=rate,
        values=values,
        functions=functions,
        loss=loss,
        name="drift" if loss is None else "loss",
        order=1,
    )


def _build(state, drift, written, diffusion, *, rate, values, functions, loss, name, order) -> "Symbolic":
    """The equation, with its functions checked; `written` are the expressions of drift and diffusion that were given."""
    for argument, expressions, given in zip((name, "diffusion"), (drift, tuple(diffusion or ())), written, strict=True):
        check_functions(argument, expressions, functions, given)
        check_trace(argument, expressions, functions)
    return Symbolic(
        state_symbols=state,
        drift_expressions=drift,
        diffusion_expressions=diffusion,
        learning_rate_symbol=rate,
        loss_expression=loss,
        order=order,
        parameters=tuple(values),
        values=tuple(values.values()),
        functions=functions,
    )


class SymbolicSplitting(Splitting):
    """One evaluation of a noise that does not depend on the state."""

    @property
    def kicks(self):
        noise = self.dynamics.diffusion_expressions
        return 1 if noise is not None and not noise.free_symbols & set(self.dynamics.state_symbols) else 2


class Symbolic(AbstractDynamics):
    """What `symbolic` returns: a dynamics that knows its own expressions, and computes them in JAX.

    **Attributes:**

    - `state_symbols`, `drift_expressions`: SymPy symbols and the expressions of their drifts.
    - `diffusion_expressions`: the SymPy matrix in front of dW, or None.
    - `learning_rate_symbol`, `learning_rate`: its symbol and its value, or None.
    - `loss_expression`: where the drift is the negative gradient of one, or None.
    - `order`: of the modified equation; 1 for what `symbolic` gave.
    - `parameters`, `values`: all other symbols and their values, the learning rate among them.
    - `functions`: the opaque functions by name.
    """

    state_symbols: tuple = eqx.field(static=True)
    drift_expressions: tuple = eqx.field(static=True)
    diffusion_expressions: Any = eqx.field(static=True)
    learning_rate_symbol: Any = eqx.field(static=True)
    loss_expression: Any = eqx.field(static=True)
    order: int = eqx.field(static=True)
    parameters: tuple = eqx.field(static=True)
    values: tuple
    functions: dict | None

    @property
    def learning_rate(self) -> Array | None:
        if self.learning_rate_symbol not in self.parameters:
            return None
        return self.values[self.parameters.index(self.learning_rate_symbol)]

    def splitting(self):
        return SymbolicSplitting(self)

    def series(self):
        return Series(self.order, continued=self.modified)

    def drift(self, t, state, signal):
        return jnp.stack(self._evaluate(self.drift_expressions, state))

    def diffusion(self, t, state, signal):
        if self.diffusion_expressions is None:
            return None
        entries = jnp.stack(self._evaluate(tuple(self.diffusion_expressions), state))
        return lx.MatrixLinearOperator(entries.reshape(self.diffusion_expressions.shape))

    def check(self, params, signal):
        shape = (len(self.state_symbols),)
        if not eqx.is_array(params) or params.shape != shape:
            raise ValueError(f"Argument `params` must be an array of shape {shape}, but {params!r} was given.")
        if signal is not None:
            raise TypeError(f"Argument `objective` must be None for a symbolic equation, but {signal!r} was given.")
        expressions = (*self.drift_expressions, *(self.diffusion_expressions or ()))
        symbols = set().union({self.learning_rate_symbol} - {None}, *(e.free_symbols for e in expressions))
        letters = sorted(map(str, symbols - set(self.state_symbols) - set(self.parameters)))
        if letters:
            raise ValueError(f"Argument `values` must give a number for {letters[0]!r} in a run, but it has none.")
        missing = opaque(expressions) if self.functions is None else []
        if missing:
            raise ValueError(f"Argument `functions` must hold {missing[0]!r} in a run, but None was given.")

    def latex(self) -> str:
        """The equation in LaTeX, with opaque derivatives as `\\partial_{x} L`."""
        return equation_latex(
            self.state_symbols, self.drift_expressions, self.diffusion_expressions, self.learning_rate_symbol
        )

    def modified(self, order: int = 2, fluctuations: bool = False) -> "Symbolic":
        r"""The modified equation of the Euler step x + h drift(x), with h the learning rate, by SymPy.

        Without noise, h^(j-1) f_j from the logarithm of the step up to j = `order`,

            f - (h/2) f'f + h^2 [f'f'f/3 + f''(f, f)/12] - ...

        (Hairer, Lubich and Wanner 2006, Geometric Numerical Integration, chapter IX); for f = -grad L at order 2 minus the
        gradient of L + (h/4)|grad L|^2 (Barrett and Dherin 2021, ICLR). With noise, for the step
        x + h b(x) + sqrt(h) sigma(x) xi where sigma = O(sqrt(h)), the drift b - (h/2) b'b of weak order 2 (Li, Tai and E
        2019, JMLR 20(40)), and with `fluctuations` the diffusion sigma - (h/2)(b'sigma + sigma'b), which makes Var/h right
        to O(h^2) (derived).

        **Arguments:** `order`, 1 to 6, with noise at most 2; `fluctuations`, for order 2 with noise.

        **Raises:** TypeError or ValueError, naming the argument.
        """
        order, fluctuations = check_order(self, order, fluctuations)
        if order == 1:
            return self
        drift, noise, rate = self.drift_expressions, self.diffusion_expressions, self.learning_rate_symbol
        loss = self.loss_expression
        if loss is not None:
            # To this order there is a modified loss; beyond, the field is no gradient.
            loss = loss + rate / 4 * sum(component**2 for component in drift) if order == 2 else None
        return _build(
            self.state_symbols,
            corrected_drift(drift, self.state_symbols, rate, order),
            (drift if self.loss_expression is None else (self.loss_expression,), (*tuple(noise or ()), *drift)),
            corrected_diffusion(drift, noise, self.state_symbols, rate) if fluctuations else noise,
            rate=rate,
            values=dict(zip(self.parameters, self.values, strict=True)),
            functions=self.functions,
            loss=loss,
            name="drift" if self.loss_expression is None else "loss",
            order=order,
        )

    def fokker_planck(self, density: Any = None):
        """L* p = -sum_i d_i (b_i p) + (1/2) sum_ij d_i d_j ((sigma sigma^T)_ij p), a SymPy expression.

        **Arguments:** `density`: an expression; None: p(x, y, ...). For at most three state symbols.
        """
        import sympy

        if len(self.state_symbols) > 3:
            raise ValueError(f"Argument `state` must have at most 3 symbols, but {len(self.state_symbols)} were given.")
        if density is None:
            density = sympy.Function("p")(*self.state_symbols)
        density = check_expression("density", density)
        return fokker_planck(self.state_symbols, self.drift_expressions, self.diffusion_expressions, density)

    def stationary_density(self):
        """A stationary density p with no current at infinity, L* p = 0, a SymPy expression.

        - linear drift, constant diffusion: the Gaussian, normalized;
        - drift -grad U, sigma sigma^T = s 1 constant: exp(-2U/s), not normalized;
        - one dimension, D = sigma^2: exp(int 2b/D dx)/D, not normalized.

        **Raises:** ValueError for any other equation, and where a linear drift is not stable. Warns where the integral of p
        is infinite, so that it is no density (drift x - x^3 has one, drift x^2 has none), and where that cannot be told:
        for opaque functions, for letters without signs, and where it is too hard. A letter has a sign by
        `sympy.Symbol("k", positive=True)` or by its value.
        """
        known = {s: v for s, v in zip(self.parameters, self.values, strict=True) if not is_traced(v)}
        density, finite = stationary_density(
            self.state_symbols, self.drift_expressions, self.diffusion_expressions, self.loss_expression, known
        )
        if finite is None:
            warn(
                f"It is not known whether the stationary density {density} can be normalized: give signs to letters, by "
                'sympy.Symbol("k", positive=True) or by `values`, and check opaque functions yourself.'
            )
        elif not finite:
            warn(
                f"The stationary density {density} cannot be normalized: its integral is infinite, and the equation has no "
                "stationary state of this form."
            )
        return density

    def _evaluate(self, expressions: tuple, state: Array) -> tuple[Array, ...]:
        check_floats(state)
        values = [jnp.asarray(value).astype(state.dtype) for value in self.values]
        return to_jax(expressions, (*self.state_symbols, *self.parameters), self.functions)(*state, *values)

    def undefined_at(self, state: Array) -> str | None:
        """The smallest call of a function that is not finite at a state: none where what is not is 1/x."""
        import sympy

        expressions = (*self.drift_expressions, *(self.diffusion_expressions or ()))
        calls = {node for e in expressions for node in e.atoms(sympy.Function)}
        calls = [c for c in calls if c.free_symbols <= {*self.state_symbols, *self.parameters}]
        for call in sorted(calls, key=lambda call: (call.count_ops(), str(call))):
            if not jnp.all(jnp.isfinite(self._evaluate((call,), state)[0])):
                return str(call)
        return None


def undefined_at(dynamics: Any, state: Any) -> str | None:
    """The same of the symbolic equation in a dynamics, None where there is none."""
    while dynamics is not None and not isinstance(dynamics, Symbolic):
        dynamics = inside(dynamics)
    return None if dynamics is None else dynamics.undefined_at(state)

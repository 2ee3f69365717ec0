"""Modified equations: formulas known from papers, orders measured against the algorithms, and the mutants they reject."""

import dataclasses
import itertools
from typing import NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
import sympy
from changed import changed
from jax.flatten_util import ravel_pytree
from marks import some
from oracles import LinearRegression, mlp

from dynamics import solve, train
from dynamics._arguments.checks import dynamic_numbers
from equations import (
    SGD,
    AbstractDynamics,
    AbstractEquation,
    Adam,
    Modified,
    Momentum,
    Objective,
    SignSGD,
    decayed,
    from_optax,
    modified,
    symbolic,
)
from equations._modified.increment import Increment
from equations._modified.series import by_derivatives, by_map
from equations._modified.slow_manifold import SlowManifold
from equations._tree import add_scaled
from equations.internal import split
from validation import orders

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
Y = np.sin(2 * X[:, 0]) * X[:, 1]
START = np.random.default_rng(3)
PARAMS = {
    "W": jnp.asarray(0.7 * START.normal(size=(5, 3))),
    "b": jnp.asarray(0.3 * START.normal(size=5)),
    "v": jnp.asarray(0.5 * START.normal(size=5)),
}


def loss(params, example):
    """A tanh network of 25 parameters."""
    x, y = example
    return 0.5 * (jnp.dot(params["v"], jnp.tanh(params["W"] @ x + params["b"])) - y) ** 2


OBJECTIVE = Objective(loss, (X, Y))
ZERO = jnp.zeros(())


def flat(tree):
    return ravel_pytree(tree)[0]


WEIGHTS = {"w": flat}
UNRAVEL = ravel_pytree(PARAMS)[1]
THETA = flat(PARAMS)


def value(theta):
    return OBJECTIVE.value(UNRAVEL(theta))


@jax.jit
def derivatives(theta):
    """The gradient, the Hessian, and T[g, g], the third derivative twice along the gradient."""
    gradient = jax.grad(value)(theta)
    third = jax.jvp(lambda y: jax.jvp(jax.grad(value), (y,), (gradient,))[1], (theta,), (gradient,))[1]
    return gradient, jax.hessian(value)(theta), third


GRADIENT, HESSIAN, TENSOR = derivatives(THETA)
SHARPNESS = float(np.linalg.eigvalsh(HESSIAN)[-1])


def drift(equation, objective=OBJECTIVE, params=PARAMS):
    """The drift of the parameters at their start, flat; compiled once for all numbers of an equation."""
    return _drift(dynamic_numbers(equation), objective, params)


@eqx.filter_jit
def _drift(equation, objective, params):
    state = equation.init(params)
    return flat(equation.params(equation.drift(ZERO, state, objective)))


def slopes(errors, rates):
    return np.diff(np.log(errors)) / np.diff(np.log(rates))


def end_errors(equation, rates, time, objective=OBJECTIVE, params=PARAMS, solver=dfx.Dopri8()):  # noqa: B008
    """Distance of the equation from the algorithm at the same natural time, full batch, without solver error."""
    errors = []
    for rate in rates:
        scaled = equation.scaling_limit().rescaled(rate / equation.learning_rate)
        steps = round(time / float(scaled.scaling_limit().time_per_step()))
        arguments = {"steps": steps, "observe": WEIGHTS, "save_every": steps}
        flow = solve(scaled, objective, params, solver=solver, **arguments)
        run = train(scaled, objective, params, **arguments)
        errors.append(np.linalg.norm(flow.observables["w"][0, -1] - run.observables["w"][0, -1]))
    return np.array(errors)


def local_errors(equation, rates, steps=2, objective=OBJECTIVE, params=PARAMS):
    """The same after as many steps at every rate: of one order more, and compiled once."""
    arguments = {"steps": steps, "observe": WEIGHTS, "save_every": steps}
    errors = []
    for rate in rates:
        scaled = equation.scaling_limit().rescaled(rate / equation.learning_rate)
        flow = solve(scaled, objective, params, solver=dfx.Dopri8(), **arguments)
        run = train(scaled, objective, params, **arguments)
        errors.append(np.linalg.norm(flow.observables["w"][0, -1] - run.observables["w"][0, -1]))
    return np.array(errors)


def show(title, errors, rates):
    found = slopes(errors, rates)
    print(f"\n{title}: errors {', '.join(f'{e:.2e}' for e in errors)}; slopes {', '.join(f'{s:.2f}' for s in found)}")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The series


@pytest.mark.parametrize(("order", "route"), [(2, "derivatives"), (3, "derivatives")])
def test_gradient_descent_is_the_known_field(order, route):
    """-g - (h/2) Hg - h^2 (H^2 g/3 + T[g, g]/12)."""
    h = 0.1
    found = drift(modified(SGD(h), order=order, route=route))
    known = -GRADIENT - h / 2 * HESSIAN @ GRADIENT
    third = -(h**2) * (HESSIAN @ HESSIAN @ GRADIENT / 3 + TENSOR / 12)
    known = known + third if order == 3 else known
    np.testing.assert_allclose(found, known, rtol=0, atol=1e-12)
    mutants = {"1/3 for 1/2": -GRADIENT - h / 3 * HESSIAN @ GRADIENT, "1/12 dropped": known + h**2 * TENSOR / 12}
    for name, mutant in mutants.items():
        if name == "1/12 dropped" and order == 2:
            continue
        apart = np.linalg.norm(mutant - found)
        print(f"{name}: {apart:.1e} away")
        assert apart > 1e-5


@pytest.mark.slow
def test_order_two_is_implicit_regularization():
    """The flow of L + (h/4)|grad L|^2, for any PyTree."""
    h = 0.1
    regularized = jax.grad(lambda y: value(y) + h / 4 * jnp.sum(jax.grad(value)(y) ** 2))(THETA)
    np.testing.assert_allclose(drift(modified(SGD(h), order=2)), -regularized, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [2, 3])
def test_symbols_and_derivatives_agree(order):
    x, y, eta = sympy.symbols("x y eta")
    expression = (x**2 * y - 1) ** 2 / 2 + sympy.sin(x) * y**2
    by_symbols = modified(symbolic((x, y), loss=expression, learning_rate=eta, values={eta: 0.1}), order=order)
    objective = Objective(lambda w, _: (w[0] ** 2 * w[1] - 1) ** 2 / 2 + jnp.sin(w[0]) * w[1] ** 2 + 0.0, np.zeros(1))
    for point in ([0.3, -0.8], [1.1, 0.4]):
        point = jnp.asarray(point)
        by_jvp = drift(modified(SGD(0.1), order=order), objective, point)
        np.testing.assert_allclose(by_symbols.drift(ZERO, point, None), by_jvp, rtol=1e-12)


def curl(field, theta):
    jacobian = jax.jit(jax.jacobian(field))(theta)
    return np.linalg.norm(jacobian - jacobian.T) / np.linalg.norm(jacobian)


@pytest.mark.slow
def test_order_three_is_no_gradient():
    h = 0.1
    fields = [lambda y, o=o: drift(modified(SGD(h), order=o), params=UNRAVEL(y)) for o in (1, 2, 3)]
    curls = [curl(field, THETA) for field in fields]
    print("\ncurl of orders 1, 2, 3:", curls)
    assert max(curls[:2]) < 1e-12 and curls[2] > 1e-6


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_map_agrees_with_the_derivatives(order):
    rates = np.array([0.1, 0.05, 0.025])
    apart = [
        np.linalg.norm(drift(modified(SGD(h), order=order)) - drift(modified(SGD(h), order=order, route="map")))
        for h in rates
    ]
    if order == 1:
        assert max(apart) < 1e-14
    else:
        np.testing.assert_allclose(show(f"map - derivatives, order {order}", apart, rates), order, atol=0.1)


@pytest.mark.parametrize("order", [2, 4, 6])
def test_the_map_gives_the_principal_flow_on_a_quadratic(order):
    """log(1 - h lambda)/(h lambda) per mode (Rosca et al. 2023), to the order of the map."""
    matrix = np.diag([0.5, 1.0, 2.0])
    objective = Objective(lambda w, example: 0.5 * w @ example @ w, matrix[None])
    start, rates, errors = jnp.asarray([1.0, -0.5, 0.3]), np.array([0.1, 0.05]), []
    for h in rates:
        principal = np.log(1 - h * np.diag(matrix)) / h * np.asarray(start)
        found = modified(SGD(h), order=order, route="map").drift(ZERO, Increment.of(SGD(h)).init(start), objective)
        errors.append(np.linalg.norm(found.params - principal))
    np.testing.assert_allclose(show(f"principal flow, order {order}", errors, rates), order, atol=0.3)


class Third(Modified):
    """1/3 in place of 1/2."""

    def truncated(self, t, state, signal):
        value, first = jax.jvp(
            lambda y: self.equation.drift(t, y, signal), (state,), (self.leading_drift(t, state, signal),)
        )
        return add_scaled(value, (-self.learning_rate / 3, first))

    def leading_drift(self, t, state, signal):
        return self.equation.drift(t, state, signal)


class Sign(Third):
    """+1/2 in place of -1/2."""

    def truncated(self, t, state, signal):
        field = self.leading_drift(t, state, signal)
        right = super(Third, self).truncated(t, state, signal)
        return add_scaled(field, (1.0, field), (-1.0, right))


class NoTwelfth(Third):
    """The term f''(f, f)/12 left out."""

    def truncated(self, t, state, signal):
        value, derivative = jax.linearize(lambda y: self.equation.drift(t, y, signal), state)
        first, h = derivative(value), self.learning_rate
        return add_scaled(value, (-h / 2, first), (h**2 / 3, derivative(first)))


def mutated(kind, equation):
    """The modified equation `equation` with the methods of a mutant."""
    return kind(**{field.name: getattr(equation, field.name) for field in dataclasses.fields(equation)})


@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "order"), [(Third, 2), (Sign, 2), (NoTwelfth, 3)])
def test_a_wrong_series_has_a_lower_order(mutant, order):
    rates = [0.02, 0.01]
    wrong = local_errors(mutated(mutant, modified(SGD(0.04), order=order)), rates)
    assert show(f"{mutant.__name__} at order {order}, locally", wrong, rates)[-1] < order + 1 - 0.7


# ---------------------------------------------------------------------------------------------------------------------
# Orders, against the algorithms themselves (validation.orders measures more of them in test_orders.py)


@pytest.mark.slow
def test_the_local_order_of_gradient_descent():
    """Of which the mutants above fall short."""
    rates = [0.02, 0.01, 0.005]
    found = show("gradient descent, order 3, locally", local_errors(modified(SGD(0.04), order=3), rates), rates)
    np.testing.assert_allclose(found, 4, atol=0.1)


@pytest.mark.slow  # by default: locally, up to the fifth in test_orders, and the sixth on a quadratic
@pytest.mark.parametrize(
    ("order", "route"), [*((order, "derivatives") for order in (1, 2, 3)), *((order, "map") for order in (4, 5, 6))]
)
def test_orders_of_gradient_descent(order, route):
    rates = [0.04, 0.02, 0.01]
    assert 0.04 * SHARPNESS < 0.12
    errors = end_errors(modified(SGD(0.04), order=order, route=route), rates, 2.0)
    found = show(f"gradient descent, order {order}", errors, rates)
    np.testing.assert_allclose(found if order < 6 else found[-1], order, atol=0.1)


@pytest.mark.parametrize(
    ("nesterov", "order"),
    [  # the known field, of third order, is their witness
        pytest.param(*case, marks=pytest.mark.slow) for case in itertools.product((False, True), (1, 2, 3))
    ],
)
def test_orders_of_momentum_at_fixed_beta(nesterov, order):
    """From an empty memory: the initial layer has the order of the field. Overdamped: eta lambda < (1 - sqrt(beta))^2."""
    equation = Momentum(0.01, momentum=0.5, nesterov=nesterov)
    rates = [0.005, 0.0025]
    errors = end_errors(modified(equation, order=order, memory="adiabatic"), rates, 1.0)
    found = show(f"slaved, nesterov={nesterov}, order {order}", errors, rates)
    np.testing.assert_allclose(found[-1], order, atol=0.1)


class NoLayer(SlowManifold):
    """Starts where the run starts."""

    def slow_start(self, params, signal):
        return params


@pytest.mark.slow
def test_without_the_initial_layer_the_order_is_one():
    rates = [0.01, 0.005]
    equation = modified(Momentum(0.01, momentum=0.5), order=2, memory="adiabatic")
    equation = dataclasses.replace(equation, equation=mutated(NoLayer, equation.equation))
    found = show("no initial layer, order 2", end_errors(equation, rates, 1.0), rates)[-1]
    assert abs(found - 1) < 0.1


@pytest.mark.slow  # by default: its field in test_adaptive_methods_..., a layer in test_orders_of_momentum_at_fixed_beta
@pytest.mark.parametrize("order", [2, 3])
def test_orders_of_adam_at_fixed_rates_from_its_first_step(order):
    """The initial layer holds the bias corrections of the early steps: without it, order 3 is of order 2."""
    rates = [0.004, 0.002]
    neuron = Objective(lambda w, example: (jnp.tanh(jnp.dot(w, example[0])) - example[1]) ** 2, (X[:5], Y[:5]))
    equation = modified(Adam(0.01, b1=0.3, b2=0.75, eps_root=0.1), order=order, memory="adiabatic")

    def slope(name, equation):
        errors = end_errors(equation, rates, 0.2, neuron, 0.3 * jnp.ones(3), dfx.Tsit5())
        return show(f"slaved Adam, {name}, order {order}", errors, rates)[-1]

    np.testing.assert_allclose(slope("from the first step", equation), order, atol=0.15)
    if order == 3:
        late = dataclasses.replace(equation, equation=mutated(NoLayer, equation.equation))
        assert slope("late formula only", late) < 2.4


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2, 3])
def test_orders_of_momentum_in_its_own_clock(order):
    """1 - beta ~ sqrt(eta), time sqrt(eta) step: slopes in h = sqrt(eta)."""
    rates = np.array([0.0016, 0.0004, 0.0001])
    errors = end_errors(modified(Momentum(0.0016, momentum=0.9), order=order), rates, 1.0)
    found = show(f"momentum, order {order}", errors, rates**0.5)
    np.testing.assert_allclose(found[-1], order, atol=0.15)


def cosine(learning_rate, decay_steps):
    return optax.sgd(optax.cosine_decay_schedule(learning_rate, decay_steps))


ADAPTIVE = {
    "adam": (lambda: Adam(0.01, b1=0.9, b2=0.98), [0.005, 0.0025, 0.00125], 0.2, 1.0),
    "adamw": (lambda: from_optax(optax.adamw, 0.01, b1=0.9, b2=0.98), [0.005, 0.0025, 0.00125], 0.2, 1.0),
    "rmsprop": (lambda: from_optax(optax.rmsprop, 0.02, decay=0.8, eps=1e-3), [0.01, 0.005, 0.0025], 0.4, 0.6),
    "cosine": (
        lambda: from_optax(cosine, 0.02, decay_steps=100, scaling={"decay_steps": lambda steps, factor: steps / factor}),
        [0.02, 0.01, 0.005], 1.6, 0.0,
    ),
}  # fmt: skip
SLOW = [(name, order) for name in ADAPTIVE for order in (1, 2)] + [("adam", 3), ("adamw", 3), ("cosine", 3)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "order"), [("adam", 4), ("rmsprop", 3), *SLOW])
def test_orders_of_other_optimizers(name, order):
    """1 - b1, 1 - b2, 1 - decay ~ eta, after the transient of the bias corrections; the last two halvings."""
    make, rates, time, transient = ADAPTIVE[name]
    equation = modified(make(), order=order, route="map" if order > 3 else "derivatives")
    report = orders(equation, OBJECTIVE, PARAMS, time=time, learning_rates=rates, transient=transient, observe=WEIGHTS)
    local = np.asarray(report.local_slopes["w"]["mean"].value)
    print(f"\n{name}, order {order}: local slopes {local}, eta lambda_max {np.asarray(report.sharpness)}")
    np.testing.assert_allclose(local, order, atol=0.1 if name == "adam" else 0.15)


@pytest.mark.slow
def test_averaged_momentum_has_a_limit_with_its_decay():
    """1 - beta ~ eta in the averaged form, theta' = theta - eta m, which optax.trace has not."""

    def averaged(learning_rate, decay):
        return optax.chain(optax.ema(decay, debias=False), optax.scale_by_learning_rate(learning_rate))

    rates = [0.0025, 0.00125]
    for order in (1, 2, 3):
        equation = modified(from_optax(averaged, 0.0025, decay=0.9875), order=order)
        errors = end_errors(equation, rates, 1.0)
        np.testing.assert_allclose(show(f"averaged, order {order}", errors, rates)[-1], order, atol=0.1)


@pytest.mark.slow
def test_a_remainder_that_does_not_vanish_is_said():
    fixed = from_optax(optax.sgd, 0.01, momentum=0.9, scaling={"momentum": 0})
    for route in ("derivatives", "map"):
        assert "does not vanish" in modified(fixed, order=3, route=route).remainder
    for equation in (SGD(0.1), Momentum(0.01), Adam(1e-3), from_optax(optax.rmsprop, 1e-3)):
        assert modified(equation, order=3).remainder.startswith("O(h^3)")
    # Without a gradient the memory is multiplied by 0.9 in a step, whatever the learning rate; the map truncates log 0.9.
    flat_objective, remainders = Objective(lambda w, x: 0.0 * x * jnp.sum(w), jnp.ones(2)), []
    for rate in (0.01, 1e-4):
        equation = modified(from_optax(optax.sgd, rate, momentum=0.9, scaling={"momentum": 0}), order=4, route="map")
        state = jax.tree.map(jnp.ones_like, equation.init(jnp.ones(3)))
        change = rate * flat(equation.drift(ZERO, state, flat_objective).memory)
        remainders.append(float(change[0] - np.log(0.9)))
    print("\nremainder of the memory's decay in a step:", remainders)
    np.testing.assert_allclose(remainders, sum(0.1**k / k for k in range(5, 60)), rtol=1e-8)
    # Beside a sum of squares, which forgets nothing.
    parts = optax.scale_by_rss, lambda: optax.ema(0.9, debias=False)
    beside = from_optax(lambda learning_rate: optax.chain(*(p() for p in parts), optax.scale(-learning_rate)), 0.01)
    assert "does not vanish" in modified(beside, order=2).remainder
    assert modified(fixed, order=2, memory="adiabatic").remainder.startswith("O(h^2)")


def momentum_field(h, b, nesterov):
    """-gamma g - h c1 Hg - h^2 (c2 H^2 g + c3 T[g, g]), coefficients from test_named_results."""
    gamma = 1 / (1 - b)
    if nesterov:
        c1 = gamma**3 * (1 - b + 2 * b**2) / 2
        c2 = gamma**5 * (1 - 2 * b + 7 * b**2 - 3 * b**3 + 3 * b**4) / 3
        c3 = gamma**5 * (1 - 2 * b + 13 * b**2) / 12
    else:
        c1 = gamma**3 * (1 + b) / 2
        c2 = gamma**5 * (1 + 4 * b + b**2) / 3
        c3 = gamma**5 * (1 + 10 * b + b**2) / 12
    return -gamma * GRADIENT - h * c1 * HESSIAN @ GRADIENT - h**2 * (c2 * HESSIAN @ HESSIAN @ GRADIENT + c3 * TENSOR)


@pytest.mark.slow
@pytest.mark.parametrize("nesterov", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_momentum_at_fixed_beta_is_the_known_field(nesterov):
    rates, right, mutant = np.array([0.002, 0.001]), [], []
    for h in rates:
        found = drift(modified(Momentum(h, momentum=0.5, nesterov=nesterov), order=3, memory="adiabatic"))
        right.append(np.linalg.norm(found - momentum_field(h, 0.5, nesterov)))
        mutant.append(np.linalg.norm(found - momentum_field(h, 0.5, not nesterov)))
    np.testing.assert_allclose(show("slaved momentum - formula", right, rates), 3, atol=0.15)
    assert show("the other algorithm's coefficients", mutant, rates)[-1] < 1.2


def adam_field(h, beta, rho, eps, outside=True):
    """Late-time Adam at fixed rates, to second order; q = H(g/D).

    eps outside the root, D = |g| + eps: -g/D - h (q/D) [b/(1-b) - (r/(1-r)) |g|/D + eps/(2D)]; inside, D^2 = g^2 + eps:
    -g/D - (h/2)(q/D)[(1+b)/(1-b) - (1+r)/(1-r) + ((1+r)/(1-r)) eps/D^2].
    """
    g, b, r = GRADIENT, beta, rho
    if outside:
        d = jnp.abs(g) + eps
        bracket = 2 * (b / (1 - b) - r / (1 - r) * jnp.abs(g) / d + eps / (2 * d))
    else:
        d = jnp.sqrt(g**2 + eps)
        bracket = (1 + b) / (1 - b) - (1 + r) / (1 - r) + (1 + r) / (1 - r) * eps / d**2
    return -g / d - h / 2 * (HESSIAN @ (g / d)) / d * bracket


@pytest.mark.slow
@pytest.mark.parametrize("outside", some([True, False], [False]))
@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_adaptive_methods_at_fixed_rates_are_the_known_fields(name, outside):
    """After the bias corrections. eps outside for optax.adam, inside for optax.rmsprop, and the other way round."""
    eps, rates = 0.05, np.array([4e-4, 2e-4, 1e-4])

    def apart(h, formula):
        if name == "adam":
            kind = {"eps": eps} if outside else {"eps": 0.0, "eps_root": eps}
            equation, beta = Adam(h, b1=0.5, b2=0.6, **kind), 0.5
        else:
            equation, beta = from_optax(optax.rmsprop, h, decay=0.6, eps=eps, eps_in_sqrt=not outside), 0.0
        found = drift(modified(equation, order=2, memory="adiabatic"))
        return np.linalg.norm(found - adam_field(h, beta, 0.6, eps, formula))

    right = show(f"{name}, eps outside={outside}", [apart(h, outside) for h in rates], rates)
    np.testing.assert_allclose(right, 2, atol=0.1)
    # The mutant has eps on the other side of the root.
    assert show("mutant", [apart(h, not outside) for h in rates], rates)[-1] < 0.2


# ---------------------------------------------------------------------------------------------------------------------
# Noise

PROBLEM = LinearRegression()


def matrix(operator, size):
    return np.asarray(jax.vmap(lambda unit: flat(operator.mv(unit)))(jnp.eye(size))).T


@pytest.mark.slow
def test_second_order_of_sgd_is_the_sme():
    """Li, Tai and E: drift -grad(L + (eta/4)|grad L|^2), diffusion sqrt(eta) (C/B)^(1/2) as it was."""
    plain, second = SGD(0.1, 4), modified(SGD(0.1, 4), order=2)
    np.testing.assert_allclose(drift(second), drift(modified(SGD(0.1), order=2)), rtol=1e-13)
    roots = [matrix(e.diffusion(ZERO, e.init(PARAMS), OBJECTIVE), len(X)) for e in (plain, second)]
    np.testing.assert_allclose(roots[0], roots[1], rtol=0, atol=1e-14)


def covariance(theta, batch_size):
    """C/B of the minibatch gradient at flat parameters."""
    each = jax.vmap(lambda i: flat(OBJECTIVE.take(i[None]).gradient(UNRAVEL(theta))))(jnp.arange(len(X)))
    deviations = each - each.mean(0)
    return deviations.T @ deviations / len(X) / batch_size


@pytest.mark.slow
def test_fluctuations_have_the_known_diffusion():
    """S = Sigma + (eta/2)[H Sigma + Sigma H + grad L . grad Sigma], with a remainder O(eta^2)."""
    sigma, along = jax.jvp(lambda y: covariance(y, 4), (THETA,), (GRADIENT,))
    rates, errors, mutant = np.array([0.04, 0.02, 0.01]), [], []
    for eta in rates:
        equation = modified(SGD(eta, 4), order=2, fluctuations=True)
        root = matrix(equation.diffusion(ZERO, equation.init(PARAMS), OBJECTIVE), len(X))
        known = sigma + eta / 2 * (HESSIAN @ sigma + sigma @ HESSIAN + along)
        errors.append(np.linalg.norm(root @ root.T / eta - known))
        mutant.append(np.linalg.norm(root @ root.T / eta - known + eta / 2 * along))
    np.testing.assert_allclose(show("diffusion - S", errors, rates), 2, atol=0.1)
    assert show("mutant without grad L . grad Sigma", mutant, rates)[-1] < 1.2


@pytest.mark.parametrize("fluctuations", [False, True])
@pytest.mark.parametrize("equation", [SGD(0.05, 4), Momentum(0.01, 4), Momentum(0.01, 4, nesterov=True)])
def test_a_kick_is_the_diffusion(equation, fluctuations, key):
    equation = modified(equation, order=2, fluctuations=fluctuations)
    state = add_scaled(equation.init(PARAMS), (1.0, equation.drift(ZERO, equation.init(PARAMS), OBJECTIVE)))
    normals, dt = jax.random.normal(key, (len(X),)), equation.learning_rate / 2
    kick = split(equation).kick(ZERO, state, OBJECTIVE, normals, dt)
    root = equation.diffusion(ZERO, state, OBJECTIVE)
    np.testing.assert_allclose(flat(kick), jnp.sqrt(dt) * flat(root.mv(normals)), rtol=1e-11, atol=1e-14)
    mean = flat(equation.drift(ZERO, state, OBJECTIVE)) - flat(split(equation).flow(ZERO, state, OBJECTIVE))
    np.testing.assert_allclose(mean, 0, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("fluctuations", [False, True])
def test_adams_kick_carries_the_mean_of_its_noise(fluctuations):
    """Exactly, over the signs of the draws: with Gaussian points of third degree the squares are right."""
    objective = Objective(loss, (X[:3], Y[:3]))
    equation = modified(Adam(0.05, 2, b1=0.8, b2=0.9), order=2, fluctuations=fluctuations)
    start = equation.init(PARAMS)
    near = add_scaled(start, (0.05, equation.drift(ZERO, start, objective)))
    state = eqx.tree_at(lambda s: s.memory[0].nu, near, jax.tree.map(lambda leaf: leaf + 1.0, near.memory[0].nu))
    dt = equation.learning_rate
    points = jnp.asarray(list(itertools.product((-(3**0.5), 0.0, 3**0.5), repeat=3)))
    weights = np.prod(np.where(points == 0, 2 / 3, 1 / 6), axis=1)
    kicks = jax.vmap(lambda n: flat(split(equation).kick(ZERO, state, objective, n, dt).memory))(points)
    wanted = add_scaled(equation.drift(ZERO, state, objective), (-1.0, split(equation).flow(ZERO, state, objective)))
    found = weights @ np.asarray(kicks)
    np.testing.assert_allclose(found, dt * flat(wanted.memory), rtol=1e-6, atol=1e-9)
    assert np.abs(found).max() > 1e-6


def epoch_mean(eta, batches, steps):
    """The exact mean over all orders of the batches of SGD after one epoch."""
    ends = []
    for order in itertools.permutations(range(batches)):
        theta = THETA
        for batch in order:
            theta = theta - eta * flat(THREE.take(jnp.asarray([batch])).gradient(UNRAVEL(theta)))
        ends.append(theta)
    return np.mean(ends, axis=0)


THREE = Objective(loss, (X[:3], Y[:3]))


@pytest.mark.slow
def test_shuffled_epochs_by_all_six_orders():
    """The formula for independent batches with replacement is the mutant."""
    rates, right, mutant = np.array([0.04, 0.02, 0.01]), [], []
    for eta in rates:
        truth = epoch_mean(eta, 3, 3)
        for errors, sampling in ((right, "shuffled"), (mutant, "with_replacement")):
            equation = modified(SGD(eta, 1, sampling), order=2)
            if sampling == "with_replacement":
                equation = modified(SGD(eta), order=2)  # its drift alone
            flow = solve(equation, THREE, PARAMS, steps=3, save_every=3, observe=WEIGHTS, solver=dfx.Dopri8())
            errors.append(np.linalg.norm(flow.observables["w"][0, -1] - truth))
    np.testing.assert_allclose(show("shuffled epoch, one epoch", right, rates), 3, atol=0.15)
    assert show("mutant, with replacement", mutant, rates)[-1] < 2.2


# ---------------------------------------------------------------------------------------------------------------------
# Use


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda rate: modified(SGD(rate, 2), order=2, fluctuations=True),
        pytest.param(lambda rate: modified(Adam(rate), order=2), marks=pytest.mark.slow),
        pytest.param(lambda rate: modified(Momentum(rate), order=2, memory="adiabatic"), marks=pytest.mark.slow),
        lambda rate: modified(from_optax(optax.lion, rate), order=2, route="map"),
    ],
    ids=["sgd", "adam", "adiabatic", "lion"],
)
def test_modified_equations_run_on_everything(make, key):
    """Equinox modules, float32, noise; a new learning rate does not recompile."""
    network = mlp(jax.random.key(1), (3, 2), jnp.float32)  # a layer: the series is long to compile
    rng, traces = np.random.default_rng(0), []  # of its own: what is found suspicious, and looked at, hangs on the data
    images = jnp.asarray(rng.normal(size=(10, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 2, size=10))

    def cross_entropy(network, example):
        traces.append(1)
        return optax.softmax_cross_entropy_with_integer_labels(network(example[0]), example[1])

    objective = Objective(cross_entropy, (images, labels))

    def run(rate):
        equation = make(rate)
        return solve(
            equation, objective, network, steps=3, key=key if equation.random else None, paths=2, observe=OUTPUT
        )

    first = run(0.02)  # the larger one: what is looked at in steps that may be too long is compiled here
    before = len(traces)
    second = run(0.01)
    assert len(traces) - before <= 2  # an abstract evaluation, no compilation
    assert np.all(first.ok) and not np.array_equal(first.observables["out"], second.observables["out"])
    assert {leaf.dtype for leaf in jax.tree.leaves(eqx.filter(first.final, eqx.is_array))} == {jnp.dtype("float32")}


OUTPUT = {"out": lambda network: network(jnp.ones(3, jnp.float32))}


class Drift(AbstractDynamics):
    """A hand-written drift whose Euler step is the algorithm."""

    learning_rate: jax.Array

    def drift(self, t, state, signal):
        return jnp.stack([-(state[0] ** 3), state[0] - state[1]])


class Noisy(Drift):
    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.ones(2))


class Counted(NamedTuple):
    count: jax.Array


def counting(end):
    """Momentum with a schedule that counts in a state of its own, which Optax does not know."""

    def update(gradient, state, params=None):
        factor = optax.cosine_decay_schedule(1.0, 100, end)(state.count)
        return jax.tree.map(lambda g: factor * g, gradient), Counted(state.count + 1)

    own = optax.GradientTransformation(lambda params: Counted(jnp.zeros((), jnp.int32)), update)
    return lambda learning_rate: optax.chain(optax.sgd(learning_rate, momentum=0.5), own)


ending, staying = counting(0.0), counting(0.2)


@pytest.mark.slow
def test_a_drift_of_ones_own():
    field = lambda y: Drift(0.1).drift(ZERO, y, None)  # noqa: E731
    state = jnp.asarray([0.8, -0.3])
    equation = modified(Drift(jnp.asarray(0.1)), order=3)
    np.testing.assert_allclose(equation.drift(ZERO, state, None), by_derivatives(field, state, 0.1, 3), rtol=1e-14)
    flow = solve(equation, None, state, steps=20, save_every=20, solver=dfx.Dopri8(), observe={"y": lambda y: y})
    euler = state
    for _ in range(20):
        euler = euler + 0.1 * field(euler)
    plain = solve(Drift(jnp.asarray(0.1)), None, state, steps=20, save_every=20, observe={"y": lambda y: y})
    apart = [np.linalg.norm(f.observables["y"][0, -1] - euler) for f in (flow, plain)]
    assert apart[0] < 0.02 * apart[1]
    high = modified(Drift(jnp.asarray(0.1)), order=5, route="map").drift(ZERO, state, None)
    np.testing.assert_allclose(high, by_map(field, state, 0.1, 5), rtol=1e-14)


@pytest.mark.slow
def test_an_own_equation_gets_its_own_series():
    class Decayed(AbstractEquation):
        decay: float = 0.5

        def velocity(self, t, state, gradient):
            return jax.tree.map(lambda x, g: -(g + self.decay * x), state, gradient)

        def twin(self):
            return optax.chain(optax.add_decayed_weights(self.decay), optax.sgd(self.learning_rate))

    rates = [0.02, 0.01]
    for order in (2, 3):
        errors = local_errors(modified(Decayed(0.04), order=order), rates)
        np.testing.assert_allclose(show(f"own equation, order {order}, locally", errors, rates), order + 1, atol=0.1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: modified(SGD), ["`equation`", "AbstractDynamics"]),
        (lambda: modified(modified(SGD(0.1))), ["`equation`", "Modified"]),
        (lambda: modified(decayed(SignSGD(0.1, 2), 0.1)), ["`equation`", "SignSGD"]),
        (lambda: modified(SGD(0.1), order=0), ["`order`", "0"]),
        (lambda: modified(SGD(0.1), order=4), ["`order`", "at most 3", "4"]),
        (lambda: modified(SGD(0.1), order=7, route="map"), ["`order`", "at most 6", "7"]),
        (lambda: modified(SGD(0.1), order=2.0), ["`order`", "2.0"]),
        (lambda: modified(SGD(0.1), route="symbols"), ["`route`", "'derivatives'", "'symbols'"]),
        (lambda: modified(SGD(0.1), memory="none"), ["`memory`", "'adiabatic'", "'none'"]),
        (lambda: modified(SGD(0.1, 4), order=3), ["`order`", "at most 2", "3"]),
        (lambda: modified(SGD(0.1), fluctuations=True), ["`fluctuations`", "noise"]),
        (lambda: modified(SGD(0.1, 4), fluctuations=1), ["`fluctuations`", "1"]),
        (lambda: modified(Momentum(0.1, 4), memory="adiabatic", fluctuations=True), ["`fluctuations`", "'dynamic'"]),
        (lambda: modified(SGD(0.1, 4, "shuffled"), route="map"), ["`order`", "'shuffled'"]),
        (lambda: modified(Noisy(jnp.asarray(0.1)), order=3), ["`order`", "at most 2"]),
        (lambda: modified(Drift(jnp.asarray(0.1)), fluctuations=True), ["`fluctuations`", "noise"]),
        (
            lambda: train(modified(Drift(jnp.asarray(0.1))), OBJECTIVE, PARAMS, steps=1),
            ["`equation`", "AbstractEquation", "Drift"],
        ),
        (lambda: modified(symbolic(sympy.Symbol("x"), drift=(-sympy.Symbol("x"),)), route="map"), ["`route`", "'map'"]),
        (lambda: from_optax(optax.adam, 0.1, scaling=[1]), ["`scaling`", "[1]"]),
        (lambda: from_optax(optax.adam, 0.1, b1=0.5).scaling_limit().rescaled(4.0), ["`b1`", "-1.0"]),
        (lambda: from_optax(optax.lbfgs, 0.1), ["`factory`", "gradient"]),
        (lambda: from_optax(optax.optimistic_gradient_descent, 0.1), ["`factory`", "real numbers"]),
        (lambda: from_optax("adam", 0.1), ["`factory`", "'adam'"]),
        (lambda: from_optax(optax.adam, -0.1), ["`learning_rate`", "-0.1"]),
        (lambda: from_optax(optax.adam, 0.1, b7=0.1), ["`factory`", "b7"]),
        (lambda: from_optax(optax.adam, 0.1, scaling={"b9": 1}), ["`scaling`", "'b9'"]),
        (lambda: from_optax(optax.adam, 0.1, scaling={"b1": -1}), ["scaling['b1']", "-1"]),
        (lambda: from_optax(lambda learning_rate: 3, 0.1), ["`factory`", "3"]),
    ],
)
def test_bad_input(call, words):
    with pytest.raises((ValueError, TypeError)) as found:
        call()
    for word in words:
        assert word in str(found.value)


@pytest.mark.parametrize(
    ("equation", "words"),
    [
        (modified(SGD(0.1), memory="adiabatic"), ["`memory`", "remembers nothing"]),
        (modified(from_optax(optax.amsgrad, 0.1), memory="adiabatic"), ["`memory`", "linearly"]),
        (modified(SGD(0.1, 3, "shuffled")), ["`batch_size`", "divide", "20", "3"]),
        (modified(from_optax(ending, 0.1), memory="adiabatic"), ["`memory`", "decays to zero"]),
        (modified(from_optax(staying, 0.1), memory="adiabatic"), ["`memory`", "a count of its own"]),
        (modified(Momentum(0.1, 4, "shuffled")), ["`sampling`", "memory"]),
        (modified(Momentum(0.1, 4, "shuffled"), memory="adiabatic"), ["`memory`", "'shuffled'"]),
    ],
)
def test_bad_combinations_are_found_before_the_run(equation, words):
    with pytest.raises(ValueError) as found:
        solve(equation, OBJECTIVE, PARAMS, steps=2)
    for word in words:
        assert word in str(found.value)


def test_the_learning_rate_has_one_place():
    equation = modified(Momentum(0.01, momentum=0.5), order=2)
    changed = eqx.tree_at(lambda e: e.learning_rate, equation, jnp.asarray(0.02))
    np.testing.assert_array_equal(drift(changed), drift(modified(Momentum(0.02, momentum=0.5), order=2)))
    assert isinstance(equation, Modified) and dataclasses.replace(equation, order=1).order == 1


class Uncut(Increment):
    """The noise of an increment field as it is."""

    splitting = changed(clip_noise=lambda s, state, even, odd, dt: odd)


@pytest.mark.slow
def test_an_empty_second_moment_stays_positive_under_noise(key):
    """A kick over a part of a step could drive it negative, where the root of the next step is no number."""
    neuron = Objective(lambda w, example: 0.5 * (jnp.tanh(jnp.dot(w, example[0])) - example[1]) ** 2, (X[:5], Y[:5]))
    equation = modified(Adam(0.05, 1, b1=0.8, b2=0.8), order=2)
    uncut = dataclasses.replace(equation, equation=mutated(Uncut, equation.equation))
    arguments = {"steps": 20, "key": key, "paths": 64, "save_every": 20, "substeps": 2}
    ok, mutant = (np.asarray(solve(e, neuron, 0.3 * jnp.ones(3), **arguments).ok) for e in (equation, uncut))
    print(f"\n{ok.mean():.0%} of the paths are good, without the bound {mutant.mean():.0%}")
    assert np.all(ok) and not np.all(mutant)


def test_slaved_is_adiabatic():
    """By its older name, in both functions that eliminate a memory."""
    rule = Momentum(0.01, momentum=0.5)
    assert eqx.tree_equal(modified(rule, memory="slaved"), modified(rule, memory="adiabatic"))
    with pytest.raises(ValueError, match="'adiabatic', but 'enslaved' was given|one of 'dynamic', 'adiabatic'"):
        modified(rule, memory="enslaved")

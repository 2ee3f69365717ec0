"""A parameter without gradient has an empty second moment, whose root has an infinite derivative times zero."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import some

from equations import AdaGrad, Adam, AdamW, AMSGrad, LaProp, NAdam, Objective, RMSProp, from_optax, modified
from equations._jaxpr.roots import inverse_root, root, with_safe_roots
from equations._modified import increment as increment_module
from equations._modified.increment import Increment
from equations._tree import add_scaled

CASES = [
    ("roots at zero", "instance", "modified(Adam, order=2) where one parameter has no gradient", "test_modified[adam]"),
    ("roots at zero", "instance", "the same of from_optax(optax.adam)", "test_modified[optax_adam]"),
    ("roots at zero", "brother", "the same of AdamW, whose dead parameters decay", "test_modified[adamw]"),
    ("roots at zero", "brother", "the same of NAdam", "test_modified[nadam]"),
    ("roots at zero", "brother", "the same of AMSGrad", "test_modified[amsgrad]"),
    ("roots at zero", "brother", "the same of LaProp", "test_modified[laprop]"),
    ("roots at zero", "brother", "RMSProp with eps outside the root", "test_modified[rmsprop]"),
    ("roots at zero", "brother", "AdaGrad from zero", "test_modified[adagrad]"),
    (
        "roots at zero",
        "brother",
        "the norm of the gradient of a dead unit under adaptive clipping",
        "test_modified[clipped]",
    ),
    ("roots at zero", "brother", "a sum of squares under 1/sqrt", "test_derivatives_of_roots"),
    ("roots at zero", "brother", "values with and without safe roots, bit for bit", "test_values_stay_to_the_last_bit"),
    ("roots at zero", "brother", "route='map', which has no derivative", "test_the_routes_agree"),
    ("roots at zero", "brother", "a mutant without safe roots is found", "test_plain_roots_are_rejected"),
]

X = np.random.default_rng(0).normal(size=(5, 3))
X[:, 2] = 0  # a constant pixel
Y = np.tanh(X[:, 0])
START = np.random.default_rng(1).normal(size=(2, 3))


def clipped(learning_rate):
    return optax.chain(optax.adaptive_grad_clip(0.01), optax.sgd(learning_rate))


RULES = {
    "adam": Adam(0.01), "optax_adam": from_optax(optax.adam, 0.01), "adamw": AdamW(0.01), "nadam": NAdam(0.01),
    "amsgrad": AMSGrad(0.01), "laprop": LaProp(0.01), "rmsprop": RMSProp(0.01, eps_in_sqrt=False),
    "adagrad": AdaGrad(0.01, initial_accumulator_value=0.0), "clipped": from_optax(clipped, 0.01),
}  # fmt: skip


def loss(params, example):
    x, y = example
    return 0.5 * (params["v"] @ jnp.tanh(params["w"] @ x) - y) ** 2


def problem(pixels):
    objective = Objective(loss, (jnp.asarray(X[:, :pixels]), jnp.asarray(Y)))
    return objective, {"w": jnp.asarray(START[:, :pixels]), "v": jnp.array([0.5, -0.4])}


def drift(rule, order, pixels, route="derivatives"):
    """The rate of the parameters after the first step, which is the algorithm's own."""
    objective, params = problem(pixels)
    equation = modified(rule, order=order, route=route)

    @eqx.filter_jit
    def rate(equation):
        field = equation.increment
        state = field.init(params)
        state = add_scaled(
            state, (field.learning_rate, field.velocity(jnp.zeros(()), state, objective.gradient(params)))
        )
        return equation.drift(jnp.zeros(()), state, objective).params

    return rate(equation)


@pytest.mark.parametrize("name", some(RULES, ["adam", "optax_adam", "amsgrad", "laprop"]))
def test_modified(name):
    """As in the network without the constant pixel; what belongs to the pixel rests, or decays as its series says."""
    with_pixel, without = (drift(RULES[name], 3 if name == "adam" else 2, pixels) for pixels in (3, 2))
    np.testing.assert_allclose(with_pixel["v"], without["v"], rtol=1e-12)
    np.testing.assert_allclose(with_pixel["w"][:, :2], without["w"], rtol=1e-12, atol=1e-14)
    decay, eta = (1e-4, 0.01) if name == "adamw" else (0.0, 0.01)
    # One step was taken; then the rate is -(decay + eta decay^2/2) of what is left.
    expected = -(decay + eta * decay**2 / 2) * (1 - eta * decay) * START[:, 2]
    np.testing.assert_allclose(with_pixel["w"][:, 2], expected, rtol=1e-9, atol=1e-14)


def test_the_routes_agree():
    one, other = (drift(RULES["optax_adam"], 3, 3, route)["w"] for route in ("derivatives", "map"))
    np.testing.assert_allclose(one, other, rtol=0.2)
    assert np.all(np.asarray(other)[:, 2] == 0) and np.all(np.asarray(one)[:, 2] == 0)


def test_plain_roots_are_rejected(monkeypatch):
    monkeypatch.setattr(increment_module, "with_safe_roots", lambda function, *args: function(*args))

    class Another(NAdam):
        """Of which no trace is remembered."""

    assert np.isnan(drift(Another(0.01), 2, 3)["w"]).any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_values_stay_to_the_last_bit(dtype):
    params = {"w": jnp.asarray(np.random.default_rng(2).normal(size=(4, 3)), dtype)}
    for twin in (optax.adam(0.1), optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(0.1))):
        with jax.numpy_dtype_promotion("standard"):
            memory = twin.init(params)
            plain, safe = twin.update(params, memory, params), with_safe_roots(twin.update, params, memory, params)
        for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(safe), strict=True):
            np.testing.assert_array_equal(a, b)
    field = Increment.of(Adam(0.1))
    assert field.velocity(jnp.zeros(()), field.init(params), params).params["w"].dtype == dtype


def test_derivatives_of_roots():
    """Elsewhere the derivatives of any order are the usual ones, and at zero they vanish."""
    zero = jnp.zeros(())
    for safe, power in ((root, 0.5), (inverse_root, -0.5)):
        for order, factor in ((1, power), (2, power * (power - 1))):
            derivative = safe
            for _ in range(order):
                derivative = jax.grad(derivative)
            np.testing.assert_allclose(derivative(jnp.asarray(2.0)), factor * 2.0 ** (power - order), rtol=1e-14)
            assert derivative(zero) == 0
    assert root(zero) == 0 and inverse_root(zero) == np.inf and np.isnan(root(zero - 1.0))

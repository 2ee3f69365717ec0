"""What `is_affine` says of a rule, against what the rule does to numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from equations import SGD, AbstractEquation
from equations._jaxpr.structure import is_affine, squares

VECTOR = jnp.array([0.3, -1.2, 2.0])
MATRIX = jnp.array([[1.0, 2.0, 0.0], [0.5, -1.0, 3.0], [0.0, 0.25, 1.0]])
MASK = jnp.array([True, False, True])

AFFINE = {
    "identity": lambda g: g,
    "ignored": lambda g: VECTOR,
    "sum and scale": lambda g: 3.0 * g - VECTOR + g / 7.0,
    "preconditioned": lambda g: g / (jnp.sqrt(VECTOR**2) + 1e-8),
    "matrix": lambda g: MATRIX @ g,
    "transposed": lambda g: (g[:, None] + MATRIX).T,
    "dot with a constant": lambda g: jnp.dot(g, VECTOR),
    "mean": lambda g: g - jnp.mean(g),
    "cumulative sum": lambda g: jnp.cumsum(g)[::-1],
    "fixed mask": lambda g: jnp.where(MASK, g, 2.0 * g),
    "slices": lambda g: jnp.concatenate([g[1:], g[:1]]),
    "fixed index": lambda g: g[jnp.array([2, 0])],
    "padding": lambda g: jnp.pad(g, 2),
    "lower precision": lambda g: g.astype(jnp.float32),
    "jitted": jax.jit(lambda g: MATRIX @ g + VECTOR),
    "jitted twice": jax.jit(jax.jit(lambda g: 2.0 * g)),
    "jitted in part": lambda g: jax.jit(lambda a, b: (a * b, jnp.sin(b)))(g, VECTOR),
    "vmapped": jax.vmap(lambda g: 2.0 * g + 1.0),
    "tree": lambda g: {"a": g[0], "b": (-g, VECTOR)},
}

NOT_AFFINE = {
    "square": lambda g: g**2,
    "cube": lambda g: g**3,
    "times itself": lambda g: g * g,
    "jitted square": jax.jit(lambda g: g * g),
    "dot with itself": lambda g: jnp.dot(g, g),
    "outer product": lambda g: jnp.outer(g, g),
    "norm": lambda g: g / jnp.linalg.norm(g),
    "clipped by norm": lambda g: g * jnp.minimum(1.0, 1.0 / jnp.linalg.norm(g)),
    "inverse": lambda g: 1.0 / g,
    "sign": jnp.sign,
    "absolute value": jnp.abs,
    "maximum": lambda g: jnp.maximum(g, 0.0),
    "reduced maximum": jnp.max,
    "clip": lambda g: jnp.clip(g, -1.0, 1.0),
    "where on g": lambda g: jnp.where(g > 0, g, 2.0 * g),
    "where on g, constants": lambda g: jnp.where(g > 0, VECTOR, -VECTOR),
    "index by g": lambda g: VECTOR[jnp.argmax(g)],
    "sorted": jnp.sort,
    "cast to integers": lambda g: g.astype(jnp.int32).astype(g.dtype),
    "rounded": jnp.round,
    "product of sums": lambda g: jnp.sum(g) * g,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "branch": lambda g: jax.lax.cond(g[0] > 0, lambda g: g, lambda g: -g, g),
}

# Linear in their values or of unknown derivative: the kick is a derivative, so that these must not count as affine.
WRONG_DERIVATIVE = {
    "stop_gradient": jax.lax.stop_gradient,
    "in part": lambda g: g + jax.lax.stop_gradient(g),
    "straight through": lambda g: g + jax.lax.stop_gradient(jnp.sign(g) - g),
}


def custom(g):
    @jax.custom_jvp
    def identity(g):
        return g

    identity.defjvp(lambda primals, tangents: (primals[0], 3.0 * tangents[0]))
    return identity(g)


WRONG_DERIVATIVE["custom derivative"] = custom


def departs(function) -> bool:
    """Whether f(x) - f(0) differs somewhere from the derivative of f at zero along x, all that a kick looks at."""
    zero = jnp.full(3, 1e-300)  # not 0, where a norm has no derivative
    for x in (VECTOR, -3.0 * VECTOR, jnp.array([-0.1, 40.0, 0.7])):
        value, slope = jax.jvp(function, (zero,), (x,))
        for at_x, at_0, along in zip(*map(jax.tree.leaves, (function(x), value, slope)), strict=True):
            if not np.allclose(at_x - at_0, along, rtol=1e-6, atol=1e-6):
                return True
    return False


@pytest.mark.parametrize("name", AFFINE)
def test_affine(name):
    assert is_affine(AFFINE[name], VECTOR)
    assert not departs(AFFINE[name])


@pytest.mark.parametrize("name", NOT_AFFINE | WRONG_DERIVATIVE)
def test_not_affine(name):
    function = (NOT_AFFINE | WRONG_DERIVATIVE)[name]
    assert not is_affine(function, VECTOR)
    assert departs(function)


def test_one_leaf_of_several_is_enough():
    params = {"w": VECTOR, "b": jnp.zeros(())}
    assert is_affine(lambda g: {"w": g["w"] + g["b"], "b": -g["b"]}, params)
    assert not is_affine(lambda g: {"w": g["w"], "b": g["b"] ** 2}, params)
    assert not is_affine(lambda g: g["w"] * g["b"], params)


def test_only_shapes_matter():
    """The example argument may be abstract, and its values decide nothing: at 0 and at 1 the square is its own tangent."""
    assert not is_affine(lambda g: g**2, jax.ShapeDtypeStruct((3,), jnp.float64))
    assert is_affine(lambda g: 2.0 * g, jax.ShapeDtypeStruct((), jnp.float32))
    assert not is_affine(lambda g: g**2, jnp.zeros(3))


class Rule(AbstractEquation):
    """A user's algorithm: steps of the length of the learning rate along `rule`."""

    rule: object = None

    def velocity(self, t, state, gradient):
        return jax.tree.map(lambda x, g: -self.rule(x, g), state, gradient)

    def twin(self):
        return optax.sgd(self.learning_rate)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (lambda x, g: g + 0.1 * x, True),  # weight decay
        (lambda x, g: g + 0.1 * x**2, True),  # whatever it does to the state
        (lambda x, g: g / (1.0 + jnp.abs(x)), True),
        (lambda x, g: jnp.sign(g), False),
        (lambda x, g: g / jnp.sqrt(g**2 + 1e-8), False),
        (lambda x, g: g / (1.0 + jnp.linalg.norm(g)), False),
        (lambda x, g: jnp.where(jnp.sign(g) == jnp.sign(x), g, 0.0), False),  # masked where it disagrees
    ],
)
def test_rules_of_a_user(rule, expected):
    assert Rule(0.1, 2, rule=rule).is_affine({"w": VECTOR}) is expected


def test_time_and_numbers_of_the_rule_are_constants():
    class Annealed(SGD):
        def velocity(self, t, state, gradient):
            return jax.tree.map(lambda g: -g * jnp.exp(-t) * self.learning_rate, gradient)

    assert Annealed(0.1).is_affine(VECTOR)


EVEN = {
    "square": lambda g: g**2,
    "times itself": lambda g: g * g,
    "absolute value": jnp.abs,
    "second moment": lambda g: 0.1 * g**2 + 0.9 * VECTOR**2,
    "root of a second moment": lambda g: jnp.sqrt(0.1 * (2.0 * g) ** 2 + VECTOR**2),
    "maximum with a second moment": lambda g: jnp.maximum(VECTOR, g**2),
    "norm": lambda g: jnp.sqrt(jnp.dot(g, g)),
    "fourth power of a sum": lambda g: jnp.sum(g) ** 4,
    "quotient of odd ones": lambda g: (MATRIX @ g) / g,
    "jitted": jax.jit(lambda g: g * g + 1.0),
}
NOT_EVEN = {
    "first moment": lambda g: 0.1 * g + 0.9 * VECTOR,
    "square of a first moment": lambda g: (0.1 * g + 0.9 * VECTOR) ** 2,
    "cube": lambda g: g**3,
    "square times odd": lambda g: g**2 * g,
    "odd over even": lambda g: g / g**2,
    "variance": lambda g: g**2 - (g + VECTOR) ** 2,
    "free": lambda g: VECTOR,
    "exponential": jnp.exp,
}


@pytest.mark.parametrize("name", EVEN | NOT_EVEN)
def test_even(name):
    """Against numbers too: what counts as even has the same value at g and -g, and depends on g."""
    function = (EVEN | NOT_EVEN)[name]
    assert (squares(function, VECTOR) == 1) == (name in EVEN)
    if name in EVEN:
        value = np.asarray(function(VECTOR))
        np.testing.assert_allclose(function(-VECTOR), value, rtol=1e-12)
        assert not np.allclose(function(2.0 * VECTOR), value) or name == "quotient of odd ones"


def test_even_by_leaf():
    rule = optax.scale_by_adam()

    def memory(g):
        with jax.numpy_dtype_promotion("standard"):
            return rule.update(g, rule.init(VECTOR))[1]

    found = squares(memory, VECTOR)
    assert (found.count, found.mu, found.nu) == (0, 0, 1)

"""Rules that are affine in the gradient by primitives that a list of names may miss, and what they say of themselves."""

import warnings

import equinox as eqx
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.interpreters import batching, mlir

from dynamics import solve
from equations import SGD, AbstractEquation, Diagonal, Objective, Scheduled, decayed, scheduled
from equations._checks import declared as _declared
from equations._checks.declared import check_linear
from equations._jaxpr.structure import is_affine
from equations._noise.squares import mean_square
from equations.internal import split

CASES = [
    ("affine rules by other primitives", "instance", "linalg.solve", "test_proven[solve]"),
    ("affine rules by other primitives", "instance", "cho_solve", "test_proven[cho_solve]"),
    ("affine rules by other primitives", "instance", ".at[].add", "test_proven[add]"),
    ("affine rules by other primitives", "instance", "checkpoint", "test_proven[checkpoint]"),
    ("affine rules by other primitives", "instance", "fft", "test_proven[fft]"),
    ("affine rules by other primitives", "brother", ".at[].set", "test_proven[set]"),
    ("affine rules by other primitives", "brother", "a convolution", "test_proven[convolution]"),
    ("affine rules by other primitives", "brother", "a recurrence by scan", "test_proven[scan]"),
    ("affine rules by other primitives", "brother", "a branch on what is fixed", "test_proven[branch]"),
    ("affine rules by other primitives", "brother", "the same primitives used otherwise", "test_not_proven"),
    ("declared affinity", "instance", "True wins over the guess", "test_declared"),
    ("declared affinity", "instance", "False takes the general path", "test_declared_false"),
    ("declared affinity", "instance", "a warning where True could be said", "test_a_word_where_it_costs"),
    ("declared affinity", "brother", "True of a clip that acts at other sizes", "test_false_declarations[clipped]"),
    ("declared affinity", "brother", "True of a dead zone", "test_false_declarations[dead_zone]"),
    ("declared affinity", "brother", "True where the derivative is another", "test_false_declarations[stopped]"),
    ("declared affinity", "brother", "True at the beginning alone: memory", "test_false_elsewhere[memory]"),
    ("declared affinity", "brother", "True at some parameters alone", "test_false_elsewhere[params]"),
    ("declared affinity", "brother", "True where there are no roots of negative memory", "test_true_elsewhere"),
    ("declared affinity", "brother", "a mutant that tries the beginning only", "test_mutant_of_the_trial"),
    ("declared affinity", "brother", "an override of is_affine", "test_is_affine_is_no_declaration"),
    ("declared affinity", "brother", "a field of the user's with this name", "test_not_a_flag"),
    ("declared affinity", "brother", "wrappers around a rule that declares", "test_wrappers_forward"),
    ("a primitive that is new", "instance", "squares of examples", "test_squares_of_a_new_primitive"),
    ("a primitive that is new", "brother", "under Diagonal noise", "test_diagonal_noise"),
    ("a primitive that is new", "brother", "in a rule", "test_a_rule_with_a_new_primitive"),
]  # fmt: skip

G = jnp.array([0.3, -1.2, 2.0, 0.1])
H = jnp.diag(jnp.array([1.0, 2.0, 3.0, 4.0])) + 0.1
FACTOR = jax.scipy.linalg.cho_factor(H)
PLACES = jnp.array([2, 0, 3, 1])
AFFINE = {
    "solve": lambda g: jnp.linalg.solve(H, g),
    "cho_solve": lambda g: jax.scipy.linalg.cho_solve(FACTOR, g),
    "add": lambda g: jnp.zeros(6).at[:4].add(g).at[1].add(2.0 * g[0])[:4],
    "set": lambda g: jnp.ones(4).at[PLACES].set(g),
    "checkpoint": jax.checkpoint(lambda g: H @ g + 1.0),
    "fft": lambda g: jnp.fft.irfft(jnp.fft.rfft(g) * (1.0 + 0.5j)),
    "convolution": lambda g: jnp.convolve(g, jnp.array([1.0, 2.0, 1.0]), mode="same"),
    "scan": lambda g: jax.lax.scan(lambda c, x: (0.9 * c + x, c), jnp.zeros(()), g)[1],
    "branch": lambda g: jax.lax.cond(H[0, 0] > 0, lambda g: 2.0 * g, lambda g: -g, g),
}
OTHERWISE = {
    "solve": lambda g: jnp.linalg.solve(H + jnp.diag(g), g),
    "cho_solve": lambda g: jax.scipy.linalg.cho_solve((H + jnp.diag(g), True), g),
    "set": lambda g: jnp.ones(4).at[jnp.argsort(g)].set(g),
    "checkpoint": jax.checkpoint(lambda g: g**2),
    "fft": lambda g: jnp.fft.irfft(jnp.fft.rfft(g) ** 2),
    "convolution": lambda g: jnp.convolve(g, g, mode="same"),
    "scan": lambda g: jax.lax.scan(lambda c, x: (c * x, c), jnp.ones(()), g)[1],
    "scan in the second pass": lambda g: jax.lax.scan(lambda c, x: ((c[1], c[0] * x), c[0]), (g[0], g[1]), g)[1],
    "branch": lambda g: jax.lax.cond(g[0] > 0, lambda g: 2.0 * g, lambda g: -g, g),
}


@pytest.mark.parametrize("name", AFFINE)
def test_proven(name):
    function = AFFINE[name]
    assert is_affine(function, G)
    value, slope = jax.jvp(function, (jnp.zeros(4),), (G,))
    np.testing.assert_allclose(function(G), value + slope, rtol=1e-10, atol=1e-12)


def test_not_proven():
    for name, function in OTHERWISE.items():
        assert not is_affine(function, G), name


class Rule(AbstractEquation):
    rule: object = eqx.field(default=None, static=True)

    def velocity(self, t, state, gradient):
        return -self.rule(gradient)

    def twin(self):
        return optax.sgd(self.learning_rate)


class Declared(Rule):
    linear = True


class General(Rule):
    linear = False


@jax.custom_jvp
def unknown(g):
    """Affine, but by a primitive that says nothing of it."""
    return H @ g


unknown.defjvp(lambda primals, tangents: (H @ primals[0], H @ tangents[0]))
DATA = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)))
OBJECTIVE = Objective(lambda w, e: 0.5 * jnp.sum((w - e) ** 2), DATA)
FALSE = {
    "clipped": lambda g: jnp.clip(g, -1e4, 1e4),
    "dead_zone": lambda g: jnp.where(jnp.abs(g) < 1e-4, 0.0, g),
    "stopped": jax.lax.stop_gradient,
}


@pytest.mark.slow
def test_declared():
    rule = Declared(0.05, 2, rule=unknown)
    plain = Rule(0.05, 2, rule=lambda g: H @ g)
    assert rule.is_affine(G) and not Rule(0.05, 2, rule=unknown).is_affine(G)
    rule.check(G, OBJECTIVE)
    normals = jnp.arange(8.0)
    kicks = [split(e).kick(0.0, G, OBJECTIVE, normals, 0.05 / 4) for e in (rule, plain)]
    np.testing.assert_allclose(*kicks, rtol=1e-12)


def test_declared_false():
    rule = General(0.05, 2, rule=lambda g: H @ g)
    assert not rule.is_affine(G)
    rule.check(G, OBJECTIVE)
    assert isinstance(split(rule).noise(G, OBJECTIVE, 2), tuple)


@pytest.mark.slow
def test_a_word_where_it_costs():
    with pytest.warns(UserWarning, match="looks affine in the gradient.*custom_jvp_call.*`linear = True`"):
        Rule(0.05, 2, rule=unknown).check(G, OBJECTIVE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_linear(Rule(0.05, rule=unknown), G)  # without noise it costs nothing
        for name in FALSE:
            check_linear(Rule(0.05, 2, rule=FALSE[name]), G)
        check_linear(Rule(0.05, 2, rule=lambda g: jax.nn.relu(g)), G)


@pytest.mark.parametrize("name", FALSE)
def test_false_declarations(name):
    with pytest.raises(ValueError, match="Attribute `linear` of Declared must be True only where"):
        Declared(0.05, 2, rule=FALSE[name]).check(G, OBJECTIVE)


class Remembering(AbstractEquation):
    """A rule of the parameters p, the memory m and the gradient g, with what the memory does."""

    linear = True
    rule: object = eqx.field(default=None, static=True)

    def init(self, params):
        return params, jnp.zeros_like(params)

    def params(self, state):
        return state[0]

    def velocity(self, t, state, gradient):
        return self.rule(t, *state, gradient), 1.0 - state[1]

    def twin(self):
        return optax.sgd(self.learning_rate)


ELSEWHERE = {
    "memory": lambda t, p, m, g: -g - m * g**2,
    "params": lambda t, p, m, g: -jnp.where(p > 0.5, g, g**3),
    "params below": lambda t, p, m, g: -jnp.where(p < -0.5, jnp.sqrt(m) * g**3, g),
    "time": lambda t, p, m, g: -jnp.where(t > 1, g**3, g),
    "sign of the memory": lambda t, p, m, g: -jnp.where(m < -0.5, g**3, g),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_false_elsewhere(name):
    with pytest.raises(ValueError, match="Attribute `linear` of Remembering must be True only where"):
        Remembering(0.05, 2, rule=ELSEWHERE[name]).check(jnp.zeros(4), OBJECTIVE)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_true_elsewhere(dtype):
    """Also where a state that cannot be has no value, in both precisions."""
    data = jnp.asarray(DATA, dtype)
    for rule in (
        lambda t, p, m, g: -jnp.sqrt(m) * g / (1 + m),
        lambda t, p, m, g: -jnp.log(m) * g - 0.1 * p + 0.9 * m,
        lambda t, p, m, g: -jnp.linalg.solve(jnp.diag(1 + p**2), g + m),
    ):
        Remembering(0.05, 2, rule=jax.checkpoint(rule)).check(
            jnp.ones(4, dtype), Objective(lambda w, e: 0.5 * jnp.sum((w - e) ** 2), data)
        )


def test_is_affine_is_no_declaration():
    for value in (True, False):
        mine = type("Mine", (Rule,), {"is_affine": lambda self, state, value=value: value})
        with pytest.raises(TypeError, match="must override the class attribute `linear`.*`is_affine` alone"):
            solve(mine(0.05, rule=jnp.tanh), OBJECTIVE, G, steps=1)


class Layered(Rule):
    linear: object = None


def test_not_a_flag():
    with pytest.raises(TypeError, match="Attribute `linear` of Layered must be True, False or None"):
        Layered(0.05, 2, rule=unknown, linear=jnp.eye(4)).check(G, OBJECTIVE)


def test_wrappers_forward():
    around = [decayed(Declared(0.05, 2, rule=unknown), 0.1), scheduled(Declared(0.05, 2, rule=unknown), lambda k: 1.0)]
    assert all(wrapper.linear is True and wrapper.is_affine(G) for wrapper in around)
    assert isinstance(around[1], Scheduled) and SGD(0.1).linear is None
    with pytest.raises(ValueError, match="Attribute `linear`"):
        decayed(Declared(0.05, 2, rule=FALSE["clipped"]), 0.1).check(G, OBJECTIVE)


class Novel(jax.extend.core.Primitive):
    """A primitive of a kind that nobody has seen: it is not bound as others are."""

    multiple_results = False

    def get_bind_params(self, params):
        raise NotImplementedError("bound in another way")


double = Novel("double")
double.def_abstract_eval(lambda x: x)
double.def_impl(lambda x: 2.0 * x)
mlir.register_lowering(double, mlir.lower_fun(lambda x: 2.0 * x, multiple_results=False))
batching.primitive_batchers[double] = lambda args, axes: (double.bind(*args), axes[0])
NEW = Objective(lambda w, e: 0.5 * (w @ double.bind(e)) ** 2, DATA)


def test_squares_of_a_new_primitive():
    with pytest.warns(UserWarning, match="example by example.*bound in another way"):
        found = mean_square(NEW, G)
    one = lambda e: (2.0 * e * (G @ (2.0 * e))) ** 2  # noqa: E731
    np.testing.assert_allclose(found, jnp.mean(jax.vmap(one)(DATA), axis=0), rtol=1e-12)


def test_diagonal_noise():
    sgd = SGD(0.01, 2, noise_model=Diagonal())
    with pytest.warns(UserWarning, match="example by example") as caught:
        found = sgd.gradient_noise.delta(sgd.batches(NEW), G, {"coordinates": jnp.ones(4)})
    same = Objective(lambda w, e: 0.5 * (w @ (2.0 * e)) ** 2, DATA)
    expected = sgd.gradient_noise.delta(sgd.batches(same), G, {"coordinates": jnp.ones(4)})
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert caught[0].filename == __file__


def test_a_rule_with_a_new_primitive():
    assert not Rule(0.05, 2, rule=double.bind).is_affine(G)
    assert Declared(0.05, 2, rule=double.bind).is_affine(G)


def test_mutant_of_the_trial(monkeypatch):
    """Tried at the beginning alone, a rule with memory passes."""
    monkeypatch.setattr(_declared, "moved_state", lambda equation, state, *args: state)
    Remembering(0.05, 2, rule=lambda t, p, m, g: -g - m * g**2).check(jnp.zeros(4), OBJECTIVE)

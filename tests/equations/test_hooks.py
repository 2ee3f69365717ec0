"""What a user's methods return is refused by class and method where it would be broadcast, cast or cut."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest

from dynamics import Strang, Trajectory, entropy_production, solve, stationary, train
from dynamics._arguments import hooks as _hooks
from equations import SGD, AbstractDynamics, GradientSplitting, Objective, Splitting, scheduled
from validation import compare, orders

CASES = [
    ("outputs of hooks", "instance", "a diagonal operator of one entry for a state of 3", "test_shapes[one entry]"),
    ("outputs of hooks", "instance", "a matrix operator (1, 3)", "test_shapes[one row]"),
    ("outputs of hooks", "instance", "smaller leaves in a PyTree operator", "test_a_leaf_of_an_operator"),
    ("outputs of hooks", "instance", "an own kick that returns a scalar", "test_shapes[scalar kick]"),
    ("outputs of hooks", "instance", "own noise that is a scalar", "test_shapes[scalar noise]"),
    ("outputs of hooks", "instance", "a larger operator", "test_shapes[larger]"),
    ("outputs of hooks", "instance", "stationary, of such an operator", "test_in_every_door"),
    ("outputs of hooks", "brother", "a first step of another shape", "test_shapes[start]"),
    ("outputs of hooks", "brother", "parameters of another shape", "test_shapes[params]"),
    ("outputs of hooks", "brother", "a drift without a leaf", "test_structure"),
    ("outputs of hooks", "brother", "integers as state, drift or noise; complex numbers", "test_dtypes"),
    ("outputs of hooks", "brother", "what is no operator", "test_dtypes[no operator]"),
    (
        "outputs of hooks",
        "brother",
        "a velocity of a rule inside a schedule, by Euler",
        "test_the_class_inside_is_named",
    ),
    ("outputs of hooks", "brother", "updates of a twin that are one number, or its memory another", "test_twins"),
    ("outputs of hooks", "brother", "under jit and vmap", "test_in_a_trace"),
    ("outputs of hooks", "brother", "float32 from a drift is cast, as documented", "test_another_precision_is_cast"),
    ("outputs of hooks", "brother", "a diffusion of an equation without batches", "test_a_diffusion_is_noise"),
    ("outputs of hooks", "brother", "an own kick beside a diffusion that raises", "test_an_own_kick_is_named"),
    ("outputs of hooks", "brother", "mutants of the check", "test_mutants"),
]

KEY, W = jax.random.key(0), jnp.ones(3)
OBJECTIVE = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.arange(6.0).reshape(2, 3))


class Walk(AbstractDynamics):
    """dX = -X dt + diffusion dW."""

    operator: lx.AbstractLinearOperator = lx.DiagonalLinearOperator(np.ones(3))

    def drift(self, t, state, signal):
        return jax.tree.map(jnp.negative, state)

    def diffusion(self, t, state, signal):
        return self.operator


class OneNumber(Splitting):
    def noise(self, state, signal, kicks_per_step):
        return jax.ShapeDtypeStruct((), state.dtype)


class OwnKick(OneNumber):
    def kick(self, t, state, signal, noise, dt):
        return jnp.sqrt(dt) * noise


class ScalarKick(Walk):
    def splitting(self):
        return OwnKick(self)


class ScalarNoise(Walk):
    def splitting(self):
        return OneNumber(self)


class Begun(Splitting):
    def start(self, state, signal, noise):
        return jnp.ones(1)


class OneStart(Walk):
    def splitting(self):
        return Begun(self)


class FirstParameter(Walk):
    def params(self, state):
        return state[:1]


class NoLeaf(Walk):
    def drift(self, t, state, signal):
        return {"a": -state["a"]}


class IntegerState(Walk):
    def init(self, params):
        return params, jnp.zeros((), int)


class IntegerDrift(Walk):
    def drift(self, t, state, signal):
        return jnp.ones(3, int)


class NoOperator(Walk):
    def diffusion(self, t, state, signal):
        return jnp.ones(3)


class Integers(Splitting):
    def noise(self, state, signal, kicks_per_step):
        return jax.ShapeDtypeStruct((3,), int)

    def kick(self, t, state, signal, noise, dt):
        return noise


class IntegerNoise(Walk):
    def splitting(self):
        return Integers(self)


class Summed(SGD):
    def velocity(self, t, state, gradient):
        return -jnp.sum(gradient)


def diagonal(size, dtype=float):
    return lx.DiagonalLinearOperator(jnp.ones(size, dtype))


def run(dynamics, params=W):
    return solve(dynamics, None, params, steps=2, dt=0.1, key=KEY)


@pytest.mark.parametrize(
    ("dynamics", "words"),
    [
        (Walk(diagonal(1)), "Walk.diffusion gives an array of shape (1,)"),
        (Walk(lx.MatrixLinearOperator(jnp.ones((1, 3)))), "Walk.diffusion gives an array of shape (1,)"),
        (Walk(diagonal(4)), "Walk.diffusion gives an array of shape (4,)"),
        (ScalarKick(), "OwnKick.kick gives an array of shape ()"),
        (ScalarNoise(), "OneNumber.noise gives an array of shape ()"),
        (OneStart(), "Begun.start gives an array of shape (1,)"),
        (FirstParameter(), "FirstParameter.params gives an array of shape (1,)"),
    ],
    ids=["one entry", "one row", "larger", "scalar kick", "scalar noise", "start", "params"],
)
def test_shapes(dynamics, words):
    with pytest.raises(ValueError) as found:
        run(dynamics)
    assert words in str(found.value) and "(3,)" in str(found.value)


def test_a_leaf_of_an_operator():
    state = {"a": jnp.ones(2), "b": jnp.ones(3)}
    outputs = {"a": jax.ShapeDtypeStruct((2,), float), "b": jax.ShapeDtypeStruct((1,), float)}
    rows = {"a": jnp.ones((2, 4)), "b": jnp.ones((1, 4))}
    with pytest.raises(ValueError, match=r"of shape \(3,\) at `\['b'\]`, but Walk.diffusion gives .* \(1,\)"):
        run(Walk(lx.PyTreeLinearOperator(rows, outputs)), state)


def test_structure():
    with pytest.raises(ValueError, match=r"NoLeaf.flow gives \{'a': ShapeDtypeStruct\(shape=\(2,\), dtype=float64\)\}"):
        solve(NoLeaf(lx.DiagonalLinearOperator({"a": jnp.ones(2), "b": jnp.ones(3)})), None,
              {"a": jnp.ones(2), "b": jnp.ones(3)}, steps=2, dt=0.1, key=KEY, solver=dfx.Euler())  # fmt: skip


@pytest.mark.parametrize(
    ("dynamics", "words"),
    [
        (IntegerState(), "IntegerState.init gives int64 at `[1]`"),
        (IntegerDrift(), "IntegerDrift.flow gives int64"),
        (IntegerNoise(), "Integers.noise gives ShapeDtypeStruct"),
        (Walk(diagonal(3, complex)), "Walk.diffusion gives complex128"),
        (NoOperator(), "NoOperator.diffusion gives"),
    ],
    ids=["state", "drift", "noise", "complex", "no operator"],
)
def test_dtypes(dynamics, words):
    with pytest.raises(TypeError) as found:
        run(dynamics)
    assert words in str(found.value)


def test_another_precision_is_cast():
    """To that of the state, as everywhere."""

    class Half(Walk):
        def drift(self, t, state, signal):
            return (-state).astype(jnp.float32)

    _hooks.check_hooks(Half(), None, W, ("drift", "flow", "kick", "diffusion"))


@pytest.mark.parametrize("solver", [None, Strang(), dfx.Euler()])
def test_the_class_inside_is_named(solver):
    equation = scheduled(Summed(0.1), optax.constant_schedule(0.5))
    with pytest.raises(ValueError, match=r"velocity or drift like its state.* Summed.velocity gives .* \(\)"):
        solve(equation, OBJECTIVE, W, steps=2, solver=solver)


class OneRow(SGD):
    def diffusion(self, t, state, signal):
        return diagonal(1)


def doors():
    one, rates = OneRow(0.1, 1), [0.1, 0.05, 0.025]
    wrong, saved = Walk(diagonal(1)), jnp.arange(3)
    ok, failed_at = jnp.array([True]), jnp.array([-1])
    path = Trajectory(
        saved, jnp.array([0.0, 0.1, 0.2]), {}, W[None], ok, failed_at, wrong, "equation", (), jnp.ones((1, 3, 3))
    )
    return {
        "solve": lambda: solve(one, OBJECTIVE, W, steps=2, key=KEY),
        "compare": lambda: compare(one, OBJECTIVE, W, steps=2, key=KEY),
        "orders": lambda: orders(one, OBJECTIVE, W, time=1.0, learning_rates=rates, key=KEY),
        "stationary": lambda: stationary(one, OBJECTIVE, W),
        "stationary of a dynamics": lambda: stationary(wrong, None, W),
        "entropy_production": lambda: entropy_production(wrong, None, path),
    }


def test_in_every_door():
    for name, call in doors().items():
        with pytest.raises(ValueError, match=r"diffusion gives an array of shape \(1,\)"):
            call()
        print(name)


@pytest.mark.parametrize("kind", ["updates", "memory"])
def test_twins(kind):
    class Rule(SGD):
        def twin(self):
            def update(gradient, memory, params=None):
                if kind == "updates":
                    return jnp.sum(gradient), memory
                return gradient, memory[:1]

            return optax.GradientTransformation(lambda params: jnp.zeros(2), update)

    for call in (train, compare):
        with pytest.raises(ValueError, match=f"like .* in its {kind}.* Rule.twin gives"):
            call(Rule(0.1), OBJECTIVE, W, steps=2)


def test_in_a_trace():
    """They need shapes only."""

    def final(scale):
        return run(Walk(lx.DiagonalLinearOperator(scale))).final

    for traced in (jax.jit(final), jax.vmap(final)):
        with pytest.raises(ValueError, match="Walk.diffusion gives an array of shape"):
            traced(jnp.ones((1, 1)))


def test_a_diffusion_is_noise():
    """Of a class of the user's, with or without batches; the gradients of its algorithm are as they are."""

    class Hot(SGD):
        def diffusion(self, t, state, signal):
            return diagonal(3)

    assert Hot(0.1).random and not SGD(0.1).random
    with pytest.raises(ValueError, match="Argument `key`"):
        solve(Hot(0.1), OBJECTIVE, W, steps=2)
    ends = solve(Hot(0.1), OBJECTIVE, W, steps=2, key=KEY, paths=2).final
    assert np.all(ends[0] != ends[1])
    train(Hot(0.1), OBJECTIVE, W, steps=2, noise="gaussian")


def test_an_own_kick_is_named():
    """And not the diffusion that it leaves unused."""

    def kick(self, t, state, signal, noise, dt):
        return jnp.ones(1)

    class Three(Splitting):
        def noise(self, state, signal, kicks_per_step):
            return jax.ShapeDtypeStruct((3,), state.dtype)

    Three.kick = kick

    class Gradients(GradientSplitting):
        pass

    Gradients.kick = kick

    class Mine(Walk):
        def splitting(self):
            return Three(self)

        def diffusion(self, t, state, signal):
            raise NotImplementedError("no diffusion")

    class Ours(SGD):
        diffusion = Mine.diffusion

        def splitting(self):
            return Gradients(self)

    for equation, objective, options in ((Mine(), None, {"dt": 0.1}), (Ours(0.1, 1), OBJECTIVE, {})):
        with pytest.raises(ValueError, match=f"{type(equation.splitting()).__name__}.kick gives an array of shape"):
            solve(equation, objective, W, steps=2, key=KEY, **options)


@pytest.mark.parametrize("part", ["_diffusion", "_floating", "_same"])
def test_mutants(part, monkeypatch):
    """The check without the diffusion's output, without dtypes and without shapes lets pass what it refuses."""

    class Mine(Walk):
        def drift(self, t, state, signal):
            return {"_diffusion": -state, "_floating": jnp.ones(3, int), "_same": -state[:1]}[part]

    dynamics = Mine(diagonal(1)) if part == "_diffusion" else Mine()
    hooks = ("diffusion",) if part == "_diffusion" else ("drift",)
    with pytest.raises((ValueError, TypeError)):
        _hooks.check_hooks(dynamics, None, W, hooks)
    monkeypatch.setattr(_hooks, part, lambda *args: True)
    _hooks.check_hooks(dynamics, None, W, hooks)

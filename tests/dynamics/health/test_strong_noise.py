"""Noise that is not small within a step of the solver is told of, and noise that is passes."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from marks import some
from warned import solved

from dynamics import Strang
from dynamics._health import health as _health
from dynamics._health.strong_noise import LARGEST_THROUGH, through_flow
from equations import SGD, AbstractDynamics, Isotropic, Langevin, Momentum, Objective, scheduled
from equations.internal import split

CASES = [
    ("noise that is not small within a step", "instance", "a saddle with eta s^2 = 8", "test_a_saddle"),
    ("noise that is not small within a step", "brother", "single examples at eta lambda = 1", "test_batches[strong]"),
    ("noise that is not small within a step", "brother", "one kick a step", "test_one_kick_is_asked_for"),
    ("noise that is not small within a step", "brother", "single examples at eta lambda = 1/4", "test_batches[weak]"),
    ("noise that is not small within a step", "brother", "additive noise of any size", "test_additive_noise_passes"),
    ("noise that acts through the flow", "instance", "momentum at eta lambda = 2", "test_momentum[far]"),
    ("noise that acts through the flow", "brother", "momentum on single examples at 1/4", "test_momentum[single]"),
    ("noise that acts through the flow", "brother", "momentum under a schedule", "test_momentum[scheduled]"),
    ("noise that acts through the flow", "brother", "a particle with noise in its velocity", "test_a_particle"),
    (
        "noise that acts through the flow",
        "brother",
        "states of every direction and size",
        "test_one_number_at_every_state",
    ),
    (
        "noise that acts through the flow",
        "brother",
        "one look before the flow",
        "test_a_look_before_the_flow_is_caught",
    ),
    ("noise that is not small within a step", "brother", "one number among many", "test_one_number_of_many"),
    ("noise that is strong at the largest rate", "instance", "SGD at a saddle", "test_the_top_of_a_rate[sgd]"),
    ("noise that is strong at the largest rate", "brother", "Euler's substeps", "test_the_top_of_a_rate[euler]"),
    (
        "noise that is strong at the largest rate",
        "brother",
        "momentum, through the flow",
        "test_the_top_of_a_rate[momentum]",
    ),
    ("noise that is strong at the largest rate", "brother", "a look at the ends alone", "test_ends_alone_are_caught"),
    ("noise that is not small within a step", "brother", "one look at a kick", "test_a_look_at_one_kick_is_caught"),
]


class Saddle(AbstractDynamics):
    """dX = a X dt + s X dW, whose typical path grows as exp[(a - s^2/2) t]."""

    growth: jax.Array
    noise_rate: jax.Array

    def drift(self, t, y, signal):
        return self.growth * y

    def diffusion(self, t, y, signal):
        return lx.DiagonalLinearOperator(jnp.sqrt(self.noise_rate) * y)


def exponents(trajectory, time):
    """The rate of growth of typical paths, and its standard error."""
    rates = np.log(np.abs(np.asarray(trajectory.final))).ravel() / time
    return rates.mean(), rates.std() / rates.size**0.5


def test_a_saddle(key):
    saddle = Saddle(jnp.asarray(2.0), jnp.asarray(8.0))
    arguments = dict(steps=32, save_every=32, dt=0.08, key=key, paths=2000)
    wrong, messages = solved(saddle, None, jnp.ones(1), substeps=4, **arguments)
    value, error = exponents(wrong, 32 * 0.08)
    assert value < -2 - 5 * error  # the typical path decays as exp(-2 t)
    assert len(messages) == 1 and "noise of a solver's step" in messages[0] and "`substeps`" in messages[0], messages
    assert dict(wrong.details)["strong_noise"] == messages[0]
    right, messages = solved(saddle, None, jnp.ones(1), substeps=32, **arguments)
    value, error = exponents(right, 32 * 0.08)
    assert not messages and abs(value + 2) < 4 * error
    # Weak beside a contraction, the same noise passes.
    assert not solved(Saddle(jnp.asarray(-10.0), jnp.asarray(8.0)), None, jnp.ones(1), substeps=4, **arguments)[1]


def squared(w, e):
    return (e[0] @ w - e[1]) ** 2 / 2


def regression(seed, size=40):
    """Scales 1, .7, .4, .2 as where the solver's covariance was measured, and the largest curvature."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((size, 4)) * np.asarray([1, 0.7, 0.4, 0.2])
    y = x @ rng.standard_normal(4) + 0.5 * rng.standard_normal(size)
    return Objective(squared, (x, y)), np.linalg.eigvalsh(x.T @ x / size)[-1]


@pytest.mark.parametrize("step", some(["weak", "strong"], ["strong"]))
def test_batches(step, key):
    share = {"weak": 0.25, "strong": 1.0}[step]
    for seed in range(3):
        objective, curvature = regression(seed)
        for size in (1, 4) if step == "weak" else (1,):
            equation = SGD(share / curvature, size)
            _, messages = solved(equation, objective, jnp.zeros(4), steps=8, save_every=8, key=key)
            assert len(messages) == (step == "strong"), (seed, size, messages)


def test_one_kick_is_asked_for(key):
    saddle = Saddle(jnp.asarray(-1.0), jnp.asarray(8.0))
    _, messages = solved(saddle, None, jnp.ones(1), steps=4, save_every=4, dt=0.1, key=key, solver=Strang(kicks=1))
    assert len(messages) == 1 and "89%" in messages[0]  # sqrt(.8)


ADDITIVE = [
    SGD(0.1, noise_model=Isotropic(100.0)),
    Langevin(0.1, temperature=1e4),
    Momentum(0.1, noise_model=Isotropic(9.0)),
]


@pytest.mark.parametrize("equation", ADDITIVE, ids=lambda equation: type(equation).__name__)
def test_additive_noise_passes(equation, key):
    objective, _ = regression(0)
    assert not solved(equation, objective, jnp.zeros(4), steps=8, save_every=8, key=key)[1]


RUNS = {
    "far": (Momentum(2.0, 16), (1,)),
    "single": (Momentum(0.25, 1), ()),
    "scheduled": (scheduled(Momentum(4.0, 16), lambda step: 0.5 + 0 * step), (1,)),
}


def momentum(name, substeps, key):
    """On a largest curvature of one."""
    objective, curvature = regression(0)
    scaled = Objective(lambda w, e: squared(w, e) / curvature, objective.data)
    return solved(
        RUNS[name][0], scaled, jnp.zeros(4), steps=60, save_every=60, key=key, substeps=substeps, paths=50,
        observe={"loss": scaled.value},
    )  # fmt: skip


@pytest.mark.parametrize("name", some(RUNS, []))
def test_momentum(name, key):
    losses = []
    for substeps in (1, 4) if name == "far" else (1,):
        trajectory, messages = momentum(name, substeps, key)
        losses.append(np.mean(trajectory.observables["loss"][:, -1]))
        strong = [message for message in messages if "noise of a solver's step" in message]
        assert len(strong) == len(messages) == (substeps in RUNS[name][1]), (substeps, messages)
    if name == "far":  # what is warned of is far from what is not
        assert losses[0] > 50 * losses[1]


def test_one_number_at_every_state():
    """Where a path is when it is looked at is chance, which does not decide whether it is told of."""
    objective, curvature = regression(0)
    signal = Objective(lambda w, e: squared(w, e) / curvature, objective.data).bind(None)
    states = 10 ** np.linspace(0, 3, 6)[:, None, None] * np.random.default_rng(0).standard_normal((6, 2, 4))

    @jax.jit
    def look(equation, states):
        start, zero = jax.tree.structure(equation.init(jnp.zeros(4))), jnp.zeros(())
        one = lambda y: through_flow(equation, signal, zero, jax.tree.unflatten(start, y), equation.learning_rate)  # noqa: E731
        return jax.lax.map(one, states)

    found = {name: look(RUNS[name][0], (states[:, 0], states[:, 1])) for name in ("single", "far")}
    print(f"\n{found}")
    assert np.all(found["single"] < 0.9 * LARGEST_THROUGH) and np.all(found["far"] > 2 * LARGEST_THROUGH)


class OneOfMany(AbstractDynamics):
    """Additive noise in all numbers but the first, whose noise is its own."""

    def drift(self, t, y, signal):
        return -y

    def diffusion(self, t, y, signal):
        return lx.DiagonalLinearOperator(jnp.where(jnp.arange(y.size) == 0, 3 * y, 1.0))


def test_one_number_of_many():
    """Seen where the docstring of `solve` says so; up to there the sum over all hides it."""
    zero, step = jnp.zeros(()), jnp.asarray(0.1)
    for size in (64, 65):
        found = _health.changes(OneOfMany(), None, zero, 0.1 * jnp.ones(size), step)[0]
        assert found[0] < _health.LARGEST_ALONE
        assert found.shape == (1 + size,) if size == 64 else found.shape == (1,)
        if size == 64:
            np.testing.assert_allclose(found[1:], np.where(np.arange(64) == 0, 0.9**0.5, 0), atol=1e-6)


class Particle(AbstractDynamics):
    """dx = v dt, dv = (-x - v) dt + s x dW."""

    strength: jax.Array

    def drift(self, t, y, signal):
        return jnp.stack([y[1], -y[0] - y[1]])

    def diffusion(self, t, y, signal):
        return lx.DiagonalLinearOperator(jnp.stack([0 * y[0], self.strength * y[0]]))


def particle(dt, key):
    return solved(Particle(jnp.asarray(2.0)), None, jnp.ones(2), steps=16, save_every=16, dt=dt, key=key)[1]


@pytest.mark.slow
def test_a_particle(key):
    messages = particle(0.5, key)
    assert len(messages) == 1 and "noise of a solver's step" in messages[0], messages
    assert not particle(0.1, key)


def test_a_look_before_the_flow_is_caught(monkeypatch, key):
    def one_look(pair, place):
        t, state = jax.tree.map(lambda leaf: leaf[place], (pair.times, pair.states))
        return jnp.max(_health.changes(pair.dynamics, pair.signal, t, state, pair.dt)[0])

    monkeypatch.setattr(_health, "_through_flow", one_look)
    assert not particle(0.5, key)


def test_a_look_at_one_kick_is_caught(monkeypatch, key):
    """An estimate that asks how large a kick is beside the state is silent here, where the state is large."""

    def beside_the_state(dynamics, signal, t, state, dt, count):
        normals = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), split(dynamics).noise(state, signal, 2))
        kick = split(dynamics).kick(t, state, signal, normals, dt)
        return jnp.linalg.norm(kick) / jnp.linalg.norm(state), jnp.zeros(()), state[None]

    def told():
        class Shifted(Saddle):  # another class in every call, of which nothing is compiled
            def diffusion(self, t, y, signal):
                return lx.DiagonalLinearOperator(jnp.sqrt(self.noise_rate) * (y - 100))

        shifted = Shifted(jnp.asarray(0.0), jnp.asarray(8.0)), None, jnp.asarray([101.0])
        return solved(*shifted, steps=2, save_every=2, dt=0.1, key=key)[1]

    assert len(told()) == 1
    monkeypatch.setattr(_health, "changes", beside_the_state)
    assert not told()


SIGNS = Objective(lambda w, e: (3 * e - 1) * jnp.sum(w**2) / 2, np.resize([1.0, -1.0], 16))
HUMP = lambda step: jnp.sin(jnp.pi * (step + 0.5) / 60) ** 2  # noqa: E731  (1 in the middle, next to nothing at the ends)
TOPS = {  # whose noise is strong, whose is not, and how they are solved
    "sgd": (SGD(0.3, 1), SGD(0.01, 1), {}),
    "euler": (SGD(0.5, 1), SGD(0.02, 1), dict(solver=dfx.Euler(), substeps=2)),
    "momentum": (Momentum(1.0, 1), Momentum(0.05, 1), {}),
}


@pytest.mark.parametrize("name", some(TOPS, []))
def test_the_top_of_a_rate(name, key):
    strong, weak, how = TOPS[name]
    settings = dict(steps=60, save_every=60, key=key) | how
    messages = solved(scheduled(strong, HUMP), SIGNS, jnp.full(2, 0.1), **settings)[1]
    assert len(messages) == 1 and "is not small in the course of the run (step 30)" in messages[0], messages
    assert not solved(scheduled(weak, HUMP), SIGNS, jnp.full(2, 0.1), **settings)[1]


def test_ends_alone_are_caught(monkeypatch, key):
    monkeypatch.setattr(_health, "top", lambda path: None)
    assert not solved(scheduled(SGD(0.3, 1), HUMP), SIGNS, jnp.full(2, 0.1), steps=60, save_every=60, key=key)[1]

"""A splitting of the user's is one of his drift and his diffusion, or it is refused by class and member."""

import dataclasses

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from marks import some

from dynamics import Strang, solve
from dynamics.internal import dynamic_numbers
from equations import (
    SGD,
    AbstractDynamics,
    AbstractEquation,
    Adam,
    GradientSplitting,
    Isotropic,
    Momentum,
    Objective,
    SignSGD,
    Splitting,
    StudentT,
    UnderdampedLangevin,
    decayed,
    modified,
    scheduled,
)
from equations._checks import agreement

CASES = [
    ("a splitting of another equation", "instance", "a flow three times as large, or half of it", "test_flows[3-SGD]"),
    ("a splitting of another equation", "instance", "a kick three times as large", "test_kicks[three-SGD]"),
    ("a splitting of another equation", "instance", "a kick with a mean", "test_kicks[mean-SGD]"),
    ("a splitting of another equation", "instance", "noise that is None", "test_no_noise"),
    ("a splitting of another equation", "instance", "euler alone", "test_euler"),
    ("a splitting of another equation", "instance", "a plain process with another flow", "test_plain"),
    ("a splitting of another equation", "instance", "leapfrog of SGD", "test_leapfrog"),
    ("a splitting of another equation", "instance", "drift and splitting in one class", "test_drift_and_splitting"),
    ("a splitting of another equation", "brother", "of Adam, over draws", "test_kicks[three-Adam]"),
    ("a splitting of another equation", "brother", "under a wrapper, in a series", "test_inside"),
    ("a splitting of another equation", "brother", "one kick where there must be two", "test_kicks_that_change"),
    ("a splitting of another equation", "brother", "those that agree pass", "test_what_agrees"),
    ("a splitting of another equation", "brother", "also in float32", "test_in_float32"),
    ("a splitting of another equation", "brother", "an exact kick, of finite times", "test_an_exact_kick"),
    ("a splitting of another equation", "brother", "a kick that nobody else tells of", "test_the_kick_alone"),
    ("a splitting of another equation", "brother", "only for classes of a user's", "test_not_for_ours"),
    ("a splitting of another equation", "brother", "by every solver", "test_in_every_run"),
    ("a splitting of another equation", "brother", "a mutant that is too patient", "test_mutant"),
]
DATA = np.array([[-1.0, 0.5], [1.0, -0.5], [0.3, 0.2]])
OBJECTIVE = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2) + 0.1 * jnp.sum(w**4), DATA)
W, ETA = jnp.ones(2), 0.1
HALF = optax.constant_schedule(0.5)
FLOW, KICK = "whose flow and mean of the kick are together its drift", "whose kick has the covariance of its diffusion"


def times(factor, tree):
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), tree)


def of(base, part=None, **members):
    """A subclass of an equation with a splitting of its own, made of that of the equation."""
    part = part or type(base(ETA).splitting())
    mine = type("Mine", (part,), members)

    def splitting(self):
        values = {f.name: getattr(base.splitting(self), f.name) for f in dataclasses.fields(part) if f.init}
        return mine(**values)

    return type("Rule", (base,), {"splitting": splitting})


def agreed(equation, objective=OBJECTIVE, params=W, dt=ETA):
    """The check, on numbers as a run has them."""
    if isinstance(objective, Objective):
        objective = Objective(objective.loss, jnp.asarray(objective.data, params.dtype)).bind(None)
    agreement.check_agreement(dynamic_numbers(equation), objective, params, jnp.asarray(dt))


def refused(equation, words, member, **given):
    with pytest.raises(ValueError, match="Argument `equation` must have a splitting") as found:
        agreed(equation, **given)
    assert words in str(found.value) and f"{member} gives another one" in str(found.value), found.value


def scaled(name, factor):
    def member(self, *args):
        return times(factor, getattr(super(type(self), self), name)(*args))

    return {name: member}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "base"),
    [(3.0, SGD), (0.5, SGD), (3.0, Momentum), pytest.param(0.5, Momentum, marks=pytest.mark.slow)],
    ids=["3-SGD", "half-SGD", "3-Momentum", "half-Momentum"],
)
def test_flows(base, factor):
    """With batches, and without noise."""
    for size in (1, None):
        refused(of(base, **scaled("flow", factor))(ETA, size), FLOW, "Mine.flow")


def with_mean(self, t, state, signal, noise, dt):
    kick = super(type(self), self).kick(t, state, signal, noise, dt)
    return jax.tree.map(lambda leaf: leaf + dt.astype(leaf.dtype), kick)


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        ("three", SGD),
        ("three", Adam),
        pytest.param("three", SignSGD, marks=pytest.mark.slow),
        ("mean", SGD),
        pytest.param("mean", Adam, marks=pytest.mark.slow),
        ("mean", SignSGD),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_kicks(base, kind):
    """Of a rule that is affine in the gradient exactly, of others over draws, where a mean is left out as well."""
    rule = of(base, **scaled("kick", 3.0)) if kind == "three" else of(base, kick=with_mean)
    noise = {"noise_model": Isotropic(2.0)} if base is SignSGD else {"batch_size": 1}
    refused(rule(ETA, **noise), KICK if kind == "three" and base is not Adam else FLOW, "Mine.kick")


def test_no_noise():
    refused(of(SGD, noise=lambda self, *args: None)(ETA, 1), KICK, "Mine.noise")


@pytest.mark.slow
def test_euler():
    """Alone; of a rule that is not affine too."""
    for base in (SGD, Adam):
        refused(of(base, **scaled("euler", 2.0))(ETA, 1), "whose Euler step", "Mine.euler")


class Process(AbstractDynamics):
    """d X = -X dt + 0.3 dW."""

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(0.3 * jnp.ones_like(state))


def process(**members):
    part = type("Mine", (Splitting,), members)
    return type("Rule", (Process,), {"splitting": lambda self: part(self)})()


@pytest.mark.slow
def test_plain():
    run = dict(objective=None, dt=0.1)
    refused(process(flow=lambda self, t, state, signal: -3 * state), FLOW, "Mine.flow", **run)
    refused(process(**scaled("kick", 2.0)), KICK, "Mine.kick", **run)
    agreed(process(**scaled("kick", -1.0)), **run)


@pytest.mark.slow
def test_leapfrog():
    """The gradient of SGD moves what it is taken at; that of momentum moves the memory alone."""
    leap = {"splitting": lambda self: GradientSplitting(self, leapfrog=True)}
    for size in (1, None):
        refused(type("Rule", (SGD,), leap)(ETA, size), "no kick changes the next one", "Rule.splitting")
    for base in (Momentum, UnderdampedLangevin):
        agreed(type("Rule", (base,), leap)(ETA, 1))


def test_drift_and_splitting():
    def drift(self, t, state, signal):
        return times(3.0, SGD.drift(self, t, state, signal))

    both = {"drift": drift, "splitting": lambda self: GradientSplitting(self)}
    refused(type("Rule", (SGD,), both)(ETA, 1), FLOW, "Rule.splitting")
    agreed(type("Rule", (SGD,), {"drift": drift})(ETA, 1))


def test_inside():
    wrong, right = of(SGD, **scaled("flow", 3.0))(ETA, 1), of(SGD)(ETA, 1)
    for around in (lambda rule: scheduled(rule, HALF), lambda rule: decayed(scheduled(rule, HALF), 0.1)):
        refused(around(wrong), FLOW, "Mine.flow")
        agreed(around(right))
    with pytest.warns(UserWarning, match="Rule.splitting has no part in it"):
        agreed(modified(wrong))  # which is of the twin


def test_kicks_that_change():
    refused(of(SGD, kicks=1)(ETA, 1), "where `kicks` is 1", "Mine.kicks", objective=multiplicative())
    agreed(of(SGD, kicks=1)(ETA, noise_model=Isotropic(0.3)))


def multiplicative():
    return Objective(lambda w, x: 0.5 * jnp.sum(x * w**2), DATA**2)


class Cubes(AbstractEquation):
    """Neither affine in the gradient nor of the second degree."""

    def velocity(self, t, state, gradient):
        return -(gradient**3)

    def twin(self):
        return optax.stateless(lambda gradient, params: -self.learning_rate * gradient**3)


class Mirrored(GradientSplitting):
    """Of the same law by other numbers."""

    def kick(self, t, state, signal, noise, dt):
        return super().kick(t, state, signal, times(-1.0, noise), dt)


AGREE = {
    "SGD": of(SGD)(ETA, 1),
    "Adam": of(Adam)(ETA, 1),
    "sign": of(SignSGD)(ETA, noise_model=Isotropic(0.3)),
    "tails": of(SGD)(ETA, 1, noise_model=StudentT(4.0, 0.3)),
    "an own rule": type("Rule", (Cubes,), {"splitting": lambda self: GradientSplitting(self)})(ETA, 1),
    "mirrored": type("Rule", (SGD,), {"splitting": lambda self: Mirrored(self)})(ETA, 1),
    "mirrored cubes": type("Rule", (Cubes,), {"splitting": lambda self: Mirrored(self)})(
        ETA, noise_model=Isotropic(0.3)
    ),
}


@pytest.mark.parametrize("name", some(AGREE, ["SGD", "Adam", "sign", "an own rule"]))
def test_what_agrees(name):
    agreed(AGREE[name])
    agreed(dataclasses.replace(AGREE[name], batch_size=None))


def test_in_float32():
    params = W.astype(jnp.float32)
    for rule in (AGREE["SGD"], AGREE["Adam"]):
        agreed(rule, params=params)
    refused(of(SGD, **scaled("kick", 1.1))(ETA, 1), KICK, "Mine.kick", params=params)


def test_an_exact_kick():
    """Over the time of a kick, as long as a step of the process's own time: of the leading order is what counts."""

    def kick(self, t, state, signal, noise, dt):
        return 0.3 * jnp.sqrt((1 - jnp.exp(-2 * dt)) / 2).astype(state.dtype) * noise

    for params in (W, W.astype(jnp.float32)):
        agreed(process(kick=kick), objective=None, dt=1.0, params=params)


def test_the_kick_alone():
    """Where nobody gives a diffusion the kick says what the noise is."""

    def noise(self, state, signal, kicks_per_step):
        return jax.ShapeDtypeStruct(state.shape, state.dtype)

    rule = process(noise=noise, kick=lambda self, t, state, signal, noise, dt: jnp.sqrt(dt) * noise)
    silent = type("Rule", (AbstractDynamics,), {"drift": Process.drift, "splitting": type(rule).splitting})()
    agreed(silent, objective=None, dt=0.1)
    with pytest.raises(ValueError, match="whose kick has the covariance of its diffusion"):
        agreed(rule, objective=None, dt=0.1)


def test_not_for_ours(monkeypatch):
    """Nor for a class that gives no splitting, nor under a trace; for others once, whatever their numbers."""
    calls = []
    monkeypatch.setattr(agreement, "_found", lambda *args: calls.append(args) or agreement._Found(0.0, 0.0, 0.0, 0.0))
    for rule in (SGD(ETA, 1), scheduled(Adam(ETA, 1), HALF), type("Rule", (SGD,), {})(ETA, 1)):
        agreed(rule)
    agreed(Process(), objective=None)
    rule = of(SGD)
    jax.jit(lambda w: agreed(rule(ETA, 1), params=w) or w)(W)
    assert not calls
    for rate in (ETA, 0.2):
        agreed(rule(rate, 1))
    assert len(calls) == 1


def test_in_every_run():
    """Before anything is compiled, whatever the solver."""
    wrong = of(SGD, **scaled("flow", 3.0))
    for solver in (None, dfx.Euler(), Strang()):
        for size in (1, None):
            with pytest.raises(ValueError, match="whose flow and mean of the kick"):
                solve(wrong(ETA, size), OBJECTIVE, W, steps=2, key=jax.random.key(0), solver=solver)


def test_mutant(monkeypatch):
    """Of a check that allows a hundred times as much."""
    rule = of(SGD, **scaled("flow", 1.5))(ETA, 1)
    refused(rule, FLOW, "Mine.flow")
    monkeypatch.setattr(agreement, "_OFF", 2.0)
    agreed(of(SGD, **scaled("flow", 1.5))(ETA, 1))  # of a new class, for which all is made anew

"""What a class of the user's gives under a name that only circuits have, or of an old check, is refused by that name; and
what fails inside of a property of his says what has failed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve
from equations import (
    SGD,
    AbstractCircuit,
    AbstractDynamics,
    AbstractStream,
    Adam,
    Isotropic,
    Momentum,
    Objective,
    Stimulus,
    scheduled,
)
from equations._checks import old_names
from equations._checks.overrides import check_class
from equations.internal import split

CASES = [
    ("a delay of no circuit", "instance", "delayed on an AbstractDynamics", "test_circuits_alone[delayed]"),
    ("a delay of no circuit", "instance", "a field delay, under a stream", "test_a_delay_under_a_stream"),
    ("a delay of no circuit", "brother", "check_step of an equation, in a schedule", "test_circuits_alone[check_step]"),
    ("a delay of no circuit", "brother", "that of a circuit is its own", "test_a_circuit"),
    ("a check by its old name", "instance", "check_noise and check_sampling", "test_checks[check_noise]"),
    ("a check by its old name", "brother", "read under its old name", "test_checks_are_read"),
    ("a check by its old name", "brother", "of a dynamics", "test_checks[check_sampling]"),
    ("a property that fails", "instance", "gradient_noise", "test_failing[gradient_noise]"),
    ("a property that fails", "brother", "random, one of an old name, a new one", "test_failing[leapfrog]"),
    ("a property that fails", "brother", "mutants of these checks", "test_mutants"),
    ("a property that fails", "brother", "of a plain dynamics, and a cached one", "test_failing_elsewhere"),
]
OBJECTIVE, W = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), np.array([[-1.0], [1.0]])), jnp.ones(1)


class Plain(AbstractDynamics):
    def drift(self, t, state, signal):
        return -state


def anything(self, *args):
    return None


def of(base, **attributes):
    return type("Mine", (base,), attributes)


def refused(equation, *words):
    given = {"dt": 0.1} if isinstance(equation, Plain) else {}
    with pytest.raises(TypeError, match="Argument `equation` must") as found:
        solve(equation, OBJECTIVE, W, steps=2, **given)
    assert all(word in str(found.value) for word in words), found.value


@pytest.mark.parametrize("name", ["delayed", "check_step"])
def test_circuits_alone(name):
    words = f"derive from AbstractCircuit to have `{name}`", f"Mine.{name}"
    refused(of(Plain, **{name: anything})(), *words)
    refused(of(Momentum, **{name: anything})(0.1), *words)
    refused(scheduled(of(SGD, **{name: anything})(0.1), lambda step: jnp.ones(())), *words)


class Stream(AbstractStream):
    """The same stimulus again and again."""

    duration: float = 0.2
    random = False

    def begin(self, key):
        return None

    def stimulus(self, index, carried):
        return Stimulus(jnp.zeros(1), jnp.zeros(1)), carried


def test_a_delay_under_a_stream():
    """Where it would be that of the stimulus; in all other runs it is a number of any name."""
    field = of(Plain, __annotations__={"delay": float}, delay=0.5)()
    for equation in (field, of(Plain, delay=0.5)(), of(Plain, delay=property(lambda self: 0.5))()):
        with pytest.raises(TypeError, match="derive from AbstractCircuit for its `delay` to act under a stream"):
            solve(equation, Stream(), W, steps=2, dt=0.1)
    np.testing.assert_allclose(solve(field, None, W, steps=2, dt=0.1).final, np.exp(-0.2), rtol=1e-4)


def test_a_circuit():
    class Late(AbstractCircuit):
        delay: float = 0.5
        drift = Plain.drift
        check_step = anything

        def delayed(self, state, signal):
            return state

    check_class(Late())


@pytest.mark.parametrize("name", ["check_noise", "check_sampling"])
def test_checks(name):
    place = {"check_noise": "splitting().check_noise", "check_sampling": "check"}[name]
    for equation in (of(SGD, **{name: anything})(0.1), of(Plain, **{name: anything})()):
        refused(equation, f"override `{place}` in place of `{name}`", f"Mine.{name}")


def test_checks_are_read():
    equation = Adam(0.1, 3, "without_replacement")
    with pytest.warns(DeprecationWarning, match=r"Adam.check_noise is now Adam.splitting\(\).check_noise"):
        assert equation.check_noise.__func__ is split(equation).check_noise.__func__
    with pytest.warns(DeprecationWarning, match="Adam.check_sampling is now Adam.check"):
        check = equation.check_sampling
    with pytest.raises(ValueError, match="Argument `batch_size`"):
        check(OBJECTIVE)
    with pytest.warns(DeprecationWarning, match="check_step is now that of an AbstractCircuit"):
        assert equation.check_step(0.1) is None
    assert not hasattr(equation, "delay") and not hasattr(equation, "delayed")


@pytest.mark.parametrize("name", ["gradient_noise", "random", "leapfrog", "brand_new"])
def test_failing(name):
    """The error says the name inside, whatever it is inside of."""
    equation = of(SGD, **{name: property(lambda self: self.noise_modle)})(0.1)
    with pytest.raises(AttributeError, match="'Mine' object has no attribute 'noise_modle'"):
        getattr(equation, name)
    right = of(SGD, **{name: property(lambda self: self.noise_model)})(0.1, noise_model=Isotropic(0.1))
    assert getattr(right, name) is right.noise_model


def test_failing_elsewhere():
    mine = of(Plain, rate=property(lambda self: jnp.ones(()).no_such_thing))()
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = mine.rate
    cached = functools.cached_property(lambda self: self.nothing)
    cached.__set_name__(None, "rate")
    with pytest.raises(AttributeError, match="nothing"):
        _ = of(Plain, rate=cached)().rate
    with pytest.raises(AttributeError, match="'Mine' object has no attribute 'rates'"):
        _ = mine.rates
    assert jax.tree.leaves(mine) == []


def test_mutants(monkeypatch):
    """Without the names nothing is refused, and without a look at the class a property that fails is one that is not."""
    late, checked = (lambda: of(Plain, delayed=anything)()), (lambda: of(SGD, check_noise=anything)(0.1))
    for make in (late, checked):
        with pytest.raises(TypeError):
            check_class(make())
    monkeypatch.setattr(old_names, "_CIRCUITS", ())
    check_class(late())
    monkeypatch.setattr(old_names, "_CHECKS", {})
    check_class(checked())
    blind = of(SGD, random=property(lambda self: self.nothing), __getattr__=lambda self, name: unknown(self, name))
    with pytest.raises(AttributeError, match="'random'"):
        _ = blind(0.1).random


def unknown(equation, name):
    raise AttributeError(f"{type(equation).__name__!r} object has no attribute {name!r}")

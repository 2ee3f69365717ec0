"""Steps whose stages all lie on the flanks of a narrow valley, so that none of them sees how steep it is."""

import jax.numpy as jnp
import numpy as np
import pytest
from marks import some
from warned import solved

from dynamics import Strang
from dynamics._health import course
from dynamics._paths import quotient
from equations import SGD, Objective, decayed

CASES = [
    ("a valley that a step leaps over", "instance", "ln cosh of 8 w", "test_a_narrow_valley[cosh]"),
    ("a valley that a step leaps over", "brother", "a root of 1 + w^2", "test_a_narrow_valley[root]"),
    (
        "a valley that a step leaps over",
        "brother",
        "the flow of a splitting under noise",
        "test_a_narrow_valley[noise]",
    ),
    ("a valley that a step leaps over", "brother", "under weight decay", "test_a_narrow_valley[decayed]"),
    ("a valley that a step leaps over", "brother", "two numbers, one of them at rest", "test_a_narrow_valley[two]"),
    ("a valley that a step leaps over", "brother", "'auto'", "test_auto"),
    ("a valley that a step leaps over", "brother", "a wide valley passes", "test_a_wide_valley_passes"),
    ("a valley that a step leaps over", "brother", "a look at the flank alone", "test_the_flank_alone_is_caught"),
]


def narrow(width):
    """A loss of slope one at most, and of the curvature 1/width at zero."""
    return Objective(lambda w, e: width * jnp.sum(jnp.log(jnp.cosh(w / width))) + 0 * e, jnp.asarray([-1e-3, 1e-3]))


ROOT = Objective(lambda w, e: jnp.sqrt(1e-2 + w**2) + 0 * e, jnp.zeros(2))
NOISY = Objective(lambda w, e: jnp.log(jnp.cosh(8 * w)) / 8 - e * w, jnp.asarray([-1e-3, 1e-3]))
VALLEYS = {
    "cosh": (SGD(1.0), narrow(1 / 8), jnp.array(0.3), None),
    "root": (SGD(1.0), ROOT, jnp.array(0.4), None),
    "noise": (SGD(1.0, 1), NOISY, jnp.array(0.3), Strang()),
    "decayed": (decayed(SGD(1.0), 0.01), narrow(1 / 8), jnp.array(0.3), None),
    "two": (SGD(1.0), narrow(1 / 8), jnp.array([0.3, 0.0]), None),
}


@pytest.mark.parametrize("name", some(VALLEYS, ["cosh"]))
def test_a_narrow_valley(name, key):
    """The flow comes to rest at zero, and the solver leaps to and fro."""
    equation, objective, start, solver = VALLEYS[name]
    settings = dict(steps=30, save_every=30, key=key if equation.random else None, solver=solver)
    leaping, messages = solved(equation, objective, start, **settings)
    assert np.max(np.abs(leaping.final)) > 0.05 and len(messages) == 1, messages
    assert "The solver is unstable" in messages[0], messages
    still, messages = solved(equation, objective, start, substeps=16, **settings)
    assert np.max(np.abs(still.final)) < 0.02 and not messages


@pytest.mark.slow
def test_auto():
    found, messages = solved(SGD(1.0), narrow(1 / 8), jnp.array(0.3), steps=30, save_every=30, substeps="auto")
    assert not messages and abs(found.final.item()) < 1e-6 and 2 < int(dict(found.details)["substeps"]) < 16


@pytest.mark.slow
def test_a_wide_valley_passes():
    """Of the curvature 2, in which steps are stable."""
    found, messages = solved(SGD(1.0), narrow(1 / 2), jnp.array(0.3), steps=30, save_every=30)
    assert not messages and abs(found.final.item()) < 1e-6


@pytest.mark.slow
def test_the_flank_alone_is_caught(monkeypatch):
    """Mutants: the place where the step begins alone, and no look at which way its stages point."""
    monkeypatch.setattr(course, "_halfway", lambda pair, *how: pair)
    settings = dict(steps=30, save_every=30)
    assert not solved(SGD(1.0), narrow(1 / 8), jnp.array(0.3), **settings)[1]
    monkeypatch.undo()
    monkeypatch.setattr(quotient, "_AGAINST", 2.0)
    assert not solved(SGD(1.0), narrow(1 / 9), jnp.array(0.3), **settings)[1]

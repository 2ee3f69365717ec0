"""`stop_gradient` that acts in few examples, or on parts of leaves that are not trained at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from equations import SGD, Objective, modified
from equations._checks import derivatives

CASES = [
    ("stopped terms in few examples", "instance", "a temporal difference in one of 64", "test_refused[one]"),
    ("stopped terms in few examples", "brother", "one of 200 in single precision", "test_refused[single]"),
    ("stopped terms in few examples", "brother", "a straight-through sign in one example", "test_refused[through]"),
    ("stopped terms in few examples", "brother", "a check that looks at sixteen", "test_few_are_too_few"),
    ("leaves that are frozen in part", "instance", "a mask over a leaf, by modified", "test_a_mask"),
    ("leaves that are frozen in part", "instance", "a leaf put together of parts", "test_passes[parts]"),
    ("leaves that are frozen in part", "brother", "a frozen row of a network's layer", "test_passes[layer]"),
    ("leaves that are frozen in part", "brother", "a mask that only some examples have", "test_refused[some]"),
    ("leaves that are frozen in part", "brother", "a game at its symmetric start", "test_refused[game]"),
]  # fmt: skip

stop = jax.lax.stop_gradient
RNG = np.random.default_rng(0)


def rows(count, place=5, dtype=float):
    return RNG.normal(size=count).astype(dtype), (np.arange(count) == place).astype(dtype)


def rare(w, e):
    return 0.5 * e[1] * 64 * (e[0] + 0.9 * stop(w) - w) ** 2 + 0.005 * (w - e[0]) ** 2


def through(w, e):
    return jnp.where(e[1] > 0, (w + stop(jnp.sign(w) - w) * w - e[0]) ** 2, (w - e[0]) ** 2)


MASK = np.arange(8) < 4
POINTS = RNG.normal(size=(12, 8))


def masked(w, e):
    return jnp.tanh(jnp.where(MASK, stop(w), w) @ e) ** 2


def trained(v, e):
    return jnp.tanh(jnp.concatenate([EIGHT[:4], v]) @ e) ** 2


def parts(w, e):
    return jnp.sin(jnp.concatenate([stop(w[:4]), w[4:]]) @ e)


def layer(p, e):
    w = p["w"].at[0].set(stop(p["w"][0]))
    return jnp.sum(p["v"] @ jax.nn.relu(w @ e)) ** 2


ONE, EIGHT = jnp.ones(()), jnp.linspace(-1.0, 1.0, 8)
WRONG = {
    "one": (Objective(rare, rows(64)), ONE),
    "single": (
        Objective(
            lambda w, e: jnp.where(e[1] > 0, 0.5 * (e[0] + 0.9 * stop(w) - w) ** 2, 0.5 * (w - e[0]) ** 2),
            rows(200, dtype=np.float32),
        ),
        ONE.astype(jnp.float32),
    ),
    "through": (Objective(through, rows(40, 17)), 0.3 * ONE),
    "some": (Objective(lambda w, e: (jnp.where(e > 0, stop(w), w) @ e) ** 2, POINTS), EIGHT),
    "game": (Objective(lambda w, e: 2 * w[0] * stop(w[1]) - 2 * stop(w[0]) * w[1], rows(4)), jnp.zeros(2)),
}
RIGHT = {
    "parts": (Objective(parts, POINTS), EIGHT),
    "layer": (Objective(layer, POINTS), {"w": jnp.asarray(RNG.normal(size=(5, 8))), "v": jnp.ones((3, 5))}),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused(name):
    with pytest.raises(ValueError, match="Argument `loss` must have a gradient with right derivatives"):
        derivatives.check_derivatives(*WRONG[name], "a test")


def test_few_are_too_few(monkeypatch):
    monkeypatch.setattr(derivatives, "_MOST", 16)
    assert derivatives._false_derivative(*WRONG["one"]) is None


@pytest.mark.parametrize("name", RIGHT)
def test_passes(name):
    assert derivatives._false_derivative(*RIGHT[name]) is None


@pytest.mark.slow
def test_a_mask():
    """The series is that of the four numbers that are trained, the others closed over."""
    equation = modified(SGD(0.2), order=2)
    equation.check(EIGHT, Objective(masked, POINTS))
    found, expected = (
        equation.params(equation.drift(jnp.zeros(()), equation.init(w), Objective(loss, POINTS)))
        for loss, w in ((masked, EIGHT), (trained, EIGHT[4:]))
    )
    np.testing.assert_allclose(found[4:], expected, rtol=1e-10)
    assert not np.any(found[:4])

"""Central flow: complementarity, one mode in closed form, the edge that it holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve
from equations import SGD, Adam, CentralFlow, Momentum, Objective, RMSProp, RodFlow, StableFlow
from equations._edge import central_flow
from equations._edge.complementarity import complementary, positive_part

ETA = 0.5
# The curvature of y is 1 + x, and x is driven up: at x = 3 it meets the edge, 2/eta = 4.
SHARPENING = Objective(lambda w, e: (1 + w[0]) * w[1] ** 2 / 2 - 0.1 * w[0] + 0 * e, jnp.zeros(1))


@pytest.mark.slow
def test_a_complementarity_problem(key):
    """X and Y positive semidefinite, and orthogonal, for a random positive map."""
    root = jax.random.normal(key, (9, 9))
    square = (root @ root.T).reshape(3, 3, 3, 3)
    square = (square + square.transpose(1, 0, 2, 3) + square.transpose(0, 1, 3, 2) + square.transpose(1, 0, 3, 2)) / 4
    constant = jnp.diag(jnp.array([-3.0, 0.5, 2.0])) + 0.3
    linear = lambda x: jnp.einsum("klmn,mn->kl", square, x)  # noqa: E731
    size = jnp.linalg.norm(square.reshape(9, 9), 2)
    x = complementary(constant, linear, size)
    y = constant + linear(x)
    assert np.linalg.eigvalsh(x)[0] > -1e-12 and np.linalg.eigvalsh(y)[0] > -1e-4
    assert abs(float(jnp.vdot(x, y))) < 1e-4 * float(jnp.linalg.norm(x) * jnp.linalg.norm(y))
    np.testing.assert_allclose(positive_part(jnp.diag(jnp.array([1.0, -2.0]))), jnp.diag(jnp.array([1.0, 0.0])))


def run_of(flow, steps=200, **options):
    observe = {"w": lambda w: w, "x": lambda w, s: jnp.sum(s.spread**2)}
    start = jnp.array([2.8, 0.0])
    return solve(flow, SHARPENING, start, steps=steps, observe=observe, save_every=steps, **options)


@pytest.mark.slow
def test_one_mode_holds_the_edge():
    """There x stays at 3, and its force 0.1 is that of half the oscillation: sigma^2 = 0.2."""
    run = run_of(CentralFlow(SGD(ETA), modes=1))
    np.testing.assert_allclose(run.observables["w"][0, -1], [3.0, 0.0], atol=1e-6)
    assert float(run.observables["x"][0, -1]) == pytest.approx(0.2, rel=1e-4)
    assert float(run.extras["oscillation"][0, -1]) == pytest.approx(0.2, rel=1e-4)


@pytest.mark.slow
def test_as_the_rod_does_on_average(key):
    """Rod flow goes around the point at which central flow rests."""
    observe = {"w": lambda w: w}
    start = jnp.array([2.8, 1e-3])
    run = solve(RodFlow(SGD(ETA)), SHARPENING, start, steps=2000, key=key, observe=observe, save_every=1)
    late = slice(400, None)
    np.testing.assert_allclose(run.observables["w"][0, late, 0].mean(), 3.0, rtol=0.05)
    np.testing.assert_allclose(run.extras["oscillation"][0, late].mean(), 0.2, rtol=0.1)


def _changed(name, value):
    """Central flow with another force, or another covariance."""

    class Mutant(CentralFlow):
        def covariance(self, *arguments):
            turned, covariance = super().covariance(*arguments)
            return (2 * turned, covariance) if name == "half" else (turned, value * covariance)

    return Mutant


@pytest.mark.parametrize(
    "mutant",
    [_changed("half", None), _changed("off", 0.0)],
    ids=["without the half of the force", "without oscillation"],
)
def test_mutants_of_the_force(mutant):
    run = run_of(mutant(SGD(ETA), modes=1))
    held = abs(float(run.observables["w"][0, -1, 0]) - 3.0) < 1e-3
    assert not (held and abs(float(run.observables["x"][0, -1]) - 0.2) < 1e-3)


@pytest.mark.slow
def test_without_complementarity_the_curvature_is_held_below_the_edge_too(monkeypatch):
    """The mutant solves the equation alone: X may then be negative, and x does not rise."""
    linear = lambda constant, linear, size: -constant / linear(jnp.ones((1, 1)))  # noqa: E731
    monkeypatch.setattr(central_flow, "complementary", linear)
    jax.clear_caches()
    run = run_of(CentralFlow(SGD(0.4999), modes=1), steps=2)
    away = abs(float(run.observables["w"][0, -1, 0]) - 2.8 - 2 * 0.4999 * 0.1)
    jax.clear_caches()
    assert not away < 1e-3


@pytest.mark.slow
def test_modes_stay_orthonormal(key):
    """Rows without it, as by dropping the decomposition, are not."""
    operator = lambda v: jnp.linspace(0, 3, 12) * v  # noqa: E731
    rows = central_flow.orthonormal(jax.random.normal(key, (3, 12)))
    for _ in range(40):
        rows, values = central_flow.refreshed(operator, rows)
    np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(values, [3.0, 3.0 * 10 / 11, 3.0 * 9 / 11], rtol=1e-6)
    images = jax.vmap(operator)(rows)
    assert np.max(np.abs(images @ images.T - np.eye(3))) > 0.1


@pytest.mark.slow
def test_stable_flow_is_gradient_flow_and_rmsprop_s_has_its_preconditioner():
    observe = {"w": lambda w: w}
    start = jnp.array([0.5, 0.3])
    stable = solve(StableFlow(SGD(ETA)), SHARPENING, start, steps=4, observe=observe, save_every=4)
    plain = solve(SGD(ETA), SHARPENING, start, steps=4, observe=observe, save_every=4, substeps=4)
    np.testing.assert_allclose(stable.observables["w"], plain.observables["w"], rtol=1e-5)
    rule = RMSProp(0.01, decay=0.9, initial_scale=1.0)
    stable = solve(StableFlow(rule), SHARPENING, start, steps=20, observe=observe, save_every=20)
    plain = solve(rule, SHARPENING, start, steps=20, observe=observe, save_every=20)
    np.testing.assert_allclose(stable.observables["w"], plain.observables["w"], rtol=1e-4)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: CentralFlow(Adam(0.01)), "Argument `equation` must be gradient descent or plain RMSProp"),
        (lambda: StableFlow(Momentum(0.01)), "Argument `equation` must be gradient descent or plain RMSProp"),
        (
            lambda: CentralFlow(RMSProp(0.01, centered=True)),
            "Argument `equation` must be gradient descent or plain RMSProp",
        ),
        (lambda: CentralFlow(SGD(0.01, batch_size=1)), "Argument `batch_size` must be None for a CentralFlow"),
        (lambda: CentralFlow(SGD(0.01), modes=0), "Argument `modes` must be"),
    ],
)
def test_wrong_use(make, words):
    with pytest.raises(ValueError, match=words):
        solve(make(), SHARPENING, jnp.array([0.5, 0.3]), steps=2, observe={})

"""Two-periodic orbits of gradient descent in closed form, which are points of rest of the flows of the edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve, train
from equations import SGD, EdgeFlow, Objective, RodFlow, RodState, modified

QUARTIC = Objective(lambda w, e: 2.1 * w**2 / 2 - w**4 / 4 + 0 * e, jnp.zeros(1))  # rho^2 = (2/eta - a)/b
PRODUCT = Objective(lambda w, e: (w[0] * w[1] - 1) ** 2 / 2 + 0 * e, jnp.zeros(1))


def quartic(flow, key, steps=600):
    """Center and mean square of the oscillation at the end."""
    key = key if flow.random else None
    run = solve(flow, QUARTIC, jnp.array(0.01), steps=steps, key=key, observe={"w": lambda w: w}, save_every=steps)
    assert run.ok.all()
    return float(run.observables["w"][0, -1]), float(run.extras["oscillation"][0, -1])


def product(flow, key, eta, steps=1500):
    key = key if flow.random else None
    start = jnp.array([0.9, 0.9])
    run = solve(flow, PRODUCT, start, steps=steps, key=key, observe={"w": lambda w: w}, save_every=steps)
    return np.asarray(run.observables["w"][0, -1]), float(run.extras["oscillation"][0, -1])


@pytest.mark.slow
@pytest.mark.parametrize("make", [RodFlow, EdgeFlow], ids=["rod", "edge"])
def test_the_orbit_of_a_quartic(make, key):
    center, square = quartic(make(SGD(1.0), seed_scale=1e-4), key)
    noise = 1e-4 if make is RodFlow else 1e-10  # |c| is zero there, and so is the seed
    assert abs(center) < noise and abs(square - 0.1) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("make", [RodFlow, EdgeFlow], ids=["rod", "edge"])
@pytest.mark.parametrize("eta", [1.05, 1.2])
def test_the_orbit_of_a_product(make, eta, key):
    """center^2 = (1 + 3/eta)/4 and amplitude^2 = (1 - 1/eta)/4 for each coordinate."""
    seed = 1e-12 if make is RodFlow else 1e-4
    center, square = product(make(SGD(eta), seed_scale=seed), key, eta)
    np.testing.assert_allclose(center**2, (1 + 3 / eta) / 4, atol=1e-10)
    assert abs(square - 2 * (1 - 1 / eta) / 4) < 1e-10


@pytest.mark.slow
def test_the_series_has_the_same_orbit(key):
    _, square = quartic(modified(RodFlow(SGD(1.0), seed_scale=1e-4), order=2), key, steps=900)
    assert abs(square - 0.1) < 1e-10


def test_the_run_itself(key):
    """The center and the alternating part of a run are those of the last three steps."""
    run = train(RodFlow(SGD(1.0)), QUARTIC, jnp.array(0.3), steps=400, observe={"w": lambda w: w}, save_every=400)
    assert abs(float(run.observables["w"][0, -1])) < 1e-12
    np.testing.assert_allclose(run.extras["oscillation"][0, -1], 0.1, rtol=1e-10)
    np.testing.assert_allclose(run.averages["w"][0, -1], 0.0, atol=1e-12)


class Curved(EdgeFlow):
    """The curvature at the center in place of the secant."""

    def drift(self, t, state, signal):
        rates = super().drift(t, state, signal)
        flat = state.params
        h = jax.jvp(signal.gradient, (flat,), (jnp.ones_like(flat),))[1]
        rate = jnp.log(jnp.abs(1 - self.learning_rate * h)) / self.learning_rate
        return type(rates)(rates.params, rates.direction, rate)


class Linear(EdgeFlow):
    """ln(eta h - 1) without the modulus, but for a clip."""

    def drift(self, t, state, signal):
        rates = super().drift(t, state, signal)
        return type(rates)(rates.params, rates.direction, jnp.zeros_like(rates.log_amplitude))


class Still(RodFlow):
    """s switched off."""

    def doubled(self, t, state, signal):
        rates = super().doubled(t, state, signal)
        return RodState(rates.center, jax.tree.map(jnp.zeros_like, rates.rod))


@pytest.mark.parametrize(
    "flow",
    [
        Curved(SGD(1.0), seed_scale=1e-4),
        Linear(SGD(1.0), seed_scale=1e-4),
        Still(SGD(1.0), seed_scale=1e-4),
        RodFlow(SGD(1.0), seed_scale=0),
    ],
    ids=["curvature", "amplitude off", "rod off", "no seed"],
)
def test_mutants_have_no_such_orbit(flow, key):
    run = solve(flow, QUARTIC, jnp.array(0.01), steps=600, key=key if flow.random else None, observe={}, save_every=600)
    square = np.asarray(run.observables["oscillation"])[0, -1]
    assert not bool(run.ok[0]) or not abs(float(square) - 0.1) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("h", [-1.0, 0.3])
def test_below_the_edge_the_amplitude_rests_at_its_floor(h, key):
    """Also at negative curvature, where ln|1 - eta h| is positive."""
    objective = Objective(lambda w, e: h * jnp.sum(w**2) / 2 + 0 * e, jnp.zeros(1))
    flow = EdgeFlow(SGD(0.5), seed_scale=1e-6)
    run = solve(flow, objective, jnp.array([1.0, 0.5]), steps=20, observe={"w": jnp.linalg.norm}, save_every=20)
    assert float(run.extras["oscillation"][0, -1]) < (1e-6 * float(run.observables["w"][0, -1])) ** 2

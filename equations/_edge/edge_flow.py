"""Edge flow: one alternating direction, and its amplitude."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._tree import add_scaled, scaled_sum
from .base import AbstractNoiseless, NoiselessSplitting
from .descent import check_descent
from .sharpness import direction_like
from .states import ends, from_two_steps, from_window, norm, shortest, unit


class EdgeState(eqx.Module):
    """The parameters between, a direction, whose length is one but for the error of the solver and means nothing, and the
    logarithm of the amplitude along it."""

    params: PyTree
    direction: PyTree
    log_amplitude: Array


def edge_ends(state: EdgeState) -> PyTree:
    """The parameters at both ends, with an axis of them in front."""
    rho, u = jnp.exp(state.log_amplitude), unit(state.direction)
    return ends(state.params, jax.tree.map(lambda u: (rho * u).astype(u.dtype), u))


class EdgeFlow(AbstractNoiseless):
    r"""Gradient descent that alternates along one direction u, by rho on either side of the center w.

        dw = -[g(w + rho u) + g(w - rho u)]/2 dt,    du = (1 - u u^T) G dt,    d ln rho = ln|1 - eta u^T G|/eta dt,

    with the secant G = [g(w + rho u) - g(w - rho u)]/(2 rho), of which the curvature at the center is the limit for small
    rho only (Marion 2026, arXiv:2606.18080; the secant derived: with the curvature a quartic has no equilibrium). It is rod
    flow on one mode. Where eta u^T G < 1 nothing alternates: rho rests at a floor, what rounding makes of it, so that it
    can grow again, and falls by e^2 in a training step at most, as the rod does. A run begins, after one step of the
    algorithm, with what alternates in its first two.

    Two gradients an evaluation.

    **Arguments:** `equation`: gradient descent, `SGD` or what is the same, without a schedule and without noise;
    `seed_scale`: of the floor, as of `RodFlow`; 0 is none.

    **Raises:** TypeError or ValueError, naming the argument.
    """

    def init(self, params):
        direction = unit(direction_like(params))
        return EdgeState(params, direction, self.floor(params, direction))

    def params(self, state):
        return state.params

    def floor(self, center: PyTree, direction: PyTree) -> Array:
        """The logarithm of what rounding makes of an amplitude in a training step."""
        ones = jax.tree.map(jnp.ones_like, center)
        rounded = jax.tree.map(jnp.multiply, self.seed(center, ones, 1.0), direction)
        size = norm(rounded)
        tiny = float(jnp.finfo(size.dtype).tiny) ** 0.5
        return jnp.log(jnp.maximum(size, tiny)) if self.seeded else jnp.full((), jnp.log(tiny), size.dtype)

    def velocity(self, t, state, gradient):
        """The rates where both ends see this gradient."""
        still = jax.tree.map(jnp.zeros_like, state.direction)
        rate = jax.tree.map(jnp.negative, gradient)
        return EdgeState(rate, still, jnp.zeros_like(state.log_amplitude))

    def drift(self, t, state, signal):
        eta = self.learning_rate
        u, rho = unit(state.direction), jnp.exp(state.log_amplitude)
        far = jnp.maximum(rho, shortest(state.params)).astype(rho.dtype)
        above, below = (
            signal.gradient(add_scaled(state.params, (sign * far, u))) for sign in (1.0, -1.0)
        )  # fmt: skip
        even = jax.tree.map(lambda a, b: (a + b) / 2, above, below)
        secant = jax.tree.map(lambda a, b: (a - b) / (2 * far), above, below)
        along = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(u), jax.tree.leaves(secant), strict=True))
        # The last term keeps the length of the direction at one.
        turn = scaled_sum((1.0, secant), (-along, u), ((1 - norm(state.direction)) / eta, u))
        factor = jnp.maximum(jnp.abs(1 - eta * along), jnp.exp(-2.0))
        rate = jnp.where(eta * along > 1, jnp.log(factor), -2.0) / eta
        rest = (self.floor(state.params, u) - state.log_amplitude) / eta
        growth = jnp.maximum(rate, jnp.minimum(rest, 0) if not self.seeded else rest)
        return EdgeState(
            jax.tree.map(jnp.negative, even),
            jax.tree.map(lambda new, old: new.astype(old.dtype), turn, u),
            growth.astype(state.log_amplitude.dtype),
        )

    def splitting(self):
        return EdgeFlowSplitting(self, substeps=2, alternating=edge_ends)

    def check(self, params, signal):
        super().check(params, signal)
        check_descent(self, params)


class EdgeFlowSplitting(NoiselessSplitting):
    """Along the window of a run."""

    def start(self, state, signal, noise):
        """From what alternates in the first two steps of the algorithm, as `RodFlow` of second order."""
        eta, points = self.dynamics.learning_rate, [state.params]
        for _ in range(2):
            points.append(add_scaled(points[-1], (-eta, signal.gradient(points[-1]))))
        return self._along(*from_two_steps(*points))

    def resumed(self, params, memory):
        return self._along(*from_window(params, memory))

    def _along(self, center, half):
        length, fresh = norm(half), self.dynamics.init(center)
        direction = jax.tree.map(lambda s, u: jnp.where(length > 0, s, u), unit(half), fresh.direction)
        amplitude = jnp.maximum(jnp.log(jnp.where(length > 0, length, 1)), fresh.log_amplitude)
        return EdgeState(center, direction, jnp.where(length > 0, amplitude, fresh.log_amplitude))

"""The doubled map of any algorithm as an equation: rod flow."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._checks.arguments import integer
from .._modified.increment import TwinState
from .._modified.series import by_derivatives
from .._splitting import split
from .._tree import add_scaled
from .._velocity import velocity_of
from .base import AbstractEdgeFlow, EdgeSplitting
from .states import RodState, from_window, norm, rod_ends


class RodFlow(AbstractEdgeFlow):
    r"""Training at the edge of stability: a center and an alternating part of all that a step of the algorithm changes.

    With y_k = c_k + (-1)^k s_k one training step y' = Phi(y), on parameters and memory, is exactly

        c' = [Phi(c + s) + Phi(c - s)]/2,    s' = -[Phi(c + s) - Phi(c - s)]/2

    whatever Phi is, and where the linearized step has an eigenvalue near -1 both move slowly (derived). Their increments are
    an equation that holds at the edge,

        dc = (c' - c)/eta dt,    ds = (s' - s)/eta dt;

    of gradient descent dc = -[g(c + s) + g(c - s)]/2 dt, ds = {[g(c + s) - g(c - s)]/2 - 2 s/eta} dt, which is rod flow with
    the rod as a vector in place of its outer product. `modified` gives its series.

    Two gradients an evaluation. Where s is tiny both ends are taken at a distance of the root of the precision along it,
    since the difference of gradients would lose its digits.

    **Arguments:** `equation`, of any algorithm: an equation, a wrapper, or what `from_optax` gave, without noise or affine in
    the gradient; `seed_scale` as above.

    **Raises:** TypeError or ValueError, naming the argument.
    """

    def init(self, params):
        center = self.equation.init(params)
        return RodState(center, jax.tree.map(jnp.zeros_like, center))

    def params(self, state):
        return state.center.params

    def at_center(self, state: RodState) -> TwinState:
        """The state of the algorithm in the middle."""
        return state.center

    def velocity(self, t, state, gradient):
        """The rate of the center where both ends see this gradient; nothing then alternates but what did."""
        rate = velocity_of(self.equation, t, state.center, gradient)
        return RodState(rate, jax.tree.map(lambda s: (-2 * s / self.learning_rate).astype(s.dtype), state.rod))

    def drift(self, t, state, signal):
        return by_derivatives(lambda y: self.doubled(t, y, signal), state, self.learning_rate, self.order)

    def diffusion(self, t, state, signal):
        return None

    def doubled(self, t: Array, state: RodState, signal: Any) -> RodState:
        """The increments of the doubled map over the learning rate."""
        length = norm(state.rod)
        scale = jnp.maximum(length, _least(state.center))
        far = jnp.where(length > 0, scale / jnp.where(length > 0, length, 1), 0)
        ends = [add_scaled(state.center, (sign * far, state.rod)) for sign in (1.0, -1.0)]
        both = jax.vmap(lambda y: self.rate(t, y, signal))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *ends))
        even = jax.tree.map(lambda leaf: (leaf[0] + leaf[1]) / 2, both)
        near = jnp.where(length > 0, length / scale, 0)
        odd = jax.tree.map(lambda leaf: near * (leaf[0] - leaf[1]) / 2, both)
        eta = self.learning_rate
        return RodState(
            even, jax.tree.map(lambda s, o: (-2 * s / eta - o).astype(s.dtype), state.rod, odd)
        )  # fmt: skip

    def rate(self, t: Array, state: TwinState, signal: Any) -> TwinState:
        """The increments of the algorithm there, over the learning rate."""
        return velocity_of(self.equation, t, state, self.gradient_of(signal, state))

    def splitting(self):
        return RodSplitting(self, substeps=4, alternating=rod_ends)

    def kicked(self, state: RodState, moves: TwinState, turns: TwinState) -> RodState:
        """The change of a state by one of its center and one of what alternates."""
        return RodState(moves, turns)

    def continued(self, order, fluctuations=False):
        highest = 2 if self.equation.random else 3
        return dataclasses.replace(self, order=integer("order", order, maximum=highest))


class RodSplitting(EdgeSplitting):
    """From the first step of the algorithm where that is singular, and along the window of a run."""

    def start(self, state, signal, noise):
        edge = self.dynamics
        batches = None if noise is None else noise[1]
        started = split(edge.equation).start(state.center, signal, batches)
        return None if started is None else RodState(started, state.rod)

    def resumed(self, params, memory):
        center, half = from_window(params, memory)
        still = jax.tree.map(jnp.zeros_like, memory.inner)
        return RodState(TwinState.of(center, memory.inner), TwinState.of(half, still))


def _least(state: PyTree) -> Array:
    """The shortest distance at which two ends are told apart."""
    leaves = jax.tree.leaves(state)
    dtype = jnp.result_type(*leaves)
    return jnp.asarray(float(jnp.finfo(dtype).eps) ** 0.5, dtype) * jnp.maximum(1, norm(state)).astype(dtype)

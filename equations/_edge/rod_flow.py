"""The doubled map of any algorithm as an equation: rod flow."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from .._checks.arguments import integer
from .._gradients import is_noisy
from .._modified.increment import TwinState
from .._modified.series import by_derivatives
from .._signals.base import is_parameter
from .._splitting import Splitting, split
from .._tree import add_scaled
from .._velocity import velocity_of
from .base import AbstractEdgeFlow
from .states import RodState, from_two_steps, from_window, norm, rod_ends, shortest


class RodFlow(AbstractEdgeFlow):
    r"""Training at the edge of stability: a center and an alternating part of all that a step of the algorithm changes.

    With y_k = c_k + (-1)^k s_k one training step y' = Phi(y), on parameters and memory, is exactly

        c' = [Phi(c + s) + Phi(c - s)]/2,    s' = -[Phi(c + s) - Phi(c - s)]/2

    whatever Phi is, and where the linearized step has an eigenvalue near -1 both move slowly (derived). Their increments
    are an equation that holds at the edge,

        dc = (c' - c)/eta dt,    ds = (s' - s)/eta dt;

    of gradient descent dc = -[g(c + s) + g(c - s)]/2 dt, ds = {[g(c + s) - g(c - s)]/2 - 2 s/eta} dt, which is rod flow
    with the rod as a vector in place of its outer product. `modified` gives its series; of second order a run begins, after
    one step of the algorithm, with what alternates in its first two.

    Two gradients an evaluation; where s is tiny, and the difference of the gradients at both ends would lose its digits, a
    gradient and its derivative along s. (Ends further apart would be felt by second moments.)

    **Arguments:** `equation`, of any algorithm: an equation, a wrapper, or what `from_optax` gave, without noise or affine
    in the gradient; `seed_scale` as above.

    **Raises:** TypeError or ValueError, naming the argument.
    """

    @property
    def random(self):
        return self.seeded or self.equation.random

    def init(self, params):
        center = self.equation.init(params)
        return RodState(center, jax.tree.map(jnp.zeros_like, center))

    def params(self, state):
        return state.center.params

    def velocity(self, t, state, gradient):
        """The rate of the center where both ends see this gradient; nothing then alternates but what did."""
        rate = velocity_of(self.equation, t, state.center, gradient)
        return RodState(rate, jax.tree.map(lambda s: (-2 * s / self.learning_rate).astype(s.dtype), state.rod))

    def drift(self, t, state, signal):
        return by_derivatives(lambda y: self.doubled(t, y, signal), state, self.learning_rate, self.order)

    def doubled(self, t: Array, state: RodState, signal: Any) -> RodState:
        """The increments of the doubled map over the learning rate."""
        rate = lambda y: self.rate(t, y, signal)  # noqa: E731

        def apart(state):
            away = self.away(state.center, state.rod)
            ends = [add_scaled(state.center, (sign, away)) for sign in (1.0, -1.0)]
            both = jax.vmap(rate)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *ends))
            halves = [jax.tree.map(lambda leaf, sign=sign: (leaf[0] + sign * leaf[1]) / 2, both) for sign in (1, -1)]
            return halves[0], halves[1]

        def together(state):
            return jax.jvp(rate, (state.center,), (state.rod,))

        even, odd = jax.lax.cond(norm(state.rod) < shortest(state.center), together, apart, state)
        eta = self.learning_rate
        return RodState(
            even, jax.tree.map(lambda s, o: (-2 * s / eta - o).astype(s.dtype), state.rod, odd)
        )  # fmt: skip

    def away(self, center: TwinState, rod: TwinState) -> TwinState:
        """The rod, but for second moments, which must stay positive at both ends."""
        gains = self.equation.squares(center)
        return jax.tree.map(
            lambda gain, c, s: jnp.clip(s, -0.99 * jnp.abs(c), 0.99 * jnp.abs(c)) if gain else s, gains, center, rod
        )

    def rate(self, t: Array, state: TwinState, signal: Any) -> TwinState:
        """The increments of the algorithm there, over the learning rate."""
        return velocity_of(self.equation, t, state, self.gradient_of(signal, state))

    def splitting(self):
        return RodSplitting(self, substeps=4, alternating=rod_ends)

    def check(self, params, signal):
        super().check(params, signal)
        inside = self.equation
        if not is_noisy(inside):
            return
        affine = inside.is_affine(inside.init(eqx.filter(params, is_parameter)))
        if not affine or inside.several_gradients:
            raise ValueError(
                "Argument `batch_size` must be None, with no noise, for the rod flow of a rule that is not affine in the "
                f"gradient, but that of {type(inside.algorithm).__name__} is {inside.batch_size!r}."
            )

    def continued(self, order, fluctuations=False):
        highest = 2 if self.equation.random else 3
        return dataclasses.replace(self, order=integer("order", order, maximum=highest))


class RodSplitting(Splitting):
    """The kick is what seeds the alternation, and where there are minibatches their noise.

    Both the center and the rod receive it, each as if it were all of the parameters: a mode of multiplier
    m = 1 - eta lambda has the variance Sigma/(1 - m^2) = Sigma/(2 eta lambda) + Sigma/(2 (2 - eta lambda)) of training, of
    which the first part is the center's, the second that of the rod (derived; by the stationary states of both).
    """

    @property
    def kicks(self):
        return 1

    def start(self, state, signal, noise):
        """Of second order from what alternates in the first two steps of the algorithm: where eta lambda is between 1 and 2
        at the start it decays slower than rounding makes it grow again, and is what the onset begins from. Of first order
        it would decay as exp(eta lambda - 2), for eta lambda - 1, and stay too large."""
        rod, center = self.dynamics, state.center
        batches = None if noise is None else noise[1]
        first = split(rod.equation).start(center, signal, batches)
        if rod.order == 1 or is_noisy(rod.equation):
            return None if first is None else RodState(first, state.rod)
        eta = rod.learning_rate
        if first is None:
            first = add_scaled(center, (eta, rod.held(0).rate(0 * eta, center, signal)))
        second = add_scaled(first, (eta, rod.held(1).rate(eta, first, signal)))
        between, half = from_two_steps(center.params, first.params, second.params)
        still = jax.tree.map(jnp.zeros_like, center.memory)
        return RodState(TwinState(between, first.memory), TwinState(half, still))

    def resumed(self, params, memory):
        center, half = from_window(params, memory)
        still = jax.tree.map(jnp.zeros_like, memory.inner)
        return RodState(TwinState.of(center, memory.inner), TwinState.of(half, still))

    def noise(self, state, signal, kicks_per_step):
        inside = self.dynamics.equation
        flat = jax.eval_shape(lambda tree: ravel_pytree(tree)[0], state.center.params)
        # One vector: the program that draws it is compiled for each leaf anew.
        seed = jax.ShapeDtypeStruct(flat.shape, flat.dtype) if self.dynamics.seeded else None
        batches = split(inside).noise(state.center, signal, kicks_per_step) if is_noisy(inside) else None
        return None if seed is None and batches is None else (seed, batches, batches)

    def kick(self, t, state, signal, noise, dt):
        if noise is None:
            return jax.tree.map(jnp.zeros_like, state)
        seed, *batches = noise
        rod, center = self.dynamics, state.center
        inside, zero = split(rod.equation), jax.tree.map(jnp.zeros_like, center)
        moves, turns = (zero if one is None else inside.kick(t, center, signal, one, dt) for one in batches)
        if seed is not None:
            numbers = ravel_pytree(center.params)[1](seed)
            more = rod.seed(center.params, numbers, dt / rod.learning_rate)
            turns = eqx.tree_at(lambda s: s.params, turns, jax.tree.map(jnp.add, turns.params, more))
        return RodState(moves, turns)

    def kicks_have_a_mean(self, state):
        return False

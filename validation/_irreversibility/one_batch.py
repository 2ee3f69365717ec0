"""What one training step on one batch leaves behind: four measures of irreversibility, each by a route of its own."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractEquation
from equations.internal import (
    AbstractIncrement,
    Increment,
    SlowManifold,
    TwinState,
    add_scaled,
    moment_lengths,
    velocity_of,
)


class Measures(NamedTuple):
    """Three displacements over their factors, and a number; on a gradient's rule -grad phi and phi as eta -> 0."""

    backward_error: PyTree
    time_renormalized: PyTree
    time_asymmetry: PyTree
    entropy_production: Array
    manifold: (
        Array  # (2, n): squared lengths of n averages on the slow manifold, and of its correction of O(eta) to each
    )


def square(tree: PyTree) -> Array:
    """The squared length of a vector in parameter space."""
    total: Any = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))
    return total


def dot(a: PyTree, b: PyTree) -> Array:
    total: Any = sum(jnp.sum(x * y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    return total


class Step(eqx.Module):
    """The discrete algorithm on one batch, as a map of the parameters.

    An algorithm without memory is such a map; what merely counts stands at zero, as at the first step. One with memory is
    it on its slow manifold (`adiabatic`), where the memory is what the batch, repeated for ever, would leave in it; or from
    an empty memory.
    """

    increment: AbstractIncrement
    equation: AbstractEquation
    memory: str = eqx.field(static=True)
    substeps: int = eqx.field(static=True)
    settles: bool = eqx.field(static=True, default=True)  # whether the memory does under one gradient for ever

    @classmethod
    def of(cls, equation: AbstractEquation, params: PyTree, memory: str, substeps: int) -> "Step":
        increment = Increment.of(equation)
        averages = jax.tree.leaves(increment.averages(params).memory)
        if not any(averages):
            return cls(increment, equation, "none", substeps)
        return cls(increment, equation, memory, substeps, SlowManifold.of(increment, 2).unsettled(params) is None)

    def at(self, eta) -> AbstractIncrement:
        """The increment field at another learning rate, which may be negative; other hyperparameters stay."""
        return eqx.tree_at(lambda e: e.learning_rate, self.increment, eta)

    @property
    def rate(self) -> Array:
        """How far a step goes: the learning rate, under a schedule that of the first step."""
        first = self.memory == "none"
        return self.increment.scaling_limit().learning_rate_at(jnp.zeros(())) if first else self.increment.learning_rate

    def field(self, params: PyTree, signal, gradient: PyTree = None) -> PyTree:
        """The leading velocity of the parameters: that of the equation, or of the memory settled on this batch; of a
        memory that never settles, that of the first step."""
        zero, gradient = jnp.zeros(()), signal.gradient(params) if gradient is None else gradient
        if self.memory == "none":
            return self.equation.params(velocity_of(self.equation, zero, self.equation.init(params), gradient))
        if not self.settles:
            return self.rates(self.increment.init(params), gradient, self.increment.learning_rate).params
        return SlowManifold.of(self.increment, 1).velocity(zero, params, gradient)

    def start(self, params: PyTree, signal, eta, gradient: PyTree = None) -> TwinState:
        """The state before a step; on the slow manifold, with an error of O(eta^2) in the memory, for a gradient more."""
        if self.memory != "adiabatic":
            return self.increment.init(params)
        slow = SlowManifold.of(self.at(eta), 2)
        averages, counts = slow.split(params, None)
        return TwinState(params, eqx.combine(slow.manifold(params, signal, 2, gradient), counts))

    def manifold(self, state: TwinState, gradient: PyTree) -> Array:
        """Squared lengths `(2, n)` of the averages where they have settled, and of what the manifold adds in `state`."""
        if self.memory != "adiabatic":
            return jnp.zeros((2, 0))
        settled = SlowManifold.of(self.increment, 1).manifold(state.params, None, 1, gradient)
        return moment_lengths(settled, self.increment.split(state)[0].memory, state.params)

    def rates(self, state: TwinState, gradient: PyTree, eta) -> TwinState:
        """The change of the state in a step, over eta."""
        return self.at(eta).velocity(jnp.zeros(()), state, gradient)

    def after(self, state: TwinState, eta, rates: TwinState) -> TwinState:
        """The state after a step; what merely counts stays, for all steps here are taken at the same place in training."""
        new = add_scaled(state, (eta, rates))
        return TwinState(new.params, state.memory) if self.memory == "none" else new

    def measures(self, params: PyTree, signal: Any, gradient: PyTree = None) -> Measures:
        """The four measures of one batch, for 4 + substeps gradients and the one at `params`, 3 more on a slow manifold.

        Displacements are summed up from zero, not as differences of parameters, so that rounding is relative to a step.
        """
        eta, zero = self.increment.learning_rate, jax.tree.map(jnp.zeros_like, params)
        gradient = signal.gradient(params) if gradient is None else gradient
        state = self.start(params, signal, eta, gradient)
        first = self.rates(state, gradient, eta)
        step = add_scaled(zero, (eta, first.params))
        after = self.after(state, eta, first)
        gradient_after = signal.gradient(after.params)

        # One step less the exact flow: a classical Runge-Kutta step, of an error O(eta^5) against the O(eta^2) sought.
        k1 = self.field(params, signal, gradient)
        k2 = self.field(add_scaled(params, (eta / 2, k1)), signal)
        k3 = self.field(add_scaled(params, (eta / 2, k2)), signal)
        k4 = self.field(add_scaled(params, (eta, k3)), signal)
        backward = add_scaled(step, (-eta / 6, k1), (-eta / 3, k2), (-eta / 3, k3), (-eta / 6, k4))

        # One step less n of an n-th of its length.
        part = eta / self.substeps
        begin = self.start(params, signal, part, gradient)

        def substep(_, carry, gradient=None):
            state, total = carry
            rates = self.rates(state, signal.gradient(state.params) if gradient is None else gradient, part)
            return self.after(state, part, rates), add_scaled(total, (part, rates.params))

        _, total = jax.lax.fori_loop(1, self.substeps, substep, substep(0, (begin, zero), gradient))
        renormalized = add_scaled(step, (-1.0, total))

        # A step, and one back on the same batch.
        back = self.rates(after, gradient_after, -eta)
        asymmetry = add_scaled(step, (-eta, back.params))

        # Noise sigma on every step: sigma^2 ln P(a -> b)/P(b -> a) -> |a - Phi(b)|^2 / 2 where b = Phi(a), sigma -> 0.
        again = self.rates(self.start(after.params, signal, eta, gradient_after), gradient_after, eta)
        both = add_scaled(step, (eta, again.params))
        rate = self.rate

        def over(tree, factor):
            return jax.tree.map(lambda leaf: (leaf / factor).astype(leaf.dtype), tree)

        return Measures(
            over(backward, rate**2),
            over(renormalized, (1 - 1 / self.substeps) * rate**2),
            over(asymmetry, 2 * rate**2),
            square(both) / (16 * rate**2),
            self.manifold(state, gradient),
        )

"""Optimistic gradient descent, for games."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from .._base import AbstractEquation
from .._checks.arguments import nonnegative, positive
from .._checks.facts import refined
from .._scaling import ScalingLimit
from .._splitting import GradientSplitting
from .._tree import add_scaled


class OptimisticState(eqx.Module):
    """Parameters, and the signal of the step before (Optax's name), alike in structure."""

    params: PyTree
    previous_gradient: PyTree


class OptimisticMemory(NamedTuple):
    """Of the twin: whether there is no signal before, 1.0 or 0.0 and no flag, so that it has a rate; and that signal."""

    is_initial_step: Any
    previous_gradient: Any


class OptimisticGradient(AbstractEquation):
    r"""Optimistic gradient descent, z' = z - eta [(alpha + beta) F_k - beta F_{k-1}]: by default 2 F_k - F_{k-1}.

        dZ = -[((alpha + beta) F - beta M) dt + (alpha + beta) sqrt(eta) (C/B)^{1/2} dW]
        dM = (1/eta) [(F - M) dt + sqrt(eta) (C/B)^{1/2} dW],    t = eta * step,    from the same W

    (Popov 1980, Mathematical Notes 28; Compagnoni et al. 2024, AISTATS, for one batch a step), M the signal of the step
    before and F any signal, also that of a game (see `ExtraGradient`). The first step, which has none before it, is the
    algorithm's, along alpha F.

    Scaling: eta -> 0. Natural clock: t. Weak order 1, of the parameters: M is forgotten in every step, and the limit is SGD
    at the learning rate alpha eta. On a bilinear game what the memory does is of the order that this leaves out;
    `modified(..., memory="adiabatic")` has it.

    **Arguments:** `learning_rate`, `batch_size`, `sampling`, `noise_model` as in `AbstractEquation`, then Optax's
    `alpha=1.0` and `beta=1.0`.
    """

    _facts = refined(AbstractEquation, singular=True)

    alpha: Array = eqx.field(default=1.0, converter=positive("alpha"))
    beta: Array = eqx.field(default=1.0, converter=nonnegative("beta"))

    def init(self, params):
        return OptimisticState(params, jax.tree.map(jnp.zeros_like, params))

    def params(self, state):
        return state.params

    def velocity(self, t, state, gradient):
        along = jax.tree.map(
            lambda g, old: -((self.alpha + self.beta) * g - self.beta * old), gradient, state.previous_gradient
        )
        forgets = jax.tree.map(lambda g, old: (g - old) / self.learning_rate, gradient, state.previous_gradient)
        return OptimisticState(along, forgets)

    def twin(self):
        """Optax's `optimistic_gradient_descent`, with a number in its memory for a flag."""

        def init(params):
            return OptimisticMemory(jnp.ones(()), jax.tree.map(jnp.zeros_like, params))

        def update(updates, state, params=None):
            first = state.is_initial_step

            def along(g, old):
                before = first * g + (1 - first) * old
                return (-self.learning_rate * ((self.alpha + self.beta) * g - self.beta * before)).astype(g.dtype)

            moved = jax.tree.map(along, updates, state.previous_gradient)
            return moved, OptimisticMemory(jnp.zeros_like(first), updates)

        return optax.GradientTransformation(init, update)

    def splitting(self):
        return OptimisticSplitting(self, along_new_memory=False)

    def scaling_limit(self):
        return ScalingLimit(self, threshold=2 / (self.alpha + 2 * self.beta))


class OptimisticSplitting(GradientSplitting):
    """With the algorithm's first step, before which there is no signal."""

    def start(self, state, signal, noise):
        equation = self.dynamics
        gradient = equation.gradient(state.params, signal, noise)
        moved = add_scaled(state.params, (-equation.learning_rate * equation.alpha, gradient))
        return OptimisticState(moved, gradient)

    def resumed(self, params, memory):
        return OptimisticState(params, optax.tree_utils.tree_get(memory, "previous_gradient"))

"""What rules share that take the gradient of a batch at a place which another gradient of the same batch leads to."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from .._checks.facts import refined
from .._gradients import batch_structure
from .._several import AbstractSeveralGradients
from .._splitting import GradientSplitting
from .._tree import add_scaled, zeros_of
from .._velocity import velocity_of


class AbstractAhead(AbstractSeveralGradients):
    """theta' = theta - eta g_B(ahead(theta, g_B(theta))), two gradients of one batch in a step.

    A rule gives `ahead`, and `sampled`.
    """

    _facts = refined(AbstractSeveralGradients, contract=True)  # its drift follows the velocity

    draws = 64

    @abc.abstractmethod
    def ahead(self, params: PyTree, gradient: PyTree) -> PyTree:
        """Where the second gradient is taken."""

    def velocity(self, t, state, gradient):
        return jax.tree.map(lambda g: -g, gradient(self.ahead(state, gradient(state))))

    def twin(self):
        """It takes the first gradient, and `grad_fn(params, index)` for the second one, as Optax's opaque SAM does."""

        def update(updates, state, params=None, *, grad_fn=None, **more):
            if params is None or grad_fn is None:
                raise ValueError(
                    f"Arguments `params` and `grad_fn` must be given to the twin of {type(self).__name__}, which asks for "
                    "a second gradient of the batch as grad_fn(params, 0)."
                )
            second = grad_fn(self.ahead(params, updates), 0)
            return jax.tree.map(lambda g: (-self.learning_rate * g).astype(g.dtype), second), state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    @property
    def sampled(self) -> bool:
        """Whether the mean over batches is known by draws alone: where `ahead` is no polynomial in the gradient.

        What is drawn are then real batches, and what the noise model injects into them.
        """
        return False

    def splitting(self):
        return AheadSplitting(self, smooth=not self.sampled)

    def drift(self, t, state, signal):
        return self.sampled_drift(t, state, signal)[0] if self.sampled else super().drift(t, state, signal)

    def sampled_drift(self, t, state, signal) -> tuple[PyTree, PyTree]:
        """The mean of the velocity over `draws` batches, always the same, and its standard error.

        Averaged is what the second gradient adds to the first one, whose mean is known.
        """
        leaves, treedef = jax.tree.flatten(batch_structure(self, signal, state))

        def added(key):
            keys = jax.random.split(key, len(leaves))
            normals = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
            gradient: Any = self.gradient(state, signal, jax.tree.unflatten(treedef, normals))
            return add_scaled(velocity_of(self, t, state, gradient), (1.0, gradient(state)))

        def add(sums, key):
            value = added(key)
            square = jax.tree.map(jnp.square, value)
            return tuple(add_scaled(s, (1.0, v)) for s, v in zip(sums, (value, square), strict=True)), None

        zero = zeros_of(state)
        total, squares = jax.lax.scan(add, (zero, zero), jax.random.split(jax.random.key(0), self.draws))[0]
        mean = jax.tree.map(lambda leaf: leaf / self.draws, total)
        spread = jax.tree.map(lambda s, m: jnp.maximum(s / self.draws - m**2, 0) / (self.draws - 1), squares, mean)
        return add_scaled(mean, (-1.0, signal.gradient(state))), jax.tree.map(jnp.sqrt, spread)

    def diffusion(self, t, state, signal):
        if self.sampled:
            raise ValueError(
                "Argument `normalized` must be False for the diffusion under minibatches, which is known by draws alone, "
                "but True was given; the default solver does not need it."
            )
        return super().diffusion(t, state, signal)


class AheadSplitting(GradientSplitting):
    """Where the mean is known by draws alone, each kick draws a real batch."""

    def noise(self, state, signal, kicks_per_step):
        if not self.dynamics.sampled:
            return super().noise(state, signal, kicks_per_step)
        one = batch_structure(self.dynamics, signal, state)
        return one if kicks_per_step == 1 else (one, one)

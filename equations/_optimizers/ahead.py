"""What rules share that take the gradient of a batch at a place which another gradient of the same batch leads to."""

import abc

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from .._checks.facts import refined
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

        def update(updates, memory, params=None, *, grad_fn=None, **more):
            if params is None or grad_fn is None:
                raise ValueError(
                    f"Arguments `params` and `grad_fn` must be given to the twin of {type(self).__name__}, which asks for "
                    "a second gradient of the batch as grad_fn(params, 0)."
                )
            second = grad_fn(self.ahead(params, updates), 0)
            return jax.tree.map(lambda g: (-self.learning_rate * g).astype(g.dtype), second), memory

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    @property
    def sampled(self) -> bool:
        """Whether the mean over batches is known by draws alone: where `ahead` is no polynomial in the gradient."""
        return False

    def splitting(self):
        return GradientSplitting(self, smooth=not self.sampled)

    def drift(self, t, state, signal):
        return self.sampled_drift(t, state, signal)[0] if self.sampled else super().drift(t, state, signal)

    def sampled_drift(self, t, state, signal) -> tuple[PyTree, PyTree]:
        """The mean of the velocity over `draws` pairs of opposite normals, always the same, and its standard error."""
        structure = self.gradient_noise.structure(self.batches(signal), state)
        leaves, treedef = jax.tree.flatten(structure)

        def velocity(normals):
            return velocity_of(self, t, state, self.gradient(state, signal, normals))

        def pair(key):
            keys = jax.random.split(key, len(leaves))
            normals = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
            both = (velocity(jax.tree.unflatten(treedef, [s * n for n in normals])) for s in (1, -1))
            return jax.tree.map(lambda a, b: (a + b) / 2, *both)

        def add(sums, key):
            value = pair(key)
            return tuple(add_scaled(s, (1.0, v)) for s, v in zip(sums, (value, _square(value)), strict=True)), None

        zero = zeros_of(state)
        total, squares = jax.lax.scan(add, (zero, zero), jax.random.split(jax.random.key(0), self.draws))[0]
        mean = jax.tree.map(lambda leaf: leaf / self.draws, total)
        spread = jax.tree.map(lambda s, m: jnp.maximum(s / self.draws - m**2, 0) / (self.draws - 1), squares, mean)
        return mean, jax.tree.map(jnp.sqrt, spread)

    def diffusion(self, t, state, signal):
        if self.sampled:
            raise ValueError(
                "Argument `normalized` must be False for the diffusion under minibatches, which is known by draws alone, "
                "but True was given; the default solver does not need it."
            )
        return super().diffusion(t, state, signal)


def _square(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.square, tree)

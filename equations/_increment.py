"""The increment field of a discrete algorithm, a vector field that any Optax transformation has."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ._affine import is_even
from ._base import AbstractEquation
from ._signal import parameter_dtype


class TwinState(eqx.Module):
    """The whole state of a discrete algorithm: parameters, and the optimizer's memory with its counts cast to real."""

    params: PyTree
    memory: PyTree


class AbstractIncrement(AbstractEquation):
    r"""f_eta(y) = (Phi_eta(y) - y)/eta, where Phi_eta is one training step of the twin on y = (parameters, memory).

    One Euler step of length eta is the algorithm itself, to the last bit of its moments; whatever else an equation says of
    the algorithm is a series in this field (`modified`). A part of the memory that counts is cast to real, so that a
    schedule or a bias correction is a function of time.
    """

    def init(self, params):
        with jax.numpy_dtype_promotion("standard"):
            memory = self.twin().init(params)
        dtype = parameter_dtype(params)

        def real(leaf):
            leaf = jnp.asarray(leaf)
            if not (jnp.issubdtype(leaf.dtype, jnp.integer) or jnp.issubdtype(leaf.dtype, jnp.floating)):
                raise TypeError(
                    f"Argument `equation` must have a twin that remembers real numbers, but the memory of "
                    f"{type(self).__name__} holds {leaf.dtype}."
                )
            return leaf if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.astype(dtype)

        return TwinState(params, jax.tree.map(real, memory))

    def params(self, state):
        return state.params

    def velocity(self, t: Array, state: TwinState, gradient: PyTree) -> TwinState:
        """The change of the state by one training step on this gradient, over the learning rate; t has no part in it."""
        # Several transformations of Optax mix counts with floats, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = self.twin().update(gradient, state.memory, state.params)
        if jax.tree.structure(memory) != jax.tree.structure(state.memory):
            raise TypeError("Argument `equation` must have a twin whose memory keeps its structure.")

        def rate(change, leaf):
            return (change / self.learning_rate).astype(leaf.dtype)

        return TwinState(
            jax.tree.map(rate, updates, state.params),
            jax.tree.map(lambda new, old: rate(new.astype(old.dtype) - old, old), memory, state.memory),
        )

    def bounded(self, state, even, odd, dt):
        """Keeps the sign of whatever in the memory does not see that of the gradient, such as a second moment.

        As Adam's equation does, and for its reasons.
        """
        params, time = self.params(state), jnp.zeros((), parameter_dtype(self.params(state)))
        driven = is_even(lambda gradient: self.velocity(time, state, gradient), params)

        def cut(driven, even, odd, leaf):
            bound = 0.75 * jnp.abs(even) + jnp.abs(leaf) / (5 * dt)
            return jnp.clip(odd, -bound, bound).astype(odd.dtype) if driven else odd

        return jax.tree.map(cut, driven, even, odd, state)


class Increment(AbstractIncrement):
    """The increment field of an equation's twin, under the scaling and in the natural clock of that equation."""

    equation: AbstractEquation = eqx.field(kw_only=True)

    @classmethod
    def of(cls, equation: AbstractEquation) -> AbstractIncrement:
        """The increment field of `equation`, which is `equation` itself where it is one."""
        if isinstance(equation, AbstractIncrement):
            return equation
        if not isinstance(equation.twin(), optax.GradientTransformation):
            raise TypeError(
                f"Argument `equation` must have an optax.GradientTransformation as its twin, but "
                f"{type(equation).__name__}.twin() gave {equation.twin()!r}."
            )
        return cls(equation.learning_rate, equation.batch_size, equation.sampling, equation=equation)

    @property
    def source(self) -> AbstractEquation:
        """The equation at the learning rate of this one."""
        return eqx.tree_at(lambda equation: equation.learning_rate, self.equation, self.learning_rate)

    @property
    def gradient_noise(self):
        return self.source.gradient_noise

    def twin(self):
        return self.source.twin()

    def variance_scale(self):
        return self.source.variance_scale()

    def learning_rate_at(self, step):
        return self.source.learning_rate_at(step)

    @property
    def leapfrog(self):
        return self.source.leapfrog

    def rescaled(self, factor):
        return Increment.of(self.source.rescaled(factor))

    def time_per_step(self):
        return self.source.time_per_step()

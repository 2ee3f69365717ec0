"""The increment field of a discrete algorithm, a vector field that any Optax transformation has."""

from dataclasses import InitVar
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from .._base import AbstractEquation
from .._checks.facts import refined
from .._counts import clip_count, put
from .._forwarder import hand_on, inner
from .._gradients import fixed_gradient, no_gradient, twin_update
from .._jaxpr.roots import with_safe_roots
from .._jaxpr.structure import squares
from .._scaling import ForwardedLimit
from .._signals.base import parameter_dtype
from .._splitting import GradientSplitting, split
from .._square_noise import clip_square_noise
from .._tree import add_scaled


class TwinState(eqx.Module):
    """The whole state of a discrete algorithm: parameters, and the optimizer's memory with its counts cast to real."""

    params: PyTree
    memory: PyTree

    @classmethod
    def of(cls, params: PyTree, memory: PyTree) -> "TwinState":
        """With Optax's own memory, counts and what has another precision cast to the dtype of the parameters."""
        dtype = parameter_dtype(params)
        return cls(params, jax.tree.map(lambda leaf: leaf.astype(dtype), memory))


class AbstractIncrement(AbstractEquation):
    r"""f_eta(y) = (Phi_eta(y) - y)/eta, where Phi_eta is one training step of the twin on y = (parameters, memory).

    One Euler step of length eta is the algorithm itself, to the last bit of its moments; whatever else an equation says of
    the algorithm is a series in this field (`modified`). A part of the memory that counts is cast to real, so that a
    schedule or a bias correction is a function of time. Where it is held at a training step, the twin is given the whole
    number that it counts there, whatever the state holds: in the stages of a solver and in the terms of a series alike.
    """

    _facts = refined(AbstractEquation, reads="twin")

    _step: Array | None = eqx.field(default=None, kw_only=True, repr=False)  # where counts are held
    _window: tuple[Array, Array] | None = eqx.field(
        default=None, kw_only=True, repr=False
    )  # where they are read between

    memory: ClassVar[str] = "dynamic"

    @property
    def increment(self) -> "AbstractIncrement":
        """Itself, as what the series of it is made of."""
        return self

    @property
    def algorithm(self) -> AbstractEquation:
        """The equation whose twin it is of."""
        return self

    def held(self, low, high=None):
        return put(self, _step=low) if high is None else put(self, _window=(low, high))

    def is_affine(self, state):
        """That of the field itself: where its counts are held changes no shape of it, and it is asked once."""
        return AbstractEquation.is_affine(put(self, _step=None, _window=None), state)

    def init(self, params):
        with jax.numpy_dtype_promotion("standard"):
            memory = self.twin().init(params)
        memory = jax.tree.map(jnp.asarray, memory)
        for leaf in jax.tree.leaves(memory):
            if not (jnp.issubdtype(leaf.dtype, jnp.integer) or jnp.issubdtype(leaf.dtype, jnp.floating)):
                raise TypeError(
                    f"Argument `equation` must have a twin that remembers real numbers, but the memory of "
                    f"{type(self).__name__} holds {leaf.dtype}."
                )
        return TwinState.of(params, memory)

    def params(self, state):
        return state.params

    def averages(self, params: PyTree) -> TwinState:
        """True for every leaf of the state but those of the memory that count steps."""
        with jax.numpy_dtype_promotion("standard"):
            memory = jax.eval_shape(self.twin().init, params)
        return TwinState(
            jax.tree.map(lambda leaf: True, params),
            jax.tree.map(lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating), memory),
        )

    def split(self, state: TwinState) -> tuple[TwinState, TwinState]:
        """The state in two: parameters with averages, and counts; None elsewhere."""
        return eqx.partition(state, self.averages(state.params))

    def velocity(self, t: Array, state: TwinState, gradient: PyTree) -> TwinState:
        """The change of the state by one training step on this gradient, over the learning rate; t has no part in it."""
        # Several transformations of Optax mix counts with floats, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            before = self._counted(state)
            if self.several_gradients:  # a function, which holds more than arrays
                updates, memory = twin_update(self, gradient, before, state.params)
            else:
                updates, memory = with_safe_roots(self.twin().update, gradient, before, state.params)
        if jax.tree.structure(memory) != jax.tree.structure(state.memory):
            raise TypeError("Argument `equation` must have a twin whose memory keeps its structure.")

        def rate(change, leaf):
            if jnp.issubdtype(leaf.dtype, jnp.integer):  # a count that was given as one, whose change nobody asks for
                return change
            return (change / self.learning_rate).astype(leaf.dtype)

        return TwinState(
            jax.tree.map(rate, updates, state.params),
            jax.tree.map(
                lambda new, seen, old: rate(new.astype(old.dtype) - seen.astype(old.dtype), old),
                memory, before, state.memory,
            ),
        )  # fmt: skip

    def _counted(self, state: TwinState) -> PyTree:
        """The memory as the twin is given it: with counts held, or kept in a window, where they are."""
        if self._step is None and self._window is None:
            return state.memory
        begin = self.twin().init(state.params)

        def count(begin, leaf):
            if not jnp.issubdtype(jnp.result_type(begin), jnp.integer):
                return leaf
            if self._step is None:
                return clip_count(leaf, self._window)
            return begin + jnp.asarray(self._step).astype(jnp.result_type(begin))

        return jax.tree.map(count, begin, state.memory)

    def squares(self, state: TwinState) -> PyTree[int]:
        """1 for leaves of the state that move with the gradient but do not see its sign, such as a second moment.

        2 for second moments about a mean; 0 for all others.
        """
        params = self.params(state)
        time = jnp.zeros((), parameter_dtype(params))
        return squares(lambda gradient: self.velocity(time, state, fixed_gradient(self, gradient)), params)

    def forgotten(self, t: Array, state: TwinState, gains: PyTree[int]) -> TwinState:
        """The rates where second moments gain nothing: those at no gradient, and about a mean what is linear in them."""
        none = no_gradient(self, state.params)
        without = self.velocity(t, state, none)
        if 2 not in jax.tree.leaves(gains):
            return without
        moments, rest = eqx.partition(state, jax.tree.map(bool, gains))
        velocity = lambda moments: self.velocity(t, eqx.combine(moments, rest), none)  # noqa: E731
        linear = jax.jvp(velocity, (moments,), (moments,))[1]
        return jax.tree.map(lambda gain, part, whole: part if gain == 2 else whole, gains, linear, without)

    def splitting(self):
        return IncrementSplitting(self, along_new_memory=False)


class IncrementSplitting(GradientSplitting):
    """With second moments that stay positive."""

    def flow(self, t, state, signal):
        """As everywhere, but for second moments: these gain nothing in the flow, and in the kick they gain squares.

        Over a training step nothing then drives them negative.
        """
        rates = super().flow(t, state, signal)
        gains = self.dynamics.squares(state)
        if not any(jax.tree.leaves(gains)):
            return rates
        without = self.dynamics.forgotten(t, state, gains)
        return jax.tree.map(lambda gain, none, rate: none if gain else rate, gains, without, rates)

    def coordinates(self, state):
        return self.dynamics.split(state)

    def start(self, state, signal, noise):
        """The first step is the algorithm's where there is a second moment: no series knows an empty one."""
        equation = self.dynamics
        if not any(jax.tree.leaves(equation.squares(state))):
            return None
        gradient = equation.gradient(equation.params(state), signal, noise)
        return add_scaled(state, (equation.learning_rate, equation.velocity(jnp.zeros(()), state, gradient)))

    def clip_noise(self, state, even, odd, dt):
        """Keeps second moments positive over a part of a step, as Adam's equation does, and for its reasons."""

        def clip(square, leaf, even, odd):
            return clip_square_noise(leaf, even, odd, dt) if square else odd

        return jax.tree.map(clip, self.dynamics.squares(state), state, even, odd)


def at_infinity(counts: PyTree) -> PyTree:
    """Counts after every bias correction and warm-up."""
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, float(jnp.finfo(leaf.dtype).max) / 4), counts)


class Increment(AbstractIncrement):
    """The increment field of an equation's twin, under the scaling and in the natural clock of that equation.

    A diffusion of the equation's own has no part in what its twin does, nor has anything else but what is forwarded here.
    """

    equation: AbstractEquation = eqx.field(kw_only=True)
    learning_rate: InitVar[Any] = inner("learning_rate")
    batch_size: InitVar[Any] = inner("batch_size")
    sampling: InitVar[Any] = inner("sampling")
    noise_model: InitVar[Any] = inner("noise_model")
    __post_init__ = hand_on

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
        return cls(equation=equation)

    @property
    def algorithm(self):
        return self.equation

    linear = inner("linear")
    several_gradients = inner("several_gradients")
    gradient_noise = inner("gradient_noise")

    def twin(self):
        return self.equation.twin()

    def splitting(self):
        return IncrementSplitting(self, smooth=split(self.equation).smooth, along_new_memory=False)

    def scaling_limit(self):
        return ForwardedLimit(self)

    def around_moved(self, equation, clock):
        return Increment.of(equation)

    def check(self, params, signal):
        self.equation.check(params, signal)

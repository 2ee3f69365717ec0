"""What learning by feedback weights has in common: a backward pass that returns through V instead of W^T."""

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._checks.arguments import flag, leaf_name, positive, typed_key
from .._checks.once import is_traced
from .._signals.base import AbstractSignal


class WithFeedback(eqx.Module):
    """A network and its feedback weights, as parameters of a rule in which both are plastic. Called like the network.

    - `model`: an `equinox.nn.MLP`.
    - `feedback`: one matrix V_l for each layer but the first, of the shape of W_l^T, `(in, out)`.
    """

    model: eqx.nn.MLP
    feedback: tuple[Array, ...] = eqx.field(converter=tuple)

    def __call__(self, x: Array, *, key: Array | None = None) -> Array:
        return self.model(x)


def random_feedback(model: eqx.nn.MLP, key: Array, *, direct: bool = False, scale: float = 1.0) -> tuple[Array, ...]:
    """Random feedback weights, drawn like Equinox's own weights: uniform within +- scale/sqrt(in).

    **Arguments:**

    - `model`: the network that they are for.
    - `key`: a typed key.
    - `direct`: False for one matrix per layer but the first, of the shape of W_l^T; True for one per hidden layer,
        `(width, outputs)`, from the output straight to it.
    - `scale`: a positive number.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    key, largest = typed_key("key", key), positive("scale")(scale)

    def draw(key, shape, dtype):
        return largest.astype(dtype) * jax.random.uniform(key, shape, dtype, -1.0, 1.0) / math.sqrt(shape[0])

    shapes, dtype = feedback_shapes(model, flag("direct")(direct)), layers(model)[0].weight.dtype
    return tuple(draw(jax.random.fold_in(key, place), shape, dtype) for place, shape in enumerate(shapes))


def layers(model: eqx.nn.MLP) -> list[eqx.nn.Linear]:
    """The layers of a network, also of one that was made with `scan=True`."""
    if not isinstance(model, eqx.nn.MLP):
        raise TypeError(
            f"Argument `params` must be an equinox.nn.MLP where a rule needs layers, but {model!r} was given."
        )
    if not (model.scan and model.depth > 0):
        return list(model.layers)
    first, hidden, last = model.layers
    take = lambda place: jax.tree.map(lambda leaf: leaf[place], hidden)  # noqa: E731
    return [first, *map(take, range(model.depth - 1)), last]


def feedback_shapes(model: eqx.nn.MLP, direct: bool) -> list[tuple[int, ...]]:
    shapes = [layer.weight.shape[::-1] for layer in layers(model)[1:]]
    return [(width, shapes[-1][1]) for width, _ in shapes] if direct else shapes


def check_feedback(model: eqx.nn.MLP, feedback: Sequence[Array], direct: bool) -> None:
    """Raises a TypeError or ValueError unless the feedback fits the network; shapes alone, so also under tracing."""
    expected, given = feedback_shapes(model, direct), [np.shape(matrix) for matrix in feedback]
    if expected != given:
        which = "each hidden layer, (width, outputs)" if direct else "each layer but the first, (in, out)"
        raise ValueError(
            f"Argument `feedback` must hold a matrix for {which}, of shapes {expected}, but {given} was given."
        )
    dtype, found = layers(model)[0].weight.dtype, {jnp.result_type(matrix) for matrix in feedback}
    if found - {dtype}:
        raise TypeError(
            f"Argument `feedback` must have the dtype of the network, {dtype}, but {', '.join(map(str, found))} was given."
        )


def matrices(feedback: Sequence[Array]) -> tuple[Array, ...]:
    """A field converter: a sequence of floating-point arrays, finite."""
    if isinstance(feedback, str | Array | np.ndarray) or not isinstance(feedback, Sequence):
        raise TypeError(f"Argument `feedback` must be a sequence of matrices, but {feedback!r} was given.")
    for place, matrix in enumerate(feedback):
        name = leaf_name("feedback", (jax.tree_util.SequenceKey(place),))
        if not eqx.is_inexact_array_like(matrix):
            raise TypeError(f"Argument `feedback` must hold floating-point matrices, but {name} is {matrix!r}.")
        if not is_traced(matrix) and not np.all(np.isfinite(matrix)):
            raise ValueError(f"Argument `feedback` must be finite, but {name} holds NaN or infinity.")
    return tuple(map(jnp.asarray, feedback))


# Custom backward rules, not `stop_gradient`: their backward passes are ordinary code, so that derivatives of a signal,
# which modified equations and the curl take, are those of the rule itself.
@jax.custom_vjp
def block(h):
    """h; nothing goes back."""
    return h


block.defvjp(lambda h: (h, None), lambda _, error: (jnp.zeros_like(error),))


@jax.custom_vjp
def route(z, sources, feedback):
    """z; its error delta goes back to each of the sources as V delta."""
    return z


route.defvjp(
    lambda z, sources, feedback: (z, feedback),
    lambda feedback, error: (
        error,
        tuple(v @ jnp.atleast_1d(error) for v in feedback),
        jax.tree.map(jnp.zeros_like, feedback),
    ),
)


@jax.custom_vjp
def tie(weight, feedback, rate):
    """The weight; what it learns, V learns as well, transposed and times `rate`. Outside of vmap one product makes both."""
    return weight


tie.defvjp(
    lambda w, v, rate: (w, rate), lambda rate, error: (error, rate.astype(error.dtype) * error.T, jnp.zeros_like(rate))
)


class Routed(eqx.Module):
    """A network whose errors go back through V: layer by layer, or from the output straight to each hidden layer."""

    model: eqx.nn.MLP
    layers: list[eqx.nn.Linear]
    feedback: tuple[Array, ...]
    direct: bool = eqx.field(static=True)

    def __call__(self, x: Array, *, key: Array | None = None) -> Array:
        first, *others = self.layers
        z, hidden = first(x), []
        for place, layer in enumerate(others):
            hidden.append(_activated(self.model, place, z))
            z = layer(block(hidden[-1]))
            if not self.direct:
                z = route(z, (hidden[-1],), (self.feedback[place],))
        if self.direct:
            z = route(z, tuple(hidden), self.feedback)
        if not others:  # Equinox gives a single layer no activation function
            return z
        final = self.model.final_activation
        return final(z) if self.model.out_size == "scalar" else _each(final, z)


def inputs(model: eqx.nn.MLP, x: Array) -> list[Array]:
    """What each layer of a network receives, h_{l-1}, each a vector."""
    received = [x]
    for place, layer in enumerate(layers(model)[:-1]):
        received.append(_activated(model, place, layer(received[-1])))
    return list(map(jnp.atleast_1d, received))


_each = eqx.filter_vmap(lambda function, value: function(value))


def _activated(model, place, z):
    """A hidden layer's activity; activation functions with parameters have their own for every neuron."""
    return _each(jax.tree.map(lambda leaf: leaf[place] if eqx.is_array(leaf) else leaf, model.activation), z)


class AbstractFeedback(AbstractSignal):
    """A rule on an `equinox.nn.MLP` whose errors go back through feedback weights.

    Every layer learns from its own error and its own input, as in backpropagation; only what is handed on to the layers
    below is another. Derivatives through the loss, the activation functions and within a layer are the true ones. The loss
    may do with the network nothing but call it; penalties on its weights are a matter of `regularized`.

    The angles are observables, `observe={"angle": signal.angle}`; they are those of the learning signal without decay.
    """

    loss: eqx.AbstractVar[Callable]
    direct = False

    @abc.abstractmethod
    def network(self, params: PyTree) -> eqx.nn.MLP:
        """The network among the parameters."""

    @abc.abstractmethod
    def backward(self, params: PyTree) -> tuple[Array, ...]:
        """The feedback weights."""

    def layers(self, params: PyTree) -> list[eqx.nn.Linear]:
        """The layers of the network, tied to the feedback where that learns along."""
        return layers(self.network(params))

    def routed(self, params: PyTree, example: PyTree) -> Array:
        """The loss of one example, whose derivative is the learning signal."""
        network = Routed(self.network(params), self.layers(params), self.backward(params), self.direct)
        return self.outcome(network, example)

    def outcome(self, network: Callable, example: PyTree) -> Array:
        """The loss of one example; a rule may keep more than that in an example."""
        return self.loss(network, example)

    def surrogate(self, active, frozen, example):
        return self.routed(active, example)

    def value(self, params: PyTree) -> Float[Array, ""]:
        """The mean loss, a scalar."""
        network = self.network(params)
        return jnp.mean(jax.vmap(lambda example: self.outcome(network, example))(self.data))

    def learning_signal(self, params: PyTree) -> PyTree:
        """The mean of the rule over the examples without its decay, like the parameters."""
        mean = lambda p: jnp.mean(jax.vmap(lambda example: self.routed(p, example))(self.data))  # noqa: E731
        return eqx.filter_grad(mean)(params)

    def angles(self, params: PyTree) -> Float[Array, " layers"]:
        """Angles between learning signal and gradient for the weights of each layer, in degrees, `(layers,)`."""
        pair = (layers(network) for network in self._pair(params))
        return jnp.stack([angle(a.weight, b.weight) for a, b in zip(*pair, strict=True)])

    def angle(self, params: PyTree) -> Float[Array, ""]:
        """The angle between learning signal and gradient for the whole network, in degrees, a scalar."""
        return angle(*self._pair(params))

    def feedback_angles(self, params: PyTree) -> Float[Array, " matrices"]:
        """Angles between V_l and W_l^T, in degrees, one for each layer but the first; of layerwise feedback only."""
        if self.direct:
            raise ValueError(
                f"Argument `params`: `feedback_angles` must be asked of layerwise feedback, but {type(self).__name__} is "
                "direct; `angles` are between its learning signal and the gradient."
            )
        weights = [layer.weight for layer in layers(self.network(params))[1:]]
        return jnp.stack([angle(v, w.T) for v, w in zip(self.backward(params), weights, strict=True)])

    def _pair(self, params):
        gradient = eqx.filter_grad(self.value)(params)
        return self.network(self.learning_signal(params)), self.network(gradient)

    def check(self, params):
        check_feedback(self.network(params), self.backward(params), self.direct)
        super().check(params)


class AbstractFeedbackParameters(AbstractFeedback):
    """A rule in which the feedback learns too: its parameters are `WithFeedback`."""

    def network(self, params):
        if not isinstance(params, WithFeedback):
            raise TypeError(
                f"Argument `params` must be equations.WithFeedback(model, feedback), but {params!r} was given."
            )
        return params.model

    def backward(self, params):
        return params.feedback


class AbstractTied(AbstractFeedbackParameters):
    """A rule in which the feedback learns what the weights learn."""

    @property
    @abc.abstractmethod
    def feedback_rate(self) -> Array:
        """How much faster V_l learns than W_l^T."""

    def layers(self, params):
        first, *others = layers(self.network(params))
        ties = [tie(w.weight, v, self.feedback_rate) for w, v in zip(others, params.feedback, strict=True)]
        return [first, *(eqx.tree_at(lambda w: w.weight, w, tied) for w, tied in zip(others, ties, strict=True))]


def decay_penalty(rate: Array, weights: Sequence[Array]) -> Any:
    """rate |W|^2/2, whose gradient is the decay of these weights."""
    return sum(0.5 * rate.astype(w.dtype) * jnp.sum(w**2) for w in weights)


def cosine(a: Array, b: Array) -> Array:
    """Of the angle between two arrays; 0 where one of them is zero."""
    norm = jnp.linalg.norm(a) * jnp.linalg.norm(b)
    return jnp.vdot(a, b) / jnp.where(norm == 0, 1, norm)


def angle(a: PyTree, b: PyTree) -> Array:
    """The angle between two PyTrees of arrays in degrees; 90 where one of them is zero."""
    a, b = (jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    nonzero = jnp.any(a != 0) & jnp.any(b != 0)
    a, b = (v / jnp.where(nonzero, jnp.linalg.norm(v), 1) for v in (a, b))
    # arccos of the cosine would lose half the digits near 0 and 180 (Kahan).
    radians = 2 * jnp.arctan2(jnp.linalg.norm(a - b), jnp.linalg.norm(a + b))
    return jnp.where(nonzero, jnp.degrees(radians), 90.0)

"""Checks of a circuit's arguments, and of what it is given to run on."""

import warnings
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._checks import integer, nonnegative, positive
from ._circuit_state import Weights
from ._stream import AbstractStream


def layer_sizes(value) -> tuple[int, ...]:
    """A field converter: the numbers of neurons of at least an input and an output."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) < 2:
        raise ValueError(
            f"Argument `layers` must be the numbers of neurons of two or more layers, input first, but {value!r} was given."
        )
    return tuple(integer(f"layers[{place}]", size) for place, size in enumerate(value))


def optional_time(name: str):
    """A field converter: a positive finite number or None."""
    return lambda value: None if value is None else positive(name)(value)


def delay_time(value) -> float:
    """A field converter: a plain number of seconds, zero or more, known before tracing."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"Argument `delay` must be known before tracing, since it fixes a number of steps, but {value!r} was given."
        )
    nonnegative("delay")(value)
    return float(value)


def optional_noise(value) -> Array | None:
    """A field converter: a number above zero, or None, which zero stands for too."""
    value = None if value is None else nonnegative("integration_noise")(value)
    return None if value is None or (not isinstance(value, jax.core.Tracer) and value == 0) else value


def layer_pairs(value) -> tuple[tuple[int, int], ...]:
    """A field converter: pairs of integers, to be checked against the layers by `connections`."""
    try:
        return tuple((integer("skip", i, minimum=0), integer("skip", j)) for i, j in value)
    except (TypeError, ValueError):
        raise ValueError(
            f"Argument `skip` must be pairs (i, j) of layers, counted from the input, 0, but {value!r} was given."
        ) from None


def connections(layers: tuple[int, ...], skip: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """The pairs of layers that are connected: neighbours first, then those of `skip`, checked."""
    last = len(layers) - 1
    if len(set(skip)) < len(skip) or not all(i + 1 < j <= last for i, j in skip):
        raise ValueError(
            f"Argument `skip` must be pairs (i, j) of layers with i + 1 < j <= {last}, each once, but {skip!r} was given."
        )
    return (*((layer, layer + 1) for layer in range(last)), *skip)


def check_weights(given: Weights, right: Weights) -> None:
    """Raises a TypeError or ValueError unless weights have the shapes that a circuit's have."""
    if not isinstance(given, Weights):
        raise TypeError(
            f"Argument `params` must be the weights that a circuit's `init(key)` makes, but {given!r} was given."
        )
    for name in ("forward", "backward"):
        shapes, rights = ([leaf.shape for leaf in jax.tree.leaves(getattr(tree, name))] for tree in (given, right))
        if shapes != rights:
            raise ValueError(
                f"Argument `params` must have matrices `{name}` of shapes {rights or None}, but {shapes or None} was given."
            )


def check_stimuli(stream: AbstractStream, layers: tuple[int, ...], weights: Weights) -> None:
    """Raises a TypeError or ValueError unless inputs and targets fit the circuit."""
    if not isinstance(stream, AbstractStream):
        raise TypeError(
            f"Argument `objective` must be a stream such as dynamics.stimuli for a circuit, but {stream!r} was given."
        )
    stimulus = eqx.filter_eval_shape(
        lambda: stream.stimulus(jnp.zeros((), jnp.int32), stream.begin(jax.random.key(0)))[0]
    )
    for name, leaf, size in (("X", stimulus.x, layers[0]), ("Y", stimulus.y, layers[-1])):
        if leaf.shape != (size,):
            raise ValueError(
                f"Argument `{name}` must have shape (N, {size}) for a circuit of layers {layers}, but stimuli of shape "
                f"{leaf.shape} were given."
            )
        dtype = jax.tree.leaves(weights)[0].dtype
        if leaf.dtype != dtype:
            raise TypeError(
                f"Argument `{name}` must have the dtype of the weights, {dtype}, but {leaf.dtype} was given."
            )


def warn_of_times(why: str, *pairs: tuple[str, Array | float | None, str, Array | float | None]) -> None:
    """Warns where the first time of a pair, which should be much the shorter one, is the longer one."""
    for name, short, other, long in pairs:
        if short is None or long is None or any(isinstance(time, jax.core.Tracer) for time in (short, long)):
            continue
        ratio = float(short) / float(long)
        if ratio > 1 + 1e-6:
            warnings.warn(
                f"{name} / {other} is {ratio:.3g}: {why}.",
                stacklevel=4,
            )

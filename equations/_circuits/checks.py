"""Checks of a circuit's arguments, and of what it is given to run on."""

import math
import warnings
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._checks.arguments import integer, nonnegative, positive, seconds
from .._checks.once import is_traced
from .state import Weights
from .stream import AbstractStream


def layer_sizes(value) -> tuple[int, ...]:
    """A field converter: the numbers of neurons of at least an input and an output."""
    if isinstance(value, jax.Array | np.ndarray) and not is_traced(value) and value.ndim == 1:
        value = value.tolist()
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
    return seconds("delay", value, nonnegative)


def optional_noise(value) -> Array | None:
    """A field converter: a number above zero, or None, which zero stands for too."""
    value = None if value is None else nonnegative("integration_noise")(value)
    return None if value is None or (not is_traced(value) and value == 0) else value


def layer_pairs(value) -> tuple[tuple[int, int], ...]:
    """A field converter: pairs of integers, to be checked against the layers by `connections`."""
    try:
        return tuple((integer("skip", i, minimum=0), integer("skip", j)) for i, j in value)
    except (TypeError, ValueError):
        raise ValueError(
            f"Argument `skip` must be pairs (i, j) of layers, counted from the input, 0, but {value!r} was given."
        ) from None


def connections(layers: tuple[int, ...], skip: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """The pairs of layers that are connected: neighbors first, then those of `skip`, checked."""
    last = len(layers) - 1
    if len(set(skip)) < len(skip) or not all(i + 1 < j <= last for i, j in skip):
        raise ValueError(
            f"Argument `skip` must be pairs (i, j) of layers with i + 1 < j <= {last}, each once, but {skip!r} was given."
        )
    return (*((layer, layer + 1) for layer in range(last)), *skip)


def check_weights(given: Weights, shapes: tuple[list, list], name: str) -> None:
    """Raises a TypeError or ValueError unless weights have the shapes that a circuit's have, forward and backward."""
    if not isinstance(given, Weights):
        raise TypeError(
            f"Argument `{name}` must be the weights that a circuit's `init(key)` makes, but {given!r} was given."
        )
    for part, right in zip(("forward", "backward"), shapes, strict=True):
        found = [jnp.shape(leaf) for leaf in jax.tree.leaves(getattr(given, part))]
        if found != right:
            raise ValueError(
                f"Argument `{name}` must have matrices `{part}` of shapes {right or None}, but {found or None} was given."
            )


def check_activation(value, sizes: Sequence[int]) -> None:
    """Raises a TypeError or ValueError unless JAX can differentiate a function of the potentials of so many neurons."""
    if not callable(value):
        raise TypeError(f"Argument `activation` must be a function of arrays, but {value!r} was given.")
    for size in sizes:
        potential = jax.ShapeDtypeStruct((size,), jnp.result_type(float))
        try:
            found = eqx.filter_eval_shape(lambda a: jax.jvp(value, (a,), (a,))[0], potential)
        except jax.errors.JAXTypeError as error:
            raise TypeError(
                f"Argument `activation` must be a function that JAX differentiates, such as jax.numpy.tanh, but {value!r} "
                "was given."
            ) from error
        if jnp.shape(found) != potential.shape:
            raise ValueError(
                f"Argument `activation` must give an array of the shape that it is given, {potential.shape}, but {value!r} "
                f"gives {jnp.shape(found)}."
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


def warn_of_times(
    why: str, *pairs: tuple[str, Array | float | None, str, Array | float | None], reach: float = 1 + 1e-6
) -> None:
    """Warns where the first time of a pair, which should be much the shorter one, is `reach` times the other or more."""
    for name, short, other, long in pairs:
        if short is None or long is None or any(is_traced(time) for time in (short, long)):
            continue
        ratio = float(short) / float(long)
        if ratio > reach or math.isclose(ratio, reach, rel_tol=1e-9):
            warnings.warn(
                f"{name} / {other} is {ratio:.3g}: {why}.",
                stacklevel=4,
            )

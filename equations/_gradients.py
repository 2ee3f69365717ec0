"""The gradient of one batch as a function of the parameters, for rules that ask for it at several of them.

What the `velocity` of an `AbstractSeveralGradients` receives is `gradient(params)`, on the same examples with the same
weights, and with the same normals of whatever is drawn, wherever it is asked for. So the noise of two gradients of one
batch is correlated as theirs: Gaussian weights over the examples stand for the batch at all points.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import PyTree

from ._signals.base import parameter_dtype

Gradient = Callable[[PyTree], PyTree]


def is_noisy(equation: Any) -> bool:
    """Whether the gradient of a training step is random in the equation: by its batches, or by what is injected."""
    batches = equation.batch_size is not None and equation.sampling != "shuffled"
    return equation.gradient_noise.random(batches)


def _full(signal, params):
    return signal.gradient(params)


def _drawn(noise, batches, normals, params):
    return noise.draw(batches, params, normals)


def _real(noise, batch, normals, params):
    return noise.real(batch, params, normals)


def _fixed(gradient, params):
    return gradient


class DrawnBatch(eqx.Module):
    """The normals that a real batch is drawn by, or their structure: of its examples, and of what is injected into it."""

    examples: Any
    injected: Any


def batch_structure(equation: Any, signal: Any, params: PyTree) -> DrawnBatch:
    """A normal for each draw with replacement; one for every example where the batch is those of the largest.

    **Raises:** ValueError where the noise model only describes batches.
    """
    if not equation.gradient_noise.of_batches:
        raise ValueError(
            "Argument `noise_model` must be of real batches, as Minibatch() is and what is given on top of it, for "
            f"{type(equation).__name__}, whose kicks draw them, but {equation.gradient_noise!r} was given."
        )
    size, one, examples = equation.batch_size, signal, None
    if size is not None:
        count = size if equation.sampling == "with_replacement" else signal.size
        examples = jax.ShapeDtypeStruct((count,), parameter_dtype(params))
        one = signal.take(jnp.zeros(size, int))
    return DrawnBatch(examples, equation.gradient_noise.injected(one, params))


def _batch(equation, signal, examples):
    """The real batch of these normals: the same law for any orthogonal mixture of independent ones."""
    if examples is None:
        return signal
    if equation.sampling == "with_replacement":
        uniform = jax.scipy.special.ndtr(examples)
        return signal.take(jnp.minimum((signal.size * uniform).astype(int), signal.size - 1))
    return signal.take(jax.lax.top_k(examples, equation.batch_size)[1])


def check_epochs(equation: Any) -> None:
    """Raises a ValueError for shuffled epochs of several gradients: their noise cancels in what is linear in one alone."""
    if equation.several_gradients and equation.batch_size is not None:
        if equation.sampling == "shuffled":
            raise ValueError(
                "Argument `sampling` must be 'with_replacement' or 'without_replacement' for the equation of an algorithm "
                "that takes several gradients of a batch, in whose drift the noise of batches is, but 'shuffled' was "
                "given; `train` runs the algorithm."
            )


def drawn_gradient(equation: Any, signal: Any, normals: PyTree | None) -> Gradient:
    """The gradient of one training step from the normals of one draw; the full gradient if they are None."""
    if normals is None:
        return Partial(_full, signal)
    if isinstance(normals, DrawnBatch):
        return Partial(_real, equation.gradient_noise, _batch(equation, signal, normals.examples), normals.injected)
    return Partial(_drawn, equation.gradient_noise, equation.batches(signal), normals)


def real_gradient(equation: Any, batch: Any, params: PyTree, normals: PyTree | None) -> PyTree | Gradient:
    """That of a real batch, with what the noise model injects into it: at `params`, or where several are asked for as a
    function."""
    batch = equation.sees(batch)
    if equation.several_gradients:
        return Partial(_real, equation.gradient_noise, batch, normals)
    return equation.gradient_noise.real(batch, params, normals)


def fixed_gradient(equation: Any, gradient: PyTree) -> PyTree | Gradient:
    """A gradient that is the same everywhere, in the form in which the equation's velocity takes it."""
    return Partial(_fixed, gradient) if equation.several_gradients else gradient


def no_gradient(equation: Any, params: PyTree) -> PyTree | Gradient:
    """A gradient of zero, in that form."""
    return fixed_gradient(equation, jax.tree.map(jnp.zeros_like, params))


def twin_update(equation: Any, gradient: PyTree | Gradient, memory: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
    """Updates and new memory by one step of the equation's twin.

    The twin of a rule that asks for several gradients takes the first one, and `grad_fn(params, index)` for the others, as
    Optax's own `optax.contrib.sam(..., opaque_mode=True)` does.
    """
    twin = equation.twin()
    if not equation.several_gradients:
        return twin.update(gradient, memory, params)
    gradient_of: Any = gradient
    return optax.with_extra_args_support(twin).update(
        gradient_of(params), memory, params, grad_fn=lambda params, index=0: gradient_of(params)
    )

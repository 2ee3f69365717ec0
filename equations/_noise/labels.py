"""Labels in the data, and whether the derivative of a gradient in them is that which noise in them meets."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._checks.once import once, quick_jit
from .._signals.base import AbstractSignal, is_parameter

_FEW = 32  # examples
_OFF = (
    0.05  # of a central difference over a short way: a derivative that JAX takes of the same values is off by rounding
)


def check_labels(signal: AbstractSignal, labels: Callable) -> None:
    """Raises a TypeError or ValueError unless `labels(data)` is an array of the data, of floating-point numbers."""
    wording = "Argument `noise_model`: `labels` must find the labels, floating-point numbers, in `data`, "
    try:
        found = labels(signal.data)
        eqx.tree_at(labels, signal.data, found)  # of a bare array data[1] is no leaf
    except Exception as error:
        if eqx.is_array(signal.data):
            raise ValueError(
                f"{wording}as one of its arrays, but `data` is one: give the labels as an array of their own, "
                "data=(inputs, labels), or all of them as labels=lambda data: data."
            ) from error
        raise ValueError(f"{wording}but {type(error).__name__}: {error}") from error
    if not eqx.is_inexact_array(found):
        raise TypeError(f"{wording}but found {found!r}.")
    # Of a bare array data[1] is the second example.
    if not any(found is leaf for leaf in jax.tree.leaves(signal.data)):
        raise ValueError(f"{wording}as one of its arrays, but found something else of shape {found.shape}.")


def check_label_derivative(signal: AbstractSignal, params: PyTree, labels: Callable, scale: Array) -> None:
    """Raises a ValueError where noise in the labels would move the gradient otherwise than its derivative says."""
    if once(_is_off, signal, params, labels, scale):
        raise ValueError(
            "Argument `noise_model`: LabelNoise goes by the derivative of the gradient in the labels, but that is not how "
            "the gradient moves with them, as behind `stop_gradient` or where labels are rounded: take that out of the "
            "loss, whose labels nothing differentiates but this noise."
        )


def _is_off(signal: AbstractSignal, params: PyTree, labels: Callable, scale: Array) -> bool:
    """By `stop_gradient` at the label, or where it acts in steps: a response at the scale of the noise, and no slope."""
    few = signal.take(jnp.asarray(np.linspace(0, signal.size - 1, min(signal.size, _FEW)).round(), int))
    slope, short, far = map(np.asarray, _responses(few, params, labels, scale))
    if not np.all(np.isfinite(short)):
        return False
    norm, least = np.linalg.norm, 1e-6 * np.linalg.norm(far)
    near = norm(slope - short) > _OFF * norm(short) + least
    return bool(near or (norm(slope) <= least and np.any(far)))


@quick_jit(level=0)
def _responses(signal, params, labels, scale):
    """The derivative of the gradient along some change of the labels, and central differences of it over a short way and
    over the scale of the noise, each as one vector."""
    active, static = eqx.partition(params, is_parameter)
    here = labels(signal.data)
    along = jnp.asarray(np.random.default_rng(0).standard_normal(here.shape), here.dtype)  # of which nothing cancels

    def gradient(y):
        examples = signal.with_data(eqx.tree_at(labels, signal.data, y)).examples

        def value(active):
            model = eqx.combine(active, static)
            return jnp.mean(jax.vmap(lambda example: signal.surrogate(model, params, example))(examples))

        leaves = jax.tree.leaves(jax.grad(value)(active))
        return jnp.concatenate([leaf.ravel() for leaf in leaves])

    slope = jax.jvp(gradient, (here,), (along,))[1]
    size = 1 + jnp.max(jnp.abs(here))
    ways = jnp.stack([size * jnp.finfo(here.dtype).eps ** (1 / 3), jnp.asarray(scale, here.dtype)])
    ahead, behind = (jax.lax.map(lambda way, s=s: gradient(here + s * way * along), ways) for s in (1, -1))
    short, far = (ahead - behind) / (2 * jnp.where(ways > 0, ways, 1))[:, None]
    return slope, short, far

"""What is told of a random loss: a mean that is not its own, and one that is known by too few keys."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._noise.batches import Batches
from .._noise.loss import LossNoise
from .._signals.base import AbstractSignal, is_parameter, is_random
from .._signals.keys import fixed_keys
from .._tree import normals_of
from .once import once, quick_jit, warn

_FEW = 8  # examples that are looked at
_KEYS, _CHUNK = (32, 1024), 32  # of each of them, fewer for large networks, and so many at once
_NUMBERS = 2**27  # that are differentiated in all
_AWAY = (0.0, 1.0, 4.0)  # from the parameters, over their size
_SURE = 7.0  # standard errors of a mean over these
_ONE = 0.2  # of the sum of squares: more in one key is a rare event, of which a mean says nothing
_SHORT = 16  # steps whose noise must make up for the error of a sampled mean


def check_mean(signal: Any, params: PyTree) -> None:
    """Warns where `mean` of a random loss is not its mean, in value or along a random direction.

    It is looked at up to 8 examples and 1024 keys of each, at the parameters and at others of their size and of four times
    that, around them. A difference below 7 standard errors of that is not seen, nor one that shows elsewhere alone, or in
    rare keys.

    **Raises:** ValueError where `mean` is not finite, and the loss is.
    """
    if not is_random(signal) or signal.sampled:
        return
    wrong, found = once(_wrong_mean, signal, params) or (False, None)
    if wrong:
        raise ValueError(f"Argument `mean` must be the loss averaged over its keys, but {found}.")
    if found:
        warn(f"Argument `mean` must be the loss averaged over its keys, but {found}.")


def _wrong_mean(signal: AbstractSignal, params: PyTree) -> tuple[bool, str | None]:
    """Whether `mean` cannot be used, and what is wrong with it."""
    few = signal.take(jnp.asarray(np.linspace(0, signal.size - 1, min(signal.size, _FEW)).round(), int))
    active, static = eqx.partition(params, is_parameter)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(active))
    count = int(np.clip(_NUMBERS // (few.size * numbers), *_KEYS)) // _CHUNK * _CHUNK
    for away in _AWAY:
        drawn, means = (np.asarray(x, float) for x in _values(few, active, static, count, np.asarray(away, np.float32)))
        for values, mean, what in zip(
            drawn, means, ("the loss is", "its derivative along a direction is"), strict=True
        ):
            if not away and np.all(np.isfinite(values)) and not np.isfinite(mean):
                return True, f"over {count} keys {what} {values.mean():.4g} and that of `mean` {mean:g}"
            if _is_off(values, mean):
                error, where = values.std() / (count - 1) ** 0.5, " at parameters drawn around these" if away else ""
                found = (
                    f"over {count} keys {what} {values.mean():.4g} ± {error:.1g}{where} and that of `mean` {mean:.4g}"
                )
                return False, found
    return False, None


def _is_off(values: np.ndarray, mean: float) -> bool:
    """Whether the mean of values is another by many standard errors, none of which is one value's alone."""
    if not np.all(np.isfinite([*values, mean])):
        return False
    away, count = values - values.mean(), values.size
    squares, off = np.sum(away**2), abs(values.mean() - mean)
    error = np.sqrt(squares / (count * (count - 1)))
    rounding = 1e-4 * (abs(values.mean()) + abs(mean))
    return bool(np.max(away**2) <= _ONE * squares and error > 0 and off > _SURE * error + rounding)


def _at_random(active: PyTree, away: Array) -> PyTree:
    """Parameters around these, so many times as far as they are large, each leaf by its own size; a fixed draw."""
    leaves, treedef = jax.tree.flatten(active)
    sizes = [jnp.sqrt(jnp.sum(jnp.square(leaf)) / max(1, leaf.size)).astype(jnp.float32) for leaf in leaves]
    largest = functools.reduce(jnp.maximum, sizes)
    largest = jnp.where(largest > 0, largest, 1.0)
    drawn = jax.tree.leaves(normals_of(active, jax.random.key(1)))
    moved = [
        leaf + (away * jnp.where(size > 0, size, largest)).astype(leaf.dtype) * normal
        for leaf, size, normal in zip(leaves, sizes, drawn, strict=True)
    ]
    return jax.tree.unflatten(treedef, moved)


@quick_jit(level=0)
def _values(signal, active, static, count, away):
    """Sums over the examples with weights, `(2, keys)` and `(2,)`: of the value and of a derivative, so far away."""
    active = _at_random(active, away)
    direction = normals_of(active, jax.random.key(0))
    weights = 1 + jnp.arange(signal.size) / signal.size

    def total(signal):
        def value(active):
            model = eqx.combine(active, static)
            values = jax.vmap(lambda example: signal.surrogate(model, model, example))(signal.examples)
            return jnp.dot(weights.astype(values.dtype), values)

        return jnp.stack(jax.jvp(value, (active,), (direction,)))

    keys = jax.vmap(lambda number: fixed_keys(number, count), out_axes=1)(jnp.arange(signal.size))
    return jax.lax.map(lambda keys: total(signal.with_keys(keys)), keys, batch_size=_CHUNK).T, total(signal)


def steps_to_mean(equation: Any, signal: Any, params: PyTree) -> float | None:
    """After how many steps the standard error of a sampled drift has moved the parameters as far as their noise.

    The error moves them by eta se in every step, and n steps of noise by eta sigma sqrt(n): at n = (sigma/se)^2 both are
    alike, se and sigma summed over all parameters, at a few examples. None where the mean is exact, where other noise is
    there too, and under a trace.
    """
    if not is_random(signal) or not signal.sampled:
        return None
    noise = equation.gradient_noise
    if noise.beside_loss is noise or noise.beside_loss.injects:
        return None
    return once(_steps, equation.batches(signal), noise, params)


def warn_sampling(equation: Any, signal: Any, params: PyTree) -> None:
    """Warns where so few steps are enough that no relaxation is faster."""
    steps = steps_to_mean(equation, signal, params)
    if steps is not None and steps < _SHORT:
        warn(
            f"Argument `draws` must be larger than {signal.samples}: the mean over so few keys of each example has a "
            f"standard error that moves the parameters as far in {steps:.1f} steps as their noise. More `draws`, or `mean` "
            "(the loss averaged over its keys) make the drift right."
        )


def _steps(batches: Batches, noise: LossNoise, params: PyTree) -> float:
    signal = batches.signal
    few = signal.take(jnp.asarray(np.linspace(0, signal.size - 1, min(signal.size, _FEW)).round(), int))
    within, between = (float(x) for x in _spreads(few, params))
    error = within / (signal.size * signal.samples)
    return np.inf if error == 0 else (batches.factor * between + noise.share(batches) * within) / error


@quick_jit(level=0)
def _spreads(signal, params) -> tuple[Array, Array]:
    """The variances, over keys and of the examples' means, summed over all numbers of the gradient."""
    drawn, count = signal.drawn(), signal.samples

    def one(example):
        gradients = jax.lax.map(lambda k: drawn.take((example * count + k)[None]).gradient(params), jnp.arange(count))
        mean = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)
        away = jax.tree.map(lambda g, m: jnp.sum((g - m) ** 2) / (count - 1), gradients, mean)
        return mean, sum(jax.tree.leaves(away))

    means, within = jax.lax.map(one, jnp.arange(signal.size))
    between = [jnp.sum(jnp.var(leaf, axis=0)) for leaf in jax.tree.leaves(means)]
    return jnp.mean(within), jnp.sum(jnp.stack(between))

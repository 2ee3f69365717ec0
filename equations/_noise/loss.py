"""The noise of a loss that is random itself, from the keys that the examples of a batch draw by."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .._checks.lineage import inside
from .._signals.base import is_random, parameter_dtype
from .._signals.keys import fresh_keys
from .._tree import add_scaled
from .base import AbstractGradientNoise
from .batches import Batches
from .injected import AbstractInjected, on_top
from .squares import within_examples

_MOST = 64  # examples whose keys make the noise of a kick


class Fresh(eqx.Module):
    """The normals of a kick: one for each example that it takes, and two that this one's keys are made of."""

    weights: Any
    keys: Any


class LossNoise(AbstractInjected):
    r"""The noise of a random loss: every example of a batch draws by a key of its own.

    To the covariance of the batches it adds (1/B) (1/N) sum_i Cov_key(g_i), whatever the sampling, B = N for the full batch
    (derived). A kick draws up to 64 examples and two fresh keys for each, whose gradients' differences have that covariance
    exactly. What is to be a function of the state alone (`root`, `diffusion`, `mean`, the variances, `noise="gaussian"`)
    goes by the fixed keys of all examples, with N * draws normals. Where the examples' means are known by R of these keys,
    their covariance C has on average (1 - 1/N)/R of the keys' own in it, of which f is subtracted, so that the sum is
    unbiased. `solve`, `train` and the like put it on top of the noise of an equation by themselves; an equation whose
    `drift` or `diffusion` is called without them is given it as its `noise_model`.

    **Arguments:** `on`: the noise on top of which it comes; by default that of minibatches, if there are any.
    """

    on: AbstractGradientNoise = on_top()

    def share(self, batches: Batches) -> float:
        """The covariance of what is added, over the mean of the examples' own."""
        signal = batches.signal
        sampling = batches.factor * (1 - 1 / signal.size) / signal.samples if signal.sampled else 0.0
        return 1 / batches.count - sampling

    def of_size(self, size):
        raise ValueError(
            "Argument `batch_size` must be one number, and not scheduled, for a loss with `random` True, whose keys make "
            "the noise of batches of one size."
        )

    def own_structure(self, batches, params):
        return jax.ShapeDtypeStruct((batches.signal.size * batches.signal.samples,), parameter_dtype(params))

    def kicked(self, batches, params):
        count, dtype = min(batches.count, batches.signal.size, _MOST), parameter_dtype(params)
        fresh = Fresh(jax.ShapeDtypeStruct((count,), dtype), jax.ShapeDtypeStruct((count, 2), dtype))
        return super().kicked(batches, params) | {"own": fresh}

    def own(self, batches, params, normals):
        if isinstance(normals, Fresh):
            return self._of_fresh_keys(batches, params, normals)
        signal, samples = batches.signal, batches.signal.samples
        table = normals.reshape(signal.size, samples)
        scale = (self.share(batches) / (signal.size * (samples - 1))) ** 0.5
        weights = scale * (table - jnp.mean(table, axis=1, keepdims=True))
        return signal.drawn().gradient(params, weights.reshape(-1))

    def _of_fresh_keys(self, batches, params, normals):
        signal, count = batches.signal, normals.weights.shape[0]
        one, other = fresh_keys(normals.keys)
        index = jnp.arange(count)
        if count < signal.size:  # at random
            uniform = jax.scipy.special.ndtr(normals.keys[:, 0])
            index = jnp.minimum((signal.size * uniform).astype(int), signal.size - 1)
        pairs = signal.take(jnp.concatenate([index, index])).with_keys(jnp.concatenate([one, other]))
        weights = (self.share(batches) / (2 * count)) ** 0.5 * normals.weights
        return pairs.gradient(params, jnp.concatenate([weights, -weights]))

    def parts(self, batches, params):
        signal = batches.signal
        samples, count = signal.samples, signal.size * signal.samples
        scale = (self.share(batches) * samples / (samples - 1)) ** 0.5
        drawn, means = signal.drawn(), signal.by_samples()

        def deviation(index):
            one = drawn.take(index[None]).gradient(params)
            mean = means.take((index // samples)[None]).gradient(params)
            return jax.tree.map(lambda one, mean: scale * (one - mean), one, mean)

        return [(count, deviation), *(self.on.parts(batches, params) if self.on.random(batches.noisy) else [])]

    def variance(self, batches, params):
        own = jax.tree.map(lambda v: (self.share(batches) * v).astype(v.dtype), within_examples(batches.signal, params))
        if not self.on.random(batches.noisy):
            return own
        return add_scaled(own, (1.0, self.on.variance(batches, params)))

    def injected(self, batch, params):
        keys = jax.ShapeDtypeStruct((batch.size, 2), parameter_dtype(params))
        return super().injected(batch, params) | {"own": keys}

    def real(self, batch, params, normals):
        return self.below(batch.with_keys(fresh_keys(normals["own"])[0]), params, normals)

    @property
    def of_loss(self):
        return True

    @property
    def beside_loss(self):
        return self.on

    def check(self, signal):
        super().check(signal)
        if not signal.random:
            raise ValueError(
                "Argument `noise_model` must not hold a LossNoise unless the objective has a loss with `random` True, but "
                f"{self!r} was given."
            )


def check_loss_noise(equation: Any, signal: Any, state: PyTree = None) -> None:
    """Raises a ValueError for a random loss whose noise the equation was not given; of the mean at `state` alone, unless
    noise has no part in that."""
    if is_random(signal) and not equation.gradient_noise.of_loss:
        if state is not None and equation.is_affine(state):
            return
        raise ValueError(
            "Argument `noise_model` must hold the noise of a loss with `random` True, as noise_model=LossNoise() or "
            f"LossNoise(on=...), where {type(equation).__name__} is used without `solve` or `train`, which see to it, but "
            f"{equation.gradient_noise!r} was given."
        )


def with_loss_noise(equation: Any, signal: Any) -> Any:
    """The equation with the noise of a random loss on top of its own; the same object where the loss is not random.

    A dynamics that is no algorithm's has the noise that it says it has.
    """
    if not is_random(signal):
        return equation
    if not equation.series().discrete:
        inner = inside(equation)
        if inner is None or not inner.series().discrete:
            return equation
        return eqx.tree_at(lambda e: e.equation, equation, with_loss_noise(inner, signal))
    if equation.gradient_noise.of_loss:
        return equation
    noisy = dataclasses.replace(equation, noise_model=LossNoise(on=equation.noise_model))
    if not noisy.gradient_noise.of_loss:
        raise ValueError(
            f"Argument `equation` must have its `noise_model` in its `gradient_noise` for a loss with `random` True, but "
            f"that of {type(equation).__name__} is {noisy.gradient_noise!r}."
        )
    return noisy

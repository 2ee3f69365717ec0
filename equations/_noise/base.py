"""Gradient noise: the minibatch's as a weighted gradient, and what every model of noise offers.

With c_i = g_i - mean(g) and C = (1/N) sum_i c_i c_i^T, a minibatch of B examples drawn with replacement has the gradient
covariance C/B, and an independent subset of B examples C (N-B)/((N-1)B). The weights (xi - mean(xi)) sqrt(factor/(N B)),
xi ~ N(0, I_N), give a weighted gradient of exactly that covariance at the cost of one backward pass.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from .._checks.facts import Facts
from .._counts import put
from .._signals.base import AbstractSignal, is_parameter, parameter_dtype
from .._tree import add_scaled, zeros_of
from .batches import Batches, noise_factor, noise_weights
from .squares import mean_square


def noise_operator(
    signal: AbstractSignal, params: PyTree, batch_size: int, sampling: str = "with_replacement"
) -> lx.FunctionLinearOperator:
    """A square root of the minibatch gradient covariance, from `(N,)` normals to a PyTree like `params`.

    Matrix-free: `operator.mv(xi)` is one weighted gradient, and one draw of xi correlates all leaves.
    """
    if signal.random:
        raise ValueError(
            "Argument `signal` must not have a loss with `random` True, whose noise is not that of minibatches alone: "
            "LossNoise().root(Batches(signal, batch_size, sampling), params) has both."
        )
    return Minibatch().root(Batches(signal, batch_size, sampling), params)


def noise_model(name: str):
    """A field converter: a model of gradient noise."""

    def convert(value):
        if not isinstance(value, AbstractGradientNoise):
            raise TypeError(f"Argument `{name}` must be a model of noise such as Minibatch(), but {value!r} was given.")
        return value

    return convert


def like_parameters(params: PyTree) -> PyTree[jax.ShapeDtypeStruct]:
    """The structure of one normal number for every parameter."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), eqx.filter(params, is_parameter))


class AbstractGradientNoise(eqx.Module):
    r"""How the gradient of a training step deviates from the full one, g = \bar g + delta, E delta = 0.

    A model gives `structure` and `delta`; what it can do better than the defaults it overrides. Its numbers are traced.
    Normals are never a tuple: that is how a kick tells a pair of draws.
    """

    _facts = Facts("noise_model", contract=True)

    @abc.abstractmethod
    def structure(self, batches: Batches, params: PyTree) -> PyTree[jax.ShapeDtypeStruct]:
        """That of the standard normal numbers of one draw."""

    def kicked(self, batches: Batches, params: PyTree) -> PyTree[jax.ShapeDtypeStruct]:
        """That of what a kick draws, which `delta`, `gaussian` and `draw` take as well; by default the same."""
        return self.structure(batches, params)

    @abc.abstractmethod
    def delta(self, batches: Batches, params: PyTree, normals: PyTree) -> PyTree:
        """Gaussian noise of the model's covariance, linear in the normals, like `params`."""

    def random(self, noisy_batches: bool) -> bool:
        """Whether there is any noise, given whether minibatches make some."""
        return noisy_batches

    def gaussian(self, batches: Batches, params: PyTree, normals: PyTree, amplitude: Any) -> PyTree:
        """mean gradient + amplitude * `delta`."""
        return add_scaled(batches.signal.gradient(params), (amplitude, self.delta(batches, params, normals)))

    def draw(self, batches: Batches, params: PyTree, normals: PyTree) -> PyTree:
        """The gradient of one training step, from its normals; Gaussian unless the model says otherwise."""
        return self.gaussian(batches, params, normals, 1.0)

    def root(self, batches: Batches, params: PyTree) -> lx.FunctionLinearOperator:
        """A square root of the covariance of delta, from normals to a PyTree like `params`."""
        return lx.FunctionLinearOperator(
            lambda normals: self.delta(batches, params, normals), self.structure(batches, params)
        )

    def parts(self, batches: Batches, params: PyTree) -> list[tuple[int, Callable[[Array], PyTree]]]:
        """Pairs (K, index -> d_index) whose means of d d^T over index < K add up to the covariance of delta."""
        return [columns(lambda normals: self.delta(batches, params, normals), self.structure(batches, params))]

    def mean(self, batches: Batches, params: PyTree, function: Callable[[PyTree], PyTree]) -> PyTree:
        r"""E function(\bar g + delta), exact for functions of at most second degree.

        Of each part it is the mean over [f(\bar g + d) + f(\bar g - d)]/2, and what parts add to f(\bar g) adds up.
        """
        center, parts = batches.signal.gradient(params), self.parts(batches, params)
        total, *rest = (_paired_mean(function, center, deviation, count) for count, deviation in parts)
        for other in rest:
            total = add_scaled(total, (1.0, other), (-1.0, function(center)))
        return total

    def variance(self, batches: Batches, params: PyTree) -> PyTree:
        """The variance of every coordinate of delta, like `params`."""
        zero = zeros_of(like_parameters(params))
        square = lambda d: jax.tree.map(jnp.square, d)  # noqa: E731
        parts = (_paired_mean(square, zero, deviation, count) for count, deviation in self.parts(batches, params))
        return add_scaled(zero, *((1.0, part) for part in parts))

    def expected_sign(self, batches: Batches, params: PyTree, gradient: PyTree) -> PyTree:
        """E sign(gradient + delta): for Gaussian noise erf(gradient / (sigma sqrt(2))), whatever its correlations."""

        self.check_sign(batches.noisy)

        def leaf(g, variance):
            certain = variance <= 0
            sigma = jnp.sqrt(jnp.where(certain, 1.0, variance).astype(g.dtype))
            return jnp.where(certain, jnp.sign(g), jax.lax.erf(g / (sigma * 2**0.5)))

        return jax.tree.map(leaf, gradient, self.variance(batches, params))

    @property
    def normal(self) -> bool:
        """Whether what is drawn is Gaussian."""
        return True

    def check_sign(self, noisy_batches: bool) -> None:
        """Raises a ValueError unless `expected_sign` is known."""
        if not self.normal:
            raise ValueError(
                "Argument `noise_model` must be Gaussian, or StudentT on the full batch and nothing else, for a rule that "
                "takes the sign of the gradient: a sum of both has no distribution in closed form."
            )

    def injected(self, batch: AbstractSignal, params: PyTree) -> PyTree[jax.ShapeDtypeStruct] | None:
        """The structure of the normals that a real batch takes beside its examples; None: none."""
        return None

    def real(self, batch: AbstractSignal, params: PyTree, normals: Any) -> PyTree:
        """The gradient of a real batch, with what the model injects into it, if anything, by its normals or None."""
        return batch.gradient(params)

    @property
    def of_batches(self) -> bool:
        """Whether a gradient without what is injected is that of a real batch, and not only like one."""
        return False

    def of_size(self, size: Array) -> "AbstractGradientNoise":
        """That of batches of `size` examples, a real number of a training step, in place of those that are drawn."""
        words = "Minibatch() or Diagonal(), or what is added to the gradient on top, where the batch size is scheduled"
        raise ValueError(f"Argument `noise_model` must be {words}, but {self!r} was given.")

    @property
    def scheduled_size(self) -> Array | None:
        """The size of the batch of a step where it is scheduled (`of_size`), None where it is that of all that is drawn."""
        return None

    @property
    def injects(self) -> bool:
        """Whether anything beside the choice of examples is random in a training step."""
        return False

    @property
    def of_loss(self) -> bool:
        """Whether the noise of a random loss is in it."""
        return False

    @property
    def beside_loss(self) -> "AbstractGradientNoise":
        """The noise without that of a random loss on top of it, which a batch averages as it does its examples."""
        return self

    def check(self, signal: AbstractSignal) -> None:
        """Raises a TypeError or ValueError unless the model fits the signal's examples."""

    def check_derivatives(self, signal: AbstractSignal, params: PyTree) -> None:
        """Raises a ValueError where the model goes by derivatives of the signal that are not those of its values."""

    def check_covariance(self) -> None:
        """Raises a ValueError unless delta has a covariance, which all rules but that of the sign need."""


def columns(linear: Callable[[PyTree], PyTree], structure: PyTree) -> tuple[int, Callable[[Array], PyTree]]:
    """The K columns of a linear map of normals, as a part of the covariance: K and index -> sqrt(K) * column."""
    zeros, unravel = ravel_pytree(zeros_of(structure))
    apply = jax.linearize(linear, unravel(zeros))[1]  # what does not depend on the normals is computed once
    return zeros.size, lambda index: apply(unravel(zeros.at[index].set(zeros.size**0.5)))


def _paired_mean(function: Callable, center: PyTree, deviation: Callable[[Array], PyTree], count: int) -> PyTree:
    """The mean over index < count of [f(center + deviation(index)) + f(center - deviation(index))]/2."""

    def add(total, index):
        away = deviation(index)
        for sign in (1.0, -1.0):
            total = add_scaled(total, (0.5 / count, function(add_scaled(center, (sign, away)))))
        return total, None

    begin = zeros_of(jax.eval_shape(function, center))
    return jax.lax.scan(add, begin, jnp.arange(count))[0]


def mean_over_normals(function: Callable[[PyTree], PyTree], structure: PyTree) -> PyTree:
    """E function(normals), exact for functions of at most second degree, by two values for each of the K normals."""
    count, deviation = columns(lambda normals: normals, structure)
    return _paired_mean(function, zeros_of(structure), deviation, count)


class AbstractOfBatches(AbstractGradientNoise):
    """A model of the noise of batches, and nothing else: as large as they are, or where that is scheduled as `_size`."""

    _size: Array | None = eqx.field(default=None, kw_only=True, repr=False)

    def of_size(self, size):
        return put(self, _size=size)

    @property
    def scheduled_size(self):
        return self._size

    def factor(self, batches: Batches) -> Any:
        """The covariance of the gradient of a batch over C."""
        if self._size is None or not batches.noisy:
            return batches.factor
        return noise_factor(batches.signal.size, self._size, batches.sampling)

    def shares(self, count: int, dtype: Any) -> Array:
        """The weights of the examples of a real batch in its gradient, shape `(count,)`: those of the first `_size`."""
        if self._size is None:
            return jnp.full(count, 1 / count, dtype)
        return jnp.where(jnp.arange(count, dtype=self._size.dtype) < self._size, 1 / self._size, 0.0).astype(dtype)

    def real(self, batch, params, normals):
        """That of the first `_size` examples."""
        if self._size is None:
            return batch.gradient(params)
        return batch.gradient(params, self.shares(batch.size, parameter_dtype(params)))


class Minibatch(AbstractOfBatches):
    """The noise of minibatches, exactly: covariance C/B with replacement, C (N-B)/((N-1)B) for independent subsets."""

    @property
    def of_batches(self):
        return True

    def _weights(self, batches, normals):
        return noise_weights(normals, batches.batch_size if self._size is None else self._size, batches.sampling)

    def structure(self, batches, params):
        return jax.ShapeDtypeStruct((batches.signal.size,), parameter_dtype(params))

    def delta(self, batches, params, normals):
        return batches.signal.gradient(params, self._weights(batches, normals))

    def gaussian(self, batches, params, normals, amplitude):
        """In one backward pass."""
        weights = self._weights(batches, normals)
        return batches.signal.gradient(params, 1 / batches.signal.size + (amplitude * weights).astype(normals.dtype))

    def parts(self, batches, params):
        """The deviations of the single examples, scaled to the covariance of delta: one backward pass each."""
        signal, scale = batches.signal, jnp.asarray(self.factor(batches)) ** 0.5
        mean = signal.gradient(params)

        def deviation(index):
            one = signal.take(index[None]).gradient(params)
            return jax.tree.map(lambda one, all: scale.astype(all.dtype) * (one - all), one, mean)

        return [(signal.size, deviation)]

    def variance(self, batches, params):
        """The mean square of the examples' gradients less the square of their mean."""
        factor = jnp.asarray(self.factor(batches))
        return jax.tree.map(
            lambda square, mean: (factor.astype(square.dtype) * jnp.maximum(square - mean**2, 0)).astype(mean.dtype),
            mean_square(batches.signal, params),
            batches.signal.gradient(params),
        )

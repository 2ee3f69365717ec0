"""A signal whose examples are clipped one by one."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .base import AbstractAround, AbstractSignal, is_parameter, parameter_dtype
from .keys import Keyed, fixed_keys, is_key, parts_of

_HELD = 2**20  # numbers of gradients of single examples that are held at once


class ClippedSignal(AbstractAround):
    """The signal with clip(g) = g min(1, norm/|g|) in place of the gradient g of each example, |g| over all parameters.

    Of a random loss it is the gradient with one key that is clipped: its mean over keys is known by the fixed ones alone,
    whatever is given as the mean of the loss.

    The weighted gradient is one of the signal inside, with weights w_i min(1, norm/|g_i|), so that it costs the norms of
    the gradients of all examples, of which about 10^6 numbers are held at once, and one backward pass.
    """

    norm: Any

    @property
    def sampled(self):
        return self.signal.random

    def bind(self, static):
        return self._around(self.signal.bind(static))  # the norm is over what is trained

    def surrogate(self, active, frozen, example):
        if self.random:
            given, key = parts_of(example)
            if not is_key(key):
                one = lambda key: self.surrogate(active, frozen, Keyed(given, key))  # noqa: E731
                return jnp.mean(jax.vmap(one)(fixed_keys(key, self.samples)))
        value = self.signal.surrogate(active, frozen, example)
        return self.share(frozen, example).astype(value.dtype) * value

    def share(self, params: PyTree, example: PyTree) -> Float[Array, ""]:
        """What is left of the gradient of an example, min(1, norm/|g|)."""
        active, static = eqx.partition(params, is_parameter)

        def value(active):
            return self.signal.surrogate(eqx.combine(active, static), params, example)

        dtype = parameter_dtype(active)
        square = sum(jnp.sum(jnp.square(leaf.astype(dtype))) for leaf in jax.tree.leaves(jax.grad(value)(active)))
        norm = jnp.asarray(self.norm).astype(dtype)
        larger = square > norm**2
        return jnp.where(larger, norm * jax.lax.rsqrt(jnp.where(larger, square, 1.0)), 1.0)

    def shares(self, params: PyTree) -> Float[Array, " N"]:
        """Those of all examples, in chunks."""
        held = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(eqx.filter(params, is_parameter)))
        chunk = max(1, _HELD // max(held, 1))
        share = lambda example: self.share(params, example)  # noqa: E731
        if chunk >= self.size:
            return jax.vmap(share)(self.examples)
        return jax.lax.map(share, self.examples, batch_size=chunk)

    def gradient(self, params, weights=None):
        if self.random and not is_key(parts_of(self.examples)[1]):
            if weights is not None:
                weights = jnp.repeat(weights / self.samples, self.samples)
            return self.drawn().gradient(params, weights)
        shares = self.shares(params)
        return self.signal.gradient(params, shares / self.size if weights is None else shares * weights)


def clipped_signal(signal: AbstractSignal, norm: Any) -> ClippedSignal:
    """The signal clipped to `norm`, also where it is clipped already: an equation may see its own again."""
    return ClippedSignal(signal.signal if isinstance(signal, ClippedSignal) else signal, norm)  # pyright: ignore

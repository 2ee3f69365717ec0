"""Penalties on the parameters, as part of what is descended."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .base import AbstractPenalized, AbstractSignal, check_signal


def _penalty(value):
    if not callable(value):
        raise TypeError(f"Argument `penalty` must be callable as penalty(params), but {value!r} was given.")
    return value


class Regularized(AbstractPenalized):
    """What `regularized` returns: the signal with the penalty in the surrogate of every example."""

    penalty: Callable = eqx.field(converter=_penalty)

    def surrogate(self, active, frozen, example):
        value = self.signal.surrogate(active, frozen, example)
        return value + jnp.asarray(self.penalty(active)).astype(value.dtype)

    def value(self, params: PyTree) -> Array:
        """The mean loss and the penalty, where the signal is that of a loss."""
        return self.signal.value(params) + self.penalty(params)


def regularized(signal: AbstractSignal, penalty: Callable) -> Regularized:
    """A signal with the gradient of a penalty added: L(theta) + penalty(theta).

    The optimizer sees it as part of the gradient: weight decay of this kind is `optax.chain(optax.add_decayed_weights(
    decay), optimizer)`. The gradients of all examples gain the same, and so their covariance, the noise, gains nothing. A
    decay that the optimizer does not see is a term of the equation: `decayed`.

    **Arguments:**

    - `signal`: any signal, such as an `Objective`.
    - `penalty`: `penalty(params) -> scalar`, a function, or a module such as `syre` makes.

    **Raises:** TypeError, naming the argument; a ValueError, by `check`, where the penalty does not fit the parameters.
    """
    check_signal(signal)
    return Regularized(signal, penalty)  # pyright: ignore[reportCallIssue]  # `data` is a property

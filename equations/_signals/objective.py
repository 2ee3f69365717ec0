"""The signal of a loss: its gradient."""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .base import AbstractSignal, check_scalar, checked_examples, surrogate_value


def checked_loss(loss):
    if not callable(loss):
        raise TypeError(f"Argument `loss` must be callable as loss(params, example), but {loss!r} was given.")
    return loss


class Objective(AbstractSignal):
    """The mean L(theta) = (1/N) sum_i loss(theta, example_i) over a data set, and its weighted gradient.

    **Arguments:**

    - `loss`: `loss(params, example) -> scalar` for *one* example.
    - `data`: a PyTree of arrays whose leading axis, of length N, counts the examples.

    **Raises:** TypeError or ValueError for a loss that is not callable, data without examples, with leaves of different
    length, or not finite.
    """

    loss: Callable = eqx.field(converter=checked_loss)
    data: PyTree = eqx.field(converter=checked_examples)

    argument: ClassVar[str] = "loss"

    @property
    def is_loss(self):
        return True

    def surrogate(self, active, frozen, example):
        return self.loss(active, example)

    def value(self, params: PyTree) -> Float[Array, ""]:
        """The mean loss, a scalar."""
        return jnp.mean(jax.vmap(lambda example: self.loss(params, example))(self.data))

    def check(self, params):
        check_scalar(self, surrogate_value, "loss", params)

"""The signal of a loss: its gradient."""

import inspect
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._checks.arguments import flag, integer
from .._counts import put
from .._noise.squares import within_examples
from .base import AbstractSignal, check_scalar, surrogate_value
from .examples import checked_examples
from .keys import Keyed, fixed_keys, is_key, parts_of
from .sources import held

_DRAWS = 16


def checked_loss(loss):
    if not callable(loss):
        raise TypeError(f"Argument `loss` must be callable as loss(params, example), but {loss!r} was given.")
    return loss


def _checked_mean(mean):
    if mean is not None and not callable(mean):
        raise TypeError(f"Argument `mean` must be None or callable as mean(params, example), but {mean!r} was given.")
    return mean


class Objective(AbstractSignal):
    r"""The mean L(theta) = (1/N) sum_i loss(theta, example_i) over a data set, and its weighted gradient.

    **Arguments:**

    - `loss`: `loss(params, example) -> scalar` for *one* example; `loss(params, example, key)` where `random`.
    - `data`: a PyTree of arrays whose leading axis, of length N, counts the examples; or a `Population`, a `Stored` or a
        `Feed`, whose examples are not held.
    - `random`: whether the loss draws numbers, as by dropout or augmentation. The algorithm gives every example of every
        batch a fresh key. Its equation has the mean over keys as its drift, and their noise beside that of batches,

            Cov(g_B) = f C + (1/B) (1/N) sum_i Cov_key(g_i),    C the covariance of the examples' means,

        f = 1/B with replacement, (N - B)/((N - 1) B) without, 0 in the full batch and in shuffled epochs; B = N for the
        full batch, which is random too (`LossNoise`, which `solve` and the like give to an equation by themselves).
    - `mean`: `mean(params, example)`, the random loss averaged over its keys: drift and C are then exact. Another function
        is warned of where up to 1024 keys of 8 examples tell it from the loss by 7 standard errors, in value or along a
        direction, at the parameters or at two points drawn around them; what is smaller, or shows elsewhere, is not seen.
    - `draws`: without `mean`, over how many keys of an example the mean is taken, always the same, at least 2; by default
        16. A gradient costs as many, and `gradient_error` tells its standard error. What this adds to C, on average
        1/draws of the keys' noise, is subtracted again.

    **Raises:** TypeError or ValueError for a loss that is not callable, data without examples, with leaves of different
    length, or not finite.
    """

    loss: Callable = eqx.field(converter=checked_loss)
    data: PyTree = eqx.field(converter=checked_examples)
    random: bool = eqx.field(default=False, static=True, kw_only=True, converter=flag("random"))
    mean: Callable | None = eqx.field(default=None, kw_only=True, converter=_checked_mean)
    draws: int | None = eqx.field(
        default=None, static=True, kw_only=True, converter=lambda n: integer("draws", n, minimum=2, optional=True)
    )
    _keys: Array | None = eqx.field(default=None, kw_only=True, repr=False)  # typed, or numbers of the examples

    argument: ClassVar[str] = "loss"

    def __check_init__(self):
        if self.random:
            _check_key(self.loss)
            return
        for name, value in (("mean", self.mean), ("draws", self.draws)):
            if value is not None:
                raise ValueError(f"Argument `{name}` must be None unless `random` is True, but {value!r} was given.")

    @property
    def is_loss(self):
        return True

    @property
    def examples(self):
        if not self.random:
            return held(self.data)
        return Keyed(held(self.data), jnp.arange(self.size) if self._keys is None else self._keys)

    @property
    def samples(self):
        return (self.draws or _DRAWS) if self.random else 1

    @property
    def sampled(self):
        return self.random and self.mean is None

    def surrogate(self, active, frozen, example):
        if not self.random:
            return self.loss(active, example)
        example, key = parts_of(example)
        if is_key(key):
            return self.loss(active, example, key)
        if self.mean is not None:
            return self.mean(active, example)
        return jnp.mean(jax.vmap(lambda key: self.loss(active, example, key))(fixed_keys(key, self.samples)))

    def value(self, params: PyTree) -> Float[Array, ""]:
        """The mean loss, a scalar; of a random one by `mean` or `draws`."""
        return jnp.mean(jax.vmap(lambda example: self.surrogate(params, params, example))(self.examples))

    def gradient_error(self, params: PyTree) -> PyTree:
        """The standard error of `gradient`, like it, where that is a mean over `draws` keys; zero where it is exact.

        sqrt(mean_i Var_key(g_i) / (N draws)), from the spread over these keys.
        """
        if not self.sampled:
            return jax.tree.map(jnp.zeros_like, self.gradient(params))
        return jax.tree.map(lambda v: jnp.sqrt(v / (self.size * self.samples)), within_examples(self, params))

    def take(self, indices):
        data = jax.tree.map(lambda leaf: leaf[indices], held(self.data))
        return put(self, data=data, _keys=self.examples.key[indices]) if self.random else self.with_data(data)

    def with_data(self, data):
        other = eqx.tree_at(lambda signal: signal.data, self, data)
        same = self._keys is None or other.size == self.size
        return other if same else put(other, _keys=None)

    def with_keys(self, keys):
        return put(self, _keys=keys) if self.random else self

    def drawn(self):
        if not self.random or is_key(self.examples.key):
            return self
        keys = jax.vmap(lambda number: fixed_keys(number, self.samples))(self.examples.key)
        data = jax.tree.map(lambda leaf: jnp.repeat(leaf, self.samples, axis=0), self.data)
        return put(self, data=data, _keys=keys.reshape(-1))

    def by_samples(self):
        return self if self.mean is None else eqx.tree_at(lambda signal: signal.mean, self, None)

    def check(self, params):
        check_scalar(self, surrogate_value, "loss" if self.mean is None else "mean", params)
        if self.random and self.mean is not None:
            check_scalar(self.by_samples(), surrogate_value, "loss", params)


def _check_key(loss: Callable) -> None:
    """Raises a ValueError for a loss that takes no key."""
    try:
        inspect.signature(loss).bind(None, None, None)
    except TypeError as error:
        raise ValueError(
            f"Argument `loss` must take a key, loss(params, example, key), where `random` is True, but {loss!r} does not: "
            f"{error}."
        ) from None
    except ValueError:  # a callable whose signature is not known
        pass

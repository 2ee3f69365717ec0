"""Piecewise constant inputs."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from equations import AbstractStream, Stimulus
from equations.internal import LARGEST, check_pairs, choice, integer, is_traced, seconds

from ._arguments.checks import check_key
from ._paths.sampler import Sampler

SAMPLINGS = ("with_replacement", "shuffled")


class Stimuli(AbstractStream):
    """Made by `stimuli`. The examples, and the rule by which they follow one another."""

    x: Float[Array, "N n_in"]
    y: Float[Array, "N n_out"]
    order: Int[Array, " K"] | None
    key: Array | None
    duration: float = eqx.field(static=True)
    sampling: str = eqx.field(static=True)

    @property
    def size(self) -> int:
        """The number of examples."""
        return self.x.shape[0]

    @property
    def random(self):
        return self.key is None and self.order is None

    def begin(self, key):
        return None if self.order is not None else self._sampler(key).init(), key

    def stimulus(self, index, carried):
        permutation, key = carried
        if self.order is None:
            (example,), permutation = self._sampler(key).indices(index, permutation)
        else:
            example = self.order[index % self.order.shape[0]]
        return Stimulus(self.x[example], self.y[example]), (permutation, key)

    def indices(self, count: int) -> Int[Array, " count"]:
        """The examples of the first `count` stimuli, shape `(count,)`, of a stream with a key or an order of its own."""
        count = integer("count", count, maximum=LARGEST)
        if self.order is not None:
            return self.order[jnp.arange(count) % self.order.shape[0]]
        sampler = self._sampler(check_key(self.key, True))

        def body(carried, index):
            (example,), carried = sampler.indices(index, carried)
            return carried, example

        return jax.lax.scan(body, sampler.init(), jnp.arange(count, dtype=jnp.int32))[1]

    def _sampler(self, key) -> Sampler:
        return Sampler(key if self.key is None else self.key, self.size, 1, self.sampling)


def stimuli(
    # Or anything, to be refused in words of its own.
    X: Float[Array | np.ndarray, "N n_in"] | Any,
    Y: Shaped[Array | np.ndarray, "N ..."] | Any,
    *,
    duration: float,
    key: Array | None = None,
    sampling: str = "with_replacement",
    order: Int[Array | np.ndarray, " K"] | Any = None,
) -> Stimuli:
    """A stream of examples, each held for `duration`: the piecewise constant input of a circuit.

    No sequence is stored: stimulus number k is a function of the key and of k, or the next of an epoch's permutation.

    **Arguments:**

    - `X`: the inputs, shape `(N, n_in)`.
    - `Y`: the targets, shape `(N, n_out)`, or `(N,)` for a single output; integers become numbers of the dtype of `X`.
    - `duration`: of a stimulus, in seconds. (It fixes the number of solver steps: a new value recompiles.)
    - `key`: a typed key; all paths of a `solve` then see the same sequence. None: each path draws its own from its own key.
    - `sampling`: `"with_replacement"`, independent draws, or `"shuffled"`, epochs without repetition.
    - `order`: integers, shape `(K,)`: the examples in the order in which they are shown, again and again; nothing is
        drawn. For sequences with correlations.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    x, y = check_pairs(X, Y)
    choice("sampling", sampling, SAMPLINGS)
    if order is not None:
        order = jnp.asarray(order)
        if not (order.ndim == 1 and order.size and jnp.issubdtype(order.dtype, jnp.integer)):
            raise ValueError(
                f"Argument `order` must be integers of shape (K,), K at least 1, but {order.dtype} of shape "
                f"{order.shape} was given."
            )
        if not is_traced(order) and not jnp.all((order >= 0) & (order < x.shape[0])):
            raise ValueError(f"Argument `order` must lie from 0 up to, not including, N = {x.shape[0]}, but does not.")
        for name, value, default in (("key", key, key is None), ("sampling", sampling, sampling == SAMPLINGS[0])):
            if not default:
                raise ValueError(
                    f"Argument `{name}` must be left out where `order` is given, since nothing is drawn, but {value!r} was "
                    "given."
                )
    key = None if key is None else check_key(key, True)
    return Stimuli(x=x, y=y, order=order, key=key, duration=seconds("duration", duration), sampling=sampling)

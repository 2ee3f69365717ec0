"""Losses of whole batches, which are no means over examples: contrastive ones, decorrelation, ranking."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._checks.arguments import choice, integer
from ._signals.examples import checked_examples
from ._signals.objective import Objective, checked_loss
from ._signals.sources import Population, held, source_of

_SAMPLINGS = ("without_replacement", "with_replacement")


def batch_objective(
    loss: Callable,
    data: PyTree,
    batch_size: int | None = None,
    *,
    sampling: str = "without_replacement",
    draws: int = 256,
    key: Array | None = None,
    **options: Any,
) -> Objective:
    r"""The objective of a loss that takes a whole batch, L(theta) = E_B loss(theta, batch): InfoNCE, Barlow Twins, ...

    An *example* of it is a batch: an equation has `batch_size=1` for one batch in a training step, and `batch_size=n` for
    the mean loss of n independent batches, as of n devices that each have their own. Drift and noise are then the mean and
    the covariance over batches of the gradient of a batch, which are not those of any loss of one example.

        objective = batch_objective(barlow, (views, others), 32)
        run = train(SGD(0.1, batch_size=1), objective, weights, steps=1000, key=key)

    `train` and `SVAG` draw fresh batches. Elsewhere mean and covariance are exact where there are at most `draws` subsets
    of so many examples, or the batch is all of them; else they are those of `draws` batches, always the same, whose mean
    has the standard error sqrt(covariance/draws), and `compare` says so.

    **Arguments:**

    - `loss`: `loss(params, batch) -> scalar`, of a batch with leaves `(batch_size, ...)`; with `random=True`
        `loss(params, batch, key)`, as for `Objective`.
    - `data`: a PyTree of arrays `(N, ...)`, or a `Stored`, from which batches are read as they are drawn.
    - `batch_size`: the examples of a batch; None: all, in an algorithm without `batch_size`, where nothing is random.
    - `sampling`: of the examples of a batch, `"without_replacement"`, or `"with_replacement"`.
    - `draws`, `key`: how many batches stand for all, and a typed key by which they are drawn.
    - `options`: `random` and `mean` of `Objective`.

    **Returns:** an `Objective`.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    loss, examples = checked_loss(loss), checked_examples(data)
    source, sampling = source_of(examples), choice("sampling", sampling, _SAMPLINGS)
    draws = integer("draws", draws, minimum=2)
    if source is not None and not source.by_index:
        raise ValueError(f"Argument `data` must be arrays or a Stored for a loss of batches, but {source!r} was given.")
    size = jax.tree.leaves(held(examples))[0].shape[0] if source is None else source.size
    if batch_size is None:
        if source is not None:
            raise ValueError(f"Argument `batch_size` must be given for examples of {source!r}, but None was given.")
        return Objective(loss, jax.tree.map(lambda leaf: leaf[None], held(examples)), **options)
    batch_size = integer("batch_size", batch_size, minimum=2, maximum=size if sampling == _SAMPLINGS[0] else None)
    if source is None and sampling == _SAMPLINGS[0] and math.comb(size, batch_size) <= draws:
        table = jnp.array(list(itertools.combinations(range(size), batch_size)), jnp.int32)
        return Objective(loss, jax.tree.map(lambda leaf: leaf[table], held(examples)), **options)

    def batch(key):
        index = jax.random.choice(key, size, (batch_size,), replace=sampling != _SAMPLINGS[0])
        return jax.tree.map(lambda leaf: leaf[index], examples) if source is None else source.take(index)

    return Objective(loss, Population(batch, draws, key), **options)

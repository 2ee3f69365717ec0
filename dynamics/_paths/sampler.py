"""Which examples a minibatch holds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from equations import AbstractEquation, AbstractSignal
from equations.internal import LARGEST, check_sampling, integer, size_of, source_of

from .._arguments.checks import check_equation, check_key


class Sampler(eqx.Module):
    """The minibatches of one path; carried through its steps is the permutation of the current epoch, if any.

    `order`: those of the user's, `(n, batch_size)`, gone through again and again; None: they are drawn.
    """

    key: Array
    size: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    sampling: str = eqx.field(static=True)
    order: Array | None = None

    @classmethod
    def of(
        cls, equation: AbstractEquation, signal: AbstractSignal, key: Array, order: Array | None = None
    ) -> "Sampler":
        """That of a path of an equation with minibatches."""
        size: Any = equation.batch_size
        return cls(key, size_of(signal), size, equation.sampling if order is None else "given", order)

    def init(self) -> Array | None:
        """What is carried before the first step."""
        return jnp.zeros(self.size, int) if self.sampling == "shuffled" else None

    def resumed(self, step: Array) -> Array | None:
        """What is carried before training step `step`, counted from 0: the permutation of its epoch."""
        if self.sampling != "shuffled":
            return None
        return self._permutation(step // (self.size // self.batch_size))

    def _permutation(self, epoch: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(self.key, epoch), self.size)

    def indices(self, step: Array, carried: Any) -> tuple[Array, Array | None]:
        """The examples of a training step, shape `(batch_size,)`, and what is carried on."""
        if self.order is not None:
            return self.order[step % len(self.order)], None
        if self.sampling != "shuffled":
            return self.independent(jax.random.fold_in(self.key, step)), None
        per_epoch = self.size // self.batch_size
        epoch, place = step // per_epoch, step % per_epoch
        carried = jax.lax.cond(
            place == 0,
            lambda: self._permutation(epoch),
            lambda: carried,
        )
        return jax.lax.dynamic_slice(carried, (place * self.batch_size,), (self.batch_size,)), carried

    def independent(self, key: Array) -> Array:
        """The examples of a batch that is independent of all others, shape `(batch_size,)`, by a key of its own."""
        shape = (self.batch_size,)
        if self.sampling == "with_replacement":
            return jax.random.randint(key, shape, 0, self.size)
        return jax.random.choice(key, self.size, shape, replace=False)

    def next(self, signal: AbstractSignal, step: Array, carried: Any) -> tuple[AbstractSignal, Array | None]:
        """The signal on the batch of a training step, and what is carried on."""
        source = source_of(signal.data)
        if source is not None and not source.by_index:
            return self.batch(signal, jax.random.fold_in(self.key, step)), None
        indices, carried = self.indices(step, carried)
        return signal.take(indices) if source is None else signal.with_data(source.take(indices)), carried

    def batch(self, signal: AbstractSignal, *keys: Array) -> AbstractSignal:
        """The signal on an independent batch by a key, or on those of several keys together."""
        return self.batches(signal, keys[0] if len(keys) == 1 else jnp.stack(keys))

    def batches(self, signal: AbstractSignal, keys: Array) -> AbstractSignal:
        """The same of an array of keys, `()` or `(n,)`."""
        source, draw = source_of(signal.data), self.independent
        if source is not None and not source.by_index:
            draw = lambda key: source.draw(key, self.batch_size)  # noqa: E731
        if keys.ndim == 0:
            drawn = draw(keys)
        else:
            drawn = jax.vmap(draw)(keys)
            drawn = jax.tree.map(lambda leaf: jnp.reshape(leaf, (-1, *leaf.shape[2:])), drawn)
        if source is None:
            return signal.take(drawn)
        return signal.with_data(source.take(drawn) if source.by_index else drawn)

    def injected(self, equation: AbstractEquation, signal: AbstractSignal, params: PyTree) -> PyTree | None:
        """The structure of the normal numbers that a batch takes beside its examples; None: none."""
        model = equation.gradient_noise
        return model.injected(signal.take(jnp.zeros(self.batch_size, int)), params) if model.injects else None


def minibatches(
    equation: AbstractEquation, objective: AbstractSignal, *, steps: int, key: Array, path: int = 0
) -> Int[Array, "steps batch_size"]:
    """The examples that `train` with the same arguments uses, shape `(steps, batch_size)`, for one of its paths.

    Shuffled epochs hold `N // batch_size` batches each; the examples left over sit that epoch out.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    check_equation(equation)
    integer("batch_size", equation.batch_size)
    check_sampling(equation, objective)
    steps, path = integer("steps", steps, maximum=LARGEST), integer("path", path, minimum=0, maximum=LARGEST)
    source = source_of(objective.data)
    if source is not None and not source.by_index:
        raise ValueError(f"Argument `objective` must have examples with numbers, but {source!r} was given.")
    sampler = Sampler.of(equation, objective, jax.random.fold_in(check_key(key, True), path))

    def body(carried, step):
        indices, carried = sampler.indices(step, carried)
        return carried, indices

    return jax.lax.scan(body, sampler.init(), jnp.arange(steps))[1]

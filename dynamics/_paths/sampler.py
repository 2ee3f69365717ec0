"""Which examples a minibatch holds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from equations import AbstractEquation, AbstractSignal
from equations.internal import LARGEST, check_sampling, integer

from .._arguments.checks import check_equation, check_key


class Sampler(eqx.Module):
    """The minibatches of one path; carried through its steps is the permutation of the current epoch, if any."""

    key: Array
    size: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    sampling: str = eqx.field(static=True)

    def init(self) -> Array | None:
        """What is carried before the first step."""
        return jnp.zeros(self.size, int) if self.sampling == "shuffled" else None

    def indices(self, step: Array, carried: Any) -> tuple[Array, Array | None]:
        """The examples of a training step, shape `(batch_size,)`, and what is carried on."""
        shape = (self.batch_size,)
        if self.sampling == "with_replacement":
            return jax.random.randint(jax.random.fold_in(self.key, step), shape, 0, self.size), None
        if self.sampling == "without_replacement":
            return jax.random.choice(jax.random.fold_in(self.key, step), self.size, shape, replace=False), None
        per_epoch = self.size // self.batch_size
        epoch, place = step // per_epoch, step % per_epoch
        carried = jax.lax.cond(
            place == 0,
            lambda: jax.random.permutation(jax.random.fold_in(self.key, epoch), self.size),
            lambda: carried,
        )
        return jax.lax.dynamic_slice(carried, (place * self.batch_size,), shape), carried


def minibatches(
    equation: AbstractEquation, objective: AbstractSignal, *, steps: int, key: Array, path: int = 0
) -> Int[Array, "steps batch_size"]:
    """The examples that `train` with the same arguments uses, shape `(steps, batch_size)`, for one of its paths.

    Shuffled epochs hold `N // batch_size` batches each; the examples left over sit that epoch out.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    check_equation(equation)
    batch_size = integer("batch_size", equation.batch_size)
    check_sampling(equation, objective)
    steps, path = integer("steps", steps, maximum=LARGEST), integer("path", path, minimum=0, maximum=LARGEST)
    sampler = Sampler(jax.random.fold_in(check_key(key, True), path), objective.size, batch_size, equation.sampling)

    def body(carried, step):
        indices, carried = sampler.indices(step, carried)
        return carried, indices

    return jax.lax.scan(body, sampler.init(), jnp.arange(steps))[1]

"""The training steps of one run of a discrete algorithm, without the loop around them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from equations import AbstractEquation, AbstractSignal
from equations.internal import is_noisy, real_gradient, twin_update

from .brownian import Brownian
from .keys import apart
from .sampler import Sampler


class Training(eqx.Module):
    """One run of an equation's twin: its batches, its normal numbers, its steps."""

    equation: AbstractEquation
    signal: AbstractSignal
    sampler: Sampler | None
    brownian: Brownian | None
    noise: str = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        equation: AbstractEquation,
        signal: AbstractSignal,
        params: PyTree,
        key: Array,
        noise: str,
        order: Array | None = None,
    ) -> "Training":
        """The run of a path with this key, under `noise` and in the `order` as of `train`."""
        model, sampler, structure = equation.gradient_noise, None, None
        if noise == "gaussian":
            structure = model.structure(equation.batches(signal), params) if is_noisy(equation) else None
            return cls(equation, signal, None, None if structure is None else Brownian(key, structure, 1), noise)
        if equation.batch_size is not None:
            sampler = Sampler.of(equation, signal, key, order)
            structure = sampler.injected(equation, signal, params)
        elif model.injects:
            structure = model.injected(signal, params)
        brownian = None if structure is None else Brownian(apart(key, 0), structure, 1)
        return cls(equation, signal, sampler, brownian, noise)

    def init(self, params: PyTree) -> tuple[PyTree, PyTree, Array | None]:
        """Parameters, memory and the sampler's permutation before the first step."""
        with jax.numpy_dtype_promotion("standard"):
            memory = jax.tree.map(jnp.asarray, self.equation.twin().init(params))
        return params, memory, None if self.sampler is None else self.sampler.init()

    def resumed(self, keys: Array, step: int) -> Array | None:
        """What the samplers of paths with these keys carry before training step `step`, leaves `(paths, ...)`."""
        if self.sampler is None:
            return None
        sampler = self.sampler
        return jax.vmap(lambda key: dataclasses.replace(sampler, key=key).resumed(jnp.asarray(step, jnp.int32)))(keys)

    def normals(self, step: Array) -> PyTree | None:
        """The normal numbers of a training step; None where none are drawn."""
        return None if self.brownian is None else self.brownian.whole(step)

    def step(self, step: Array, state: tuple, normals: PyTree | None) -> tuple:
        """Training step number `step`, counted from 0, with these normal numbers."""
        params, memory, carried = state
        gradient, carried = self._gradient(params, step, carried, normals)
        # Several transformations of Optax mix an int32 count with floats, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, new = twin_update(self.equation, gradient, memory, params)
            params = optax.apply_updates(params, updates)
        return params, jax.tree.map(lambda new, old: new.astype(old.dtype), new, memory), carried

    def _gradient(self, params, step, carried, normals):
        equation = self.equation.held(step)  # whose batches may have sizes of their own in every step
        if self.noise == "gaussian":
            return equation.gradient(params, self.signal, normals), carried
        batch = self.signal
        if self.sampler is not None:
            batch, carried = self.sampler.next(batch, step, carried)
        return real_gradient(equation, batch, params, normals), carried

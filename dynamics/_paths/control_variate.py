"""Control variates: a full gradient now and then, and in between what batches say of how it has changed."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractEquation, AbstractSignal
from equations.internal import LARGEST, add_scaled, integer, is_parameter, parameter_dtype, zeros_of

from .keys import apart
from .sampler import Sampler
from .svag import PLACES, AbstractOnBatches, BatchTerm

_PAIRS = 8  # of batches by which the covariance of one is judged


class ControlVariate(AbstractOnBatches):
    r"""Euler's steps with the full gradient of up to `every` training steps ago, what a batch says of how it has changed,
    and noise from this batch.

    With M fresh examples in a step, w_0 where the full gradient \bar g was last taken, and xi ~ N(0, I_M):

        \bar g(w_0) + (1/M) sum_j [g_j(w) - g_j(w_0)] + a sum_j (xi_j - mean(xi)) g_j(w),    a^2 = (eta/dt) f/(M - 1),

    f that of the covariance f C of the algorithm's batches. The mean is \bar g(w) and the covariance of the noise
    f C eta/dt, both exactly; in single steps the covariance is that of M examples (`covariance` in `details`). Beside it
    there is the noise of the correction, Var_i[g_i(w) - g_i(w_0)]/M, measured just before w_0 moves (`extra_noise`,
    relative to the equation's in a training step) and falls as 1/substeps, as Euler's errors do: `compare` finds both by
    refinement and counts them as solver error. A training step takes 2 M `substeps` + N/`every` gradients of examples.

    For rules affine in the gradient and minibatches drawn independently, of examples that are held. The memory of an
    optimizer moves first, as of `SVAG`. Source: Johnson and Zhang 2013, NeurIPS (SVRG), and Dubey et al. 2016, NeurIPS, for
    Langevin dynamics, recalled; the noise from the batch is derived.

    **Arguments:** `batch_size`, M, from 2 on; `every`, training steps between two full gradients, from 2 on.
    """

    batch_size: int = eqx.field(
        static=True, converter=lambda value: integer("batch_size", value, minimum=2, maximum=LARGEST)
    )
    every: int = eqx.field(static=True, converter=lambda value: integer("every", value, minimum=2, maximum=LARGEST))

    def order(self, terms):
        return 1

    def drawn(self, equation, signal, params, key, substeps):
        sampler = Sampler(key, signal.size, self.batch_size, "with_replacement")
        return Anchored(sampler, self.every, substeps, eqx.filter(params, is_parameter))

    def term(self, *fields):
        return BatchTerm(*fields)

    def examples(self, own, size, substeps):
        return 2 * self.batch_size * substeps + size / self.every


def is_anchored(solver: Any) -> bool:
    """Whether a solver takes the full gradient now and then."""
    return isinstance(solver, ControlVariate)


class Anchor(eqx.Module):
    """Where the full gradient was last taken: the training step, the parameters and the gradient; and the sums of what was
    measured of the noise of the correction and of that of a single example."""

    step: Array
    params: PyTree
    gradient: PyTree
    extra: Array
    noise: Array

    @property
    def ratio(self) -> Array:
        """The variance of the correction over that of the gradients, both of one example."""
        return jnp.where(self.noise > 0, self.extra / jnp.where(self.noise > 0, self.noise, 1), 0)


class Anchored(eqx.Module):
    """What the steps of one path draw, and what they go by. It stands for a `Brownian`, whose blocks are the training steps
    from one full gradient to the next."""

    sampler: Sampler
    rows: int = eqx.field(static=True)
    substeps: int = eqx.field(static=True)
    like: PyTree
    anchor: Anchor | None = None

    def first_block(self) -> Anchor:
        """Nothing yet, of the structure of what is held."""
        zero, nothing = jnp.zeros((), parameter_dtype(self.like)), zeros_of(self.like)
        return Anchor(jnp.full((), -1, jnp.int32), nothing, nothing, zero, zero)

    def read(self, step: Array, block: Anchor) -> tuple["Anchored", Anchor, Array]:
        """All that a run from a training step on needs, what is held, and where it ends."""
        return dataclasses.replace(self, anchor=block), block, (step // self.rows + 1) * self.rows

    def refreshed(self, path: Any, state: PyTree, step: Array, block: Anchor) -> Anchor:
        """What is held from a training step of a path on: with a full gradient of its own where that is due."""

        def fresh():
            params = path.dynamics.params(state)
            gradient = path.dynamics.sees(path.signal).gradient(params)
            active = eqx.filter(params, is_parameter)
            return Anchor(step.astype(jnp.int32), active, gradient, block.extra, block.noise)

        due = (step % self.rows == 0) & (block.step != step)
        return jax.lax.cond(due, fresh, lambda: block)

    def measured(self, path: Any, state: PyTree, step: Array, block: Anchor, last: Array) -> Anchor:
        """What is held, with the noise of the correction measured after training step `step` where a full gradient is due,
        or that was the `last`.

        E |sum_j (xi_j - mean(xi)) d_j|^2/(M - 1) is the variance of d_j, here g_j(w) - g_j(w_0) or g_j(w).
        """

        def measure():
            one, two = jax.random.split(apart(jax.random.fold_in(self.sampler.key, step), 0))
            batch, params = path.dynamics.sees(self.sampler.batch(path.signal, one)), path.dynamics.params(state)
            normals = jax.random.normal(two, (self.sampler.batch_size,), parameter_dtype(params))
            weights = (normals - jnp.mean(normals)) / (self.sampler.batch_size - 1) ** 0.5
            here, there = (batch.gradient(p, weights) for p in (params, self._at(block, params)))
            extra, noise = (_square(d) for d in (add_scaled(here, (-1.0, there)), here))
            return dataclasses.replace(block, extra=block.extra + extra, noise=block.noise + noise)

        due = ((step % self.rows == 0) | last) & (step > block.step)
        return jax.lax.cond(due, measure, lambda: block)

    def _at(self, block: Anchor, params: PyTree) -> PyTree:
        return eqx.combine(block.params, params)

    def gradient(
        self, equation: AbstractEquation, signal: AbstractSignal, params: PyTree, step: Array, place: Array
    ) -> PyTree:
        """The gradient of substep number `place` of a training step."""
        anchor: Any = self.anchor
        own = jax.random.fold_in(self.sampler.key, step)
        one, two = jax.random.split(apart(own, 1 + place * (PLACES // self.substeps)))
        batch = equation.sees(self.sampler.batch(signal, one))
        count, noise = self.sampler.batch_size, self._noise(equation, signal, two, params)
        here = batch.gradient(params, 1 / count + noise)
        there = batch.gradient(self._at(anchor, params))
        return add_scaled(anchor.gradient, (1.0, here), (-1.0, there))

    def _noise(self, equation, signal, key, params) -> Array:
        """The weights of the noise, shape `(M,)`."""
        count, model = self.sampler.batch_size, equation.gradient_noise
        normals = jax.random.normal(key, (count,), parameter_dtype(params))
        scale = jnp.sqrt(jnp.asarray(self.substeps * model.factor(equation.batches(signal)) / (count - 1)))
        return (normals - jnp.mean(normals)) * scale.astype(normals.dtype)


def _square(tree: PyTree) -> Array:
    return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)), jnp.zeros(()))


def covariance_error(signal: AbstractSignal, params: PyTree, sampler: Sampler) -> Array:
    """By how much the covariance of the gradients of so many examples is off that of all, relative, in Frobenius' norm.

    Of pairs of batches: <C_1, C_2> is on average |C|^2, and |C_1 - C_2|^2 twice the square of the error. By inner products
    of gradients, which are all held.
    """

    def away(key):
        index = sampler.independent(key)
        rows = jax.vmap(lambda i: signal.take(i[None]).gradient(params))(index)
        return jax.tree.map(lambda leaf: (leaf - jnp.mean(leaf, 0)).reshape(len(index), -1), rows)

    def product(a, b):
        pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return jnp.sum(jnp.square(sum(x @ y.T for x, y in pairs)))

    def pair(keys):
        one, two = (away(key) for key in keys)
        both = product(one, two)
        return (product(one, one) + product(two, two)) / 2 - both, both

    square, both = jax.lax.map(pair, jax.random.split(sampler.key, (_PAIRS, 2)))
    return jnp.sqrt(jnp.sum(square) / jnp.sum(both))

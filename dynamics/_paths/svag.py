"""SVAG: steps of a fraction of the learning rate on weighted real minibatches, whatever the number of examples."""

import abc
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractEquation, AbstractSignal
from equations.internal import add_scaled, integer, normals_of, parameter_dtype, real_gradient, split, velocity_of

from .brownian import Brownian
from .keys import apart
from .sampler import Sampler
from .terms import IncrementTerm

# Divided by the most usual numbers of substeps, so that a refined run shares batches with the one that it refines.
PLACES = 720_720


class AbstractOnBatches(dfx.AbstractItoSolver):
    """A solver whose steps are on batches of examples and never, but for now and then, on all of them."""

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    @abc.abstractmethod
    def drawn(
        self, equation: AbstractEquation, signal: AbstractSignal, params: PyTree, key: Array, substeps: int
    ) -> Any:
        """What the steps of one path draw, with `substeps` of them in a training step: it stands for a `Brownian`."""

    @abc.abstractmethod
    def term(self, *fields: Any) -> "IncrementTerm":
        """That of a step, with the fields of an `IncrementTerm`."""

    @abc.abstractmethod
    def examples(self, own: int, size: int, substeps: int) -> int | float:
        """Gradients of single examples in a training step, or in `stride` of these, of an algorithm that takes `own` of
        `size` in it."""

    @property
    def per_step(self) -> int:
        """Steps in a training step at `substeps=1`."""
        return 1

    @property
    def stride(self) -> int:
        """Training steps in a step."""
        return 1

    def strong_order(self, terms):
        return 0.5

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        y1 = jax.tree.map(jnp.add, y0, terms.vf_prod(t0, y0, args, terms.contr(t0, t1)))
        return y1, None, dict(y0=y0, y1=y1), None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


class SVAG(AbstractOnBatches):
    r"""Stochastic variance amplified gradients: l steps of eta/l in the place of one of eta, on real minibatches.

    Each is an Euler step on g = (1 + s)/2 g_1 + (1 - s)/2 g_2, s = sqrt(2l - 1), of two independent batches. Its mean is
    \bar g and its covariance ((1 + s)^2 + (1 - s)^2)/4 = (1 + s^2)/2 = l times that of a batch, so that l steps have the
    mean -eta \bar g and the covariance eta^2 C/B of one. l = 1 is the algorithm itself, l -> infinity the equation, with
    errors of means and covariances in 1/l (halved by 2l; twice the moments at 2l less those at l have them in 1/l^2). A
    training step costs 2l gradients of batches, at l = 1 one, whatever the number of examples.

    For rules affine in the gradient and minibatches drawn independently. The memory of an optimizer takes its Euler step
    first and the parameters move along the new one, where the algorithm's do: at l = 1 momentum is the algorithm, too.

    Source: Li, Malladi and Arora 2021, NeurIPS, arXiv:2102.12470, for SGD; others derived.

    **Arguments:** `l`, a positive integer. A run of `solve` with `substeps=n` takes n times as many.
    """

    l: int = eqx.field(static=True, converter=lambda value: integer("l", value, maximum=PLACES))  # noqa: E741

    @property
    def per_step(self):
        return self.l

    def order(self, terms):
        return 1

    def drawn(self, equation, signal, params, key, substeps):
        return Pairs.of(equation, signal, params, key, substeps)

    def term(self, *fields):
        return BatchTerm(*fields)

    def examples(self, own, size, substeps):
        number = self.l * substeps
        return own if number == 1 else 2 * number * own


def is_on_batches(solver: Any) -> bool:
    """Whether the steps of a solver are on batches of examples."""
    return isinstance(solver, AbstractOnBatches)


def weights(l: int) -> tuple[float, float]:  # noqa: E741
    """Those of the two batches of a step: of sum 1 and sum of squares l."""
    s = (2 * l - 1) ** 0.5
    return (1 + s) / 2, (1 - s) / 2


class Pairs(eqx.Module):
    """The pairs of batches of one path, functions of its key, of the training step and of the place in it.

    The first batch of a training step is that of the algorithm with this key. It stands for a `Brownian` in a path, whose
    blocks would hold one step.
    """

    sampler: Sampler
    injected: Brownian | None
    l: int = eqx.field(static=True)

    rows: ClassVar[int] = 1

    @classmethod
    def of(cls, equation: AbstractEquation, signal: AbstractSignal, params: PyTree, key: Array, l: int) -> "Pairs":  # noqa: E741
        sampler = Sampler.of(equation, signal, key)
        structure = sampler.injected(equation, signal, params)
        return cls(sampler, None if structure is None else Brownian(apart(key, 0), structure, 1), l)

    def first_block(self) -> None:
        """None is held: a block is drawn when it is used."""

    def read(self, step: Array, block: None) -> tuple["Pairs", None, None]:
        """All that a run from a training step on needs."""
        return self, None, None

    def start(self, signal: AbstractSignal) -> AbstractSignal:
        """The first batch of all, the algorithm's."""
        return self.sampler.batch(signal, jax.random.fold_in(self.sampler.key, 0))

    def gradient(
        self, equation: AbstractEquation, signal: AbstractSignal, params: PyTree, step: Array, place: Array
    ) -> PyTree:
        """The combined gradient of substep number `place` of a training step."""
        number = place * (PLACES // self.l)

        def one(which):
            key, normals = self._drawn(step, number, which)
            return real_gradient(equation, self.sampler.batch(signal, key), params, normals)

        if self.l == 1:
            return one(0)
        first, second = weights(self.l)
        if not equation.gradient_noise.injects:  # in one backward pass
            both = self.sampler.batch(signal, *(self._drawn(step, number, which)[0] for which in (0, 1)))
            noise: Any = equation.gradient_noise
            shares = noise.shares(self.sampler.batch_size, parameter_dtype(params))
            return equation.sees(both).gradient(params, jnp.concatenate([first * shares, second * shares]))
        return add_scaled(jax.tree.map(lambda g: first * g, one(0)), (second, one(1)))

    def _drawn(self, step, number, which: int) -> tuple[Array, PyTree | None]:
        """The key of a batch and what is injected into it, of its own but for the first of a training step."""
        own = jax.random.fold_in(self.sampler.key, step)
        normals = None if self.injected is None else self.injected.whole(step)
        if self.l == 1:
            return own, normals
        other = apart(own, 2 * number + which)
        if which == 0:
            first = number == 0
            own = jnp.where(first, own, other)
        else:
            first, own = False, other
        if self.injected is not None:
            drawn = normals_of(self.injected.structure, apart(other, 0))
            normals = jax.tree.map(lambda a, b: jnp.where(first, a, b), normals, drawn)
        return own, normals


class BatchTerm(IncrementTerm):
    """The Euler step of the equation on the combined gradient of a pair of batches."""

    def vf_prod(self, t, y, args, control):
        substep = jnp.rint(control).astype(self.clock.offset.dtype)
        pairs: Any = self.increments
        equation: Any = self.dynamics
        gradient = pairs.gradient(
            equation, self.signal, equation.params(y), self.clock.step(substep), self.clock.place(substep)
        )
        increment = in_turn(equation, self.clock.time(t), y, gradient, self.clock.dt)
        return jax.tree.map(lambda dy, leaf: dy.astype(leaf.dtype), increment, y)


def in_turn(equation: AbstractEquation, t: Array, state: PyTree, gradient: PyTree, dt: Array) -> PyTree:
    """The increment of an Euler step in which the memory moves first, and then the parameters along the new one.

    Where the algorithm's parameters move along the old one, or a user's class computes its parameters from the state, of
    all at once.
    """

    def increment(t, state):
        return jax.tree.map(lambda rate: dt * rate, velocity_of(equation, t, state, gradient))

    at_once = increment(t, state)
    if equation.params(state) is state or not split(equation).along_new_memory:
        return at_once
    moved = with_params(equation, add_scaled(state, (1.0, at_once)), equation.params(state))
    if moved is None:
        return at_once
    return with_params(equation, at_once, equation.params(increment(t + dt, moved)))


def with_params(equation: AbstractEquation, state: PyTree, params: PyTree) -> PyTree | None:
    """A state with other parameters; None where they are no part of it."""
    try:
        return eqx.tree_at(equation.params, state, params)
    except ValueError:
        return None

"""Averages of the weights in the course of training."""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
from jaxtyping import Array, PyTree

from .._average import AveragedState, AverageMemory
from .._base import AbstractEquation
from .._checks.arguments import number
from .._checks.facts import refined
from .._checks.lineage import newer
from .._handover import state_from
from .._modified.increment import TwinState
from .._scaling import ForwardedLimit
from .._signals.base import parameter_dtype
from .._splitting import ForwardedSplitting
from .base import AbstractAround, check_inside


class AbstractAveraged(AbstractAround):
    """An equation with an average of its parameters, which has no part in what they do.

        da = rate(t) (theta - a) dt,    a' = a + share(k) (theta' - a) in training step k

    A subclass gives `rate` and `share`. What is around the average, as a schedule, would not be in it: it is outermost.
    """

    _facts = refined(AbstractAround, instead="`rate`", singular=None)

    def __check_init__(self):
        check_inside(self.equation, averages=True)

    @abc.abstractmethod
    def rate(self, t: Array) -> Array:
        """How fast the average follows the parameters at time t."""

    @abc.abstractmethod
    def share(self, count: Any) -> Array:
        """Of the new parameters in the average after training step `count`, real and from 0; None where nothing counts."""

    def counted(self) -> Array | None:
        """What the twin counts before the first step; None: nothing."""
        return None

    def following(self, t: Array, state: AveragedState) -> PyTree:
        """The rate of the average."""
        rate = self.rate(t)
        return jax.tree.map(lambda p, a: (rate * (p - a)).astype(a.dtype), self.params(state), state.averaged)

    def renewed(self, params: PyTree, averaged: PyTree, count: Any) -> PyTree:
        """The average after training step `count`, which has led to these parameters."""
        if count is not None:  # over a whole number JAX divides in float32
            count = jnp.asarray(count).astype(parameter_dtype(averaged))
        new = optax.incremental_update(params, averaged, self.share(count))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), new, averaged)

    def init(self, params):
        return AveragedState(self.equation.init(params), params)

    def params(self, state):
        return self.equation.params(state.equation)

    def velocity(self, t, state, gradient):
        return AveragedState(super().velocity(t, state.equation, gradient), self.following(t, state))

    def drift(self, t, state, signal):
        return AveragedState(super().drift(t, state.equation, signal), self.following(t, state))

    def diffusion(self, t, state, signal):
        root = super().diffusion(t, state.equation, signal)
        if root is None:
            return None
        still = jax.tree.map(jnp.zeros_like, state.averaged)
        return lx.FunctionLinearOperator(lambda normals: AveragedState(root.mv(normals), still), root.in_structure())

    def is_affine(self, state):
        return super().is_affine(state.equation)

    def twin(self):
        inner = optax.with_extra_args_support(self.equation.twin())

        def init(params):
            return AverageMemory(inner.init(params), jax.tree.map(jnp.asarray, params), self.counted())

        def update(updates, state, params: Any = None, **more):
            if params is None:
                raise ValueError(f"Argument `params` must be given to the twin of {type(self).__name__}, but None was.")
            updates, memory = inner.update(updates, state.inner, params, **more)
            averaged = self.renewed(optax.apply_updates(params, updates), state.averaged, state.count)
            return updates, AverageMemory(memory, averaged, None if state.count is None else state.count + 1)

        return optax.GradientTransformationExtraArgs(init, update)

    def splitting(self):
        return AveragedSplitting.of(self)

    def scaling_limit(self):
        return AveragedLimit(self)

    def series(self):
        return dataclasses.replace(super().series(), maker="averaged", kind="an average", average=True)


class AveragedSplitting(ForwardedSplitting):
    """That of the equation inside; the average follows the parameters in the flow, as they move."""

    def start(self, state, signal, noise):
        started = self.inner.start(state.equation, signal, noise)
        if started is None:
            return None
        params, average = self.dynamics.equation.params(started), self.dynamics
        return AveragedState(started, average.renewed(params, state.averaged, average.counted()))

    def resumed(self, params, memory):
        inside = state_from(self.dynamics.equation, TwinState(params, memory.inner))
        return None if inside is None else AveragedState(inside, memory.averaged)

    def flow(self, t, state, signal):
        return AveragedState(self.inner.flow(t, state.equation, signal), self.dynamics.following(t, state))

    def noise(self, state, signal, kicks_per_step):
        return self.inner.noise(state.equation, signal, kicks_per_step)

    def kick(self, t, state, signal, noise, dt):
        still = jax.tree.map(jnp.zeros_like, state.averaged)
        return AveragedState(self.inner.kick(t, state.equation, signal, noise, dt), still)

    def euler(self, t, state, signal, noise, dt):
        if newer(type(self), "flow", "euler") or newer(type(self), "kick", "euler"):
            return super().euler(t, state, signal, noise, dt)
        change = jax.tree.map(lambda rate: (dt * rate).astype(rate.dtype), self.dynamics.following(t, state))
        return AveragedState(self.inner.euler(t, state.equation, signal, noise, dt), change)

    def coordinates(self, state):
        """A mean over a run comes to rest in no time: with what counts."""
        moves, counts = self.inner.coordinates(state.equation)
        parts = state.averaged, jax.tree.map(lambda leaf: None, state.averaged)
        first, second = parts if self.dynamics.counted() is None else reversed(parts)
        return AveragedState(moves, first), AveragedState(counts, second)

    def kicks_have_a_mean(self, state):
        return self.inner.kicks_have_a_mean(state.equation)


class AveragedLimit(ForwardedLimit):
    """That of the equation inside; the average itself is of first order."""

    def untold(self):
        return self.equation.equation.scaling_limit().untold()

    def claimed_order(self, measure):
        return min(1.0, super().claimed_order(measure))


def _rho(value):
    return number("decay", value, allowed="'polyak' or a number between 0 and 1", test=lambda x: (x > 0) & (x < 1))


class Averaged(AbstractAveraged):
    r"""The exponential moving average of the weights, a' = rho a + (1 - rho) theta', for any equation.

        d theta = d theta of the equation,    da = (ln rho/eta) (a - theta) dt,    a = theta at t = 0,    t = eta * step

    so that at constant theta a step takes the average to exactly rho of its distance.

    Source: Busbridge et al. 2023, NeurIPS, arXiv:2307.13813: at kappa times the learning rate, or the batch, rho becomes
    rho^kappa. Continuous model derived.
    Scaling: ln rho ~ natural time of a step. Natural clock: that of the equation. Weak order 1.

    **Attributes:** those of the equation, and `equation`, `decay`.
    """

    decay: Array = eqx.field(kw_only=True, converter=_rho)

    def rate(self, t):
        return -jnp.log(self.decay) / self.learning_rate

    def share(self, count):
        return 1 - self.decay

    def around_moved(self, equation, clock):
        return eqx.tree_at(lambda e: [e.equation, e.decay], self, [equation, self.decay**clock])


class PolyakAveraged(AbstractAveraged):
    r"""The mean of the weights of a run, a_k = mean of theta_0 to theta_k, for any equation.

        d theta = d theta of the equation,    da = (theta - a)/(t + eta) dt,    a = theta at t = 0,    t = eta * step

    so that (t + eta) a = eta theta_0 + the integral of theta, where the algorithm has the sum (derived). It is no count:
    within a training step time goes on.

    Source: Polyak and Juditsky 1992, SIAM Journal on Control and Optimization 30(4), 838; Ruppert 1988. At a minimum with
    Hessian H and a covariance C of a step's gradient, k Cov a_k -> H^-1 C H^-1, whatever the learning rate.
    Scaling: none of its own. Natural clock: that of the equation. Weak order 1.

    **Attributes:** those of the equation, and `equation`.
    """

    def rate(self, t):
        return 1 / (t + self.learning_rate)

    def share(self, count):
        return 1 / (count + 2)

    def series(self):
        return dataclasses.replace(
            super().series(),
            refusal="average with a `decay` and not over all steps, the first of which are not near the identity,",
        )

    def counted(self):
        return jnp.zeros((), jnp.int32)


def averaged(equation: AbstractEquation, decay: Any = 0.99) -> AbstractAveraged:
    """An equation with an average of its weights.

    **Arguments:**

    - `equation`: any equation, with all wrappers that it has: the average belongs around them.
    - `decay`: rho between 0 and 1, what the average keeps in a step; or `"polyak"`, the mean of all weights of the run,
        those of the start included.

    **Returns:** an `Averaged` or a `PolyakAveraged`, whose state is an `AveragedState(equation, averaged)`. The parameters
    are those of the equation; the average is seen by observables of two arguments, the same ones in equation and algorithm,

        observe={"averaged": at_average(), "loss": at_average(objective.value)}    # or lambda params, state: state.averaged

    Of a series, `modified(averaged(...))`, the state is a `TwinState`, where `at_average` finds it too.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    if isinstance(decay, str) and decay == "polyak":
        return PolyakAveraged.around(equation)
    return Averaged.around(equation, decay=decay)

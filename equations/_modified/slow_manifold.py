"""A discrete algorithm at fixed hyperparameters: its memory forgets in a few steps and follows the parameters."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._base import AbstractEquation
from .._checks.arguments import choice
from .._checks.once import is_traced
from .._counts import foreign_counts, put, schedule_counts
from .._forwarder import AbstractForwarder
from .._gradients import no_gradient
from .._jaxpr.structure import is_affine, is_free
from .._splitting import split
from .._tree import add_scaled, zeros_of
from .increment import AbstractIncrement, TwinState, at_infinity
from .slow_steps import SlowLimit, SlowSplitting

# The initial layer is followed until it has decayed to this fraction of itself.
_LAYER = 1e-12


def like(params: PyTree, value: float) -> PyTree:
    """Parameters of one value, where those given may be traced."""
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value, leaf.dtype), eqx.filter(params, eqx.is_inexact_array))


class SlowManifold(AbstractForwarder):
    r"""The step of an algorithm on its slow manifold, memory = M(theta), with its initial layer.

    With theta' = theta + eta a(M(theta), theta) and a memory that forgets linearly, m' = L m + c(theta), the manifold is
    invariant if

        M(theta) = [c(theta) + M(theta) - M(theta')]/(1 - L)

    which is iterated `order - 1` times from c/(1 - L); each time adds an order in eta (derived; for heavy ball the result
    is the series in test_modified.py). Counts of bias corrections stand at infinity. Those of schedules go on: step
    and manifold are a_k and M_k of training step k, with M_{k+1}(theta') in the line above (derived). Where a schedule
    jumps, the memory needs a few steps to the new manifold: the order there is at most 2.

    A run from an empty memory reaches the manifold along an initial layer, in which it moves by
    d_k = a(m_k, theta_k) - a(s_k, theta_k) beside the slow motion, F(theta) = a(M(theta), theta). The shadow s_k of the
    memory starts on the manifold and goes the steps of the algorithm, so that the layer decays as L^k whatever the manifold
    leaves out. The distance delta_k from the slow path that the run ends on vanishes for k -> infinity, so that

        delta_k = -eta sum_{j >= k} [d_j + F(theta_j) - F(theta_j - delta_j)],

    also iterated `order - 1` times (derived); the slow path starts from theta_0 - delta_0.

    The noise is that of the gradient, with the response of the whole memory to it: for momentum b it is 1/(1 - b).
    """

    equation: AbstractIncrement = eqx.field(kw_only=True)
    order: int = eqx.field(kw_only=True, static=True)
    _step: Array | None = eqx.field(default=None, kw_only=True, repr=False)  # where counts are held

    @classmethod
    def of(cls, increment: AbstractIncrement, order: int) -> "SlowManifold":
        return cls(equation=increment, order=order)

    linear = None
    memory: ClassVar[str] = "adiabatic"

    @property
    def increment(self) -> AbstractIncrement:
        """The increment field that it is the slow motion of."""
        return self.equation

    def is_affine(self, state):
        return AbstractEquation.is_affine(self, state)

    def init(self, params):
        return params

    def params(self, state):
        return state

    def diffusion(self, t, state, signal):
        return AbstractEquation.diffusion(self, t, state, signal)

    def series(self):
        return dataclasses.replace(super().series(), maker="modified", kind="a series", average=False)

    def splitting(self):
        return SlowSplitting(self, smooth=split(self.equation).smooth)

    def scaling_limit(self):
        return SlowLimit(self)

    def held(self, low, high=None):
        if high is None:
            return put(self, _step=low)
        raise ValueError(
            "Argument `stepsize_controller` must be None for memory='adiabatic' where the step depends on a count, as "
            "under a schedule: the slow manifold is that of whole training steps."
        )

    def _count(self, t: Array) -> Array:
        """The training step at time t, or the one that is held."""
        return t / self.learning_rate if self._step is None else self._step

    def split(self, params: PyTree, count: Array | None) -> tuple[PyTree, PyTree]:
        """The empty memory in two, averages and counts: those of schedules after `count` steps, others at infinity."""
        averages, counts = self.equation.split(self.equation.init(params))
        far = at_infinity(counts.memory)
        if count is None:
            return averages.memory, far
        with jax.numpy_dtype_promotion("standard"):
            begin = self.equation.twin().init(params)
        count = jnp.asarray(count)

        def at(scheduled, begin, leaf):
            if leaf is None or not scheduled:
                return leaf
            dtype = jnp.result_type(begin) if jnp.issubdtype(count.dtype, jnp.integer) else leaf.dtype
            return jnp.asarray(begin).astype(dtype) + count.astype(dtype)

        return averages.memory, jax.tree.map(at, schedule_counts(begin), begin, far)

    def rates(self, params: PyTree, averages: PyTree, gradient: PyTree, count: Array | None) -> TwinState:
        """The rates of parameters and averages in a step with this gradient, at a count of schedules."""
        memory = eqx.combine(averages, self.split(params, count)[1])
        rates = self.equation.velocity(jnp.zeros(()), TwinState(params, memory), gradient)
        mask = jax.tree.map(lambda leaf: leaf is not None, averages, is_leaf=lambda leaf: leaf is None)
        return TwinState(rates.params, eqx.filter(rates.memory, mask))

    def _after(self, params, averages, gradient, count) -> PyTree:
        return add_scaled(averages, (self.learning_rate, self.rates(params, averages, gradient, count).memory))

    def _kept(self, params, count=None) -> PyTree:
        """L: what a step keeps of each average."""
        averages, gradient = self.split(params, None)[0], no_gradient(self.equation, params)
        ones = jax.tree.map(jnp.ones_like, averages)
        return jax.jvp(lambda m: self._after(params, m, gradient, count), (averages,), (ones,))[1]

    def memories(self, params: PyTree) -> list[float]:
        """The part of each average that a step keeps; the hyperparameters must not be traced."""
        return [float(jnp.max(leaf)) for leaf in jax.tree.leaves(self._kept(like(params, 0.0)))]

    def _settled(self, params, gradient, count) -> PyTree:
        """c/(1 - L): the averages under one gradient for ever."""
        once = self._after(params, self.split(params, None)[0], gradient, count)
        return jax.tree.map(lambda c, kept: c / (1 - kept), once, self._kept(params, count))

    def manifold(
        self, params: PyTree, signal, order: int, gradient: PyTree = None, count: Array | None = None
    ) -> PyTree:
        """M(theta), with an error of O(eta^order); `gradient` is that at `params`, if it is known.

        `count` is the training step that schedules have come to; None: all of them are at their end.
        """
        gradient = self.sees(signal).gradient(params) if gradient is None else gradient
        settled = self._settled(params, gradient, count)
        if order == 1:
            return settled
        here = self.manifold(params, signal, order - 1, gradient, count)
        after = add_scaled(params, (self.learning_rate, self.rates(params, here, gradient, count).params))
        there = self.manifold(after, signal, order - 1, count=None if count is None else count + 1)
        kept = self._kept(params, count)
        return jax.tree.map(lambda m, kept, a, b: m - (b - a) / (1 - kept), settled, kept, here, there)

    def velocity(self, t: Array, state: PyTree, gradient: PyTree) -> PyTree:
        """The rate of the parameters under this gradient for ever."""
        count = self._count(t)
        return self.rates(state, self._settled(state, gradient, count), gradient, count).params

    def drift(self, t, state, signal):
        """The step on the manifold, over the learning rate, with an error of O(eta^order)."""
        gradient, count = self.sees(signal).gradient(state), self._count(t)
        return self.rates(state, self.manifold(state, signal, self.order, gradient, count), gradient, count).params

    def slow_start(self, params: PyTree, signal) -> PyTree:
        """Where the slow path begins that a run from `params` with an empty memory ends on, up to O(eta^order)."""
        kept = jnp.max(jnp.stack([jnp.max(leaf) for leaf in jax.tree.leaves(self._kept(params))]))
        steps = jnp.ceil(jnp.log(_LAYER) / jnp.log(jnp.maximum(kept, 1e-3))).astype(jnp.int32)
        rate, zero = self.learning_rate, jnp.zeros(())

        def follow(distances):
            """The next approximation to the distance at the start, from those before it."""

            def body(step, carry):
                run, shadow, distances, total = carry
                now, gradient = self.held(step), self.sees(signal).gradient(run.params)
                fast = self.equation.held(step).velocity(zero, run, gradient)
                slow = self.rates(run.params, shadow, gradient, step)
                after = add_scaled(run, (rate, fast))
                # What the manifold holds more where the run has come to than where the slow motion would have.
                there = self.manifold(add_scaled(run.params, (rate, slow.params)), signal, self.order, count=step + 1)
                more = add_scaled(self.manifold(after.params, signal, self.order, count=step + 1), (-1.0, there))
                shadow = add_scaled(shadow, (rate, slow.memory), (1.0, more))
                layer = add_scaled(fast.params, (-1.0, slow.params))
                changes = [layer]
                for distance in distances:
                    here, there = (
                        now.drift(zero, p, signal) for p in (run.params, add_scaled(run.params, (-1.0, distance)))
                    )
                    changes.append(add_scaled(layer, (1.0, here), (-1.0, there)))
                distances = [add_scaled(d, (rate, change)) for d, change in zip(distances, changes[:-1], strict=True)]
                return after, shadow, distances, add_scaled(total, (-rate, changes[-1]))

            first = jnp.zeros((), jnp.int32)
            shadow = self.manifold(params, signal, self.order, count=first)
            nothing = jax.tree.map(jnp.zeros_like, params)
            return jax.lax.fori_loop(first, steps, body, (self.equation.init(params), shadow, distances, nothing))[3]

        distances = []
        for _ in range(self.order - 1):
            distances = [*distances, follow(distances)]
        return add_scaled(params, (-1.0, distances[-1])) if distances else params

    def check(self, params, signal):
        self.equation.check(params, signal)
        self.check_memory(params, "'dynamic'", running=True)

    def check_memory(self, params: PyTree, otherwise: str, running: bool = False) -> None:
        """A ValueError that names what the argument `memory` must be if the memory cannot be eliminated.

        `running`: schedules run; else they stand at their end.
        """
        reason = self._not_eliminated(params, running)
        if reason is not None:
            raise ValueError(f"Argument `memory` must be {otherwise} {reason}")

    def _not_eliminated(self, params, running) -> str | None:
        if self.sampling == "shuffled" and self.batch_size is not None:
            return (
                "for sampling='shuffled', but 'adiabatic' was given: across the batches of an epoch a memory is not "
                "eliminated."
            )
        return self.unsettled(params, running)

    def unsettled(self, params: PyTree, running: bool = False) -> str | None:
        """Why the memory does not settle under one gradient for ever, as the end of a message; None where it does."""
        arrays = eqx.filter(params, eqx.is_inexact_array)
        averages = jax.eval_shape(lambda p: self.split(p, None)[0], arrays)
        if not jax.tree.leaves(averages):
            return "for an algorithm that remembers nothing, but 'adiabatic' was given."
        with jax.numpy_dtype_promotion("standard"):
            memory = jax.eval_shape(lambda p: self.equation.twin().init(p), arrays)
        runs_on = running and any(jax.tree.leaves(schedule_counts(memory)))
        if not runs_on and not is_traced(self.learning_rate):
            ones = like(arrays, 1.0)
            steps = self.rates(ones, self._settled(ones, ones, None), ones, None).params
            if not any(jnp.any(leaf) for leaf in jax.tree.leaves(steps)):
                return (
                    "for an algorithm whose steps end, as with a schedule that decays to zero, but 'adiabatic' was given: "
                    "counts stand at infinity there."
                )
        if running and self._reads(foreign_counts(memory), arrays):
            return (
                "for an algorithm whose steps depend on a count of its own, but 'adiabatic' was given: schedules are known "
                "by the states of optax.scale_by_schedule and optax.inject_hyperparams."
            )
        if runs_on and not self._forgets_evenly(arrays):
            return (
                "for an algorithm whose memory forgets at a rate that a schedule changes, as with momentum=schedule in "
                "optax.inject_hyperparams, but 'adiabatic' was given: there is a slow manifold where what a step keeps of "
                "the memory is the same in every step."
            )
        gradient = jax.tree.map(jnp.zeros_like, arrays)
        if not is_affine(lambda m: self._after(arrays, m, gradient, None), averages):
            return (
                "unless the algorithm's memory forgets linearly, as an exponential average does, but 'adiabatic' "
                "was given."
            )
        return None

    def _forgets_evenly(self, params: PyTree) -> bool:
        """Whether what a step keeps of the memory does not depend on the counts of schedules."""
        with jax.numpy_dtype_promotion("standard"):
            return is_free(lambda count: self._kept(like(params, 0.0), count), jnp.zeros((), jnp.int32))

    def _reads(self, marked: PyTree[bool], params: PyTree) -> bool:
        """Whether the step of the parameters depends on the leaves of the memory that are marked."""
        if not any(jax.tree.leaves(marked)):
            return False
        state = jax.eval_shape(self.equation.init, params)
        zeros = zeros_of(state)
        counts, rest = eqx.partition(zeros.memory, marked)

        def step(counts):
            memory = eqx.combine(counts, rest)
            return self.equation.velocity(jnp.zeros(()), TwinState(zeros.params, memory), zeros.params).params

        return not is_free(step, counts)


def forgets_at_a_fixed_rate(leading: AbstractIncrement, params: PyTree) -> bool:
    """Whether a step at a smaller learning rate forgets nearly as much of some average: it is not near the identity."""
    kept, later = (SlowManifold.of(e, 1).memories(params) for e in (leading, leading.scaling_limit().rescaled(1 / 64)))
    return any(0 < k < 1 and 1 - l > (1 - k) / 2 for k, l in zip(kept, later, strict=True))


def eliminated(memory: str, allowed: tuple[str, ...]) -> str:
    """The argument `memory`, checked; `"slaved"` is an older name of `"adiabatic"`."""
    return choice("memory", "adiabatic" if isinstance(memory, str) and memory == "slaved" else memory, allowed)

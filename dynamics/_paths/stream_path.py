"""One path of a dynamics under a stream of stimuli, in seconds.

A stimulus is looked up once and held; within a piece of it in which nothing jumps one call of Diffrax makes the steps, so
that no stage of any solver sees the next input. What acts with a delay is recorded at every step and handed to a later
piece whole (the method of steps): on the grid the delay is exact, between its points it is interpolated linearly.
"""

from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractDynamics, AbstractStream, Stimulus
from equations.internal import split, zeros_of

from .base import AbstractPath
from .brownian import Brownian, Increments
from .grid import windows
from .keys import order_and_noise
from .progress import Progress
from .record import first_failure, keep, with_start
from .steps import take_steps
from .terms import Clock, EulerTerm, Field


class _Arriving(eqx.Module):
    """The stimulus as the dynamics sees it at a time tau of the solver, with what arrives late.

    `left` and `right` hold it at both ends of each step of a piece, leaves `(longest, ...)`.
    """

    stimulus: Stimulus
    begin: Array
    length: Array
    left: PyTree
    right: PyTree

    def __call__(self, tau: Array) -> Stimulus:
        if self.left is None:
            return self.stimulus
        place = tau - self.begin.astype(tau.dtype)
        step = jnp.clip(jnp.floor(place).astype(self.length.dtype), 0, self.length - 1)
        part = place - step.astype(tau.dtype)
        past = jax.tree.map(lambda a, b: a[step] + part * (b[step] - a[step]), self.left, self.right)
        return Stimulus(self.stimulus.x, self.stimulus.y, past)


class StreamPath(AbstractPath):
    """A path under a stream: a training step of it is a stimulus. `signal` is a stimulus like all others."""

    stream: AbstractStream
    delay: int = eqx.field(static=True)

    streamed: ClassVar[bool] = True

    def begin(self, params: PyTree, key: Array) -> Progress:
        state = self.dynamics.init(params)
        order_key, _ = order_and_noise(key)
        return Progress.begin((state, self._nothing(state), self.stream.begin(order_key)), state, state)

    def __call__(self, progress: Progress, key: Array) -> tuple[tuple, Progress, Any]:
        """A scan over the stimuli between records, and over the records."""
        state = progress.recorded
        _, noise_key = order_and_noise(key)
        structure = split(self.dynamics).noise(state, self.signal, self.substeps)
        brownian = None if structure is None else Brownian(noise_key, structure, self.substeps, longest=1)

        def stimulus(carry, index):
            state, late, carried, failed_at = carry
            held, carried = self.stream.stimulus(index, carried)
            increments = None
            if brownian is not None:
                increments = Increments(brownian, brownian.block(index), index)
            state, late = self._stimulus(state, late, held, index, increments)
            return (state, late, carried, first_failure(failed_at, self._ok(state), index + 1)), None

        def interval(carry, index):
            progress, meter = carry
            indices = self.first + index * self.save_every + jnp.arange(self.save_every, dtype=jnp.int32)
            (*running, failed_at), _ = jax.lax.scan(stimulus, (*progress.running, progress.failed_at), indices)
            recorded = keep(failed_at >= 0, progress.recorded, running[0])
            meter = self.meter.step(meter, ((index + 1) / self.count).astype(float))
            return (Progress(tuple(running), recorded, failed_at, progress.peak), meter), self._saved(recorded)

        carry = progress, self.meter.init()
        (progress, meter), saves = self.places.loop(interval, carry, self.count, self._saved(state))
        self.meter.close(meter)
        return saves, progress, self.owes

    def _stimulus(self, state, late, held, index, increments):
        """A whole stimulus, piece by piece."""
        lengths = windows(self.substeps, self.delay)
        longest = max(lengths)

        def piece(carry, place):
            begin, length = place
            return self._piece(
                *carry, held=held, index=index, begin=begin, length=length, longest=longest, increments=increments
            ), None

        lengths = jnp.asarray(lengths, jnp.int32)
        begins = jnp.cumsum(lengths) - lengths
        if lengths.size == 1:
            return piece((state, late), (begins[0], lengths[0]))[0]
        return jax.lax.scan(piece, (state, late), (begins, lengths))[0]

    def _piece(self, state, late, held, index, begin, length, longest: int, increments):
        """`length` steps from step `begin` of a stimulus."""
        clock_type = jnp.result_type(*jax.tree.leaves(state))
        clock = Clock(index, self.dt, self.substeps)
        if isinstance(self.solver, dfx.Euler):
            term = EulerTerm(self.dynamics, None, clock, increments)
        else:
            term = dfx.ODETerm(Field(self.dynamics, None, clock, unsplit=True))
        left, right = (None, None) if late is None else jax.tree.map(lambda leaf: leaf[:longest], late)
        arriving = _Arriving(held, begin, length, left, right)
        first, count = begin.astype(clock_type), length.astype(clock_type)
        if late is None:
            end, _ = take_steps(
                term, self.solver, state, first=first, count=count, most=longest, adjoint=self.adjoint, args=arriving
            )
            return end, None
        # As a list, since Diffrax cannot save a tree with an empty tuple in it.
        outputs = [
            dfx.SubSaveAt(t1=True, fn=lambda t, y, args: jax.tree.leaves(y)),
            dfx.SubSaveAt(steps=True, fn=lambda t, y, args: self.dynamics.delayed(y, held)),
        ]
        solution: Any = dfx.diffeqsolve(
            term,
            self.solver,
            t0=first,
            t1=first + count,
            dt0=jnp.ones((), clock_type),
            y0=state,
            args=arriving,
            saveat=dfx.SaveAt(subs=outputs),
            adjoint=self.reversible,
            max_steps=longest,
            throw=False,
        )
        end = jax.tree.unflatten(jax.tree.structure(state), [leaf[-1] for leaf in solution.ys[0]])
        right = solution.ys[1]
        left = with_start(self.dynamics.delayed(state, held), jax.tree.map(lambda leaf: leaf[:-1], right))

        def behind(old, new):  # the last `delay` steps
            return jax.lax.dynamic_slice_in_dim(jnp.concatenate([old, new]), length, self.delay)

        return end, jax.tree.map(behind, late, (left, right))

    def _nothing(self, state):
        """What is under way before the first stimulus: both ends of the last `delay` steps; None without a delay."""
        if not self.delay:
            return None
        one = jax.eval_shape(self.dynamics.delayed, state, self.signal)
        zeros = jax.tree.map(lambda leaf: jnp.zeros((self.delay, *leaf.shape), leaf.dtype), one)
        return zeros, zeros


def first_stimulus(dynamics: AbstractDynamics, stream: AbstractStream, delay: int, params: PyTree) -> Stimulus:
    """The first stimulus of some path, for its structure: with zeros for what is late, if anything is."""
    held, _ = stream.stimulus(jnp.zeros((), jnp.int32), stream.begin(jax.random.key(0)))
    if not delay:
        return held
    one = jax.eval_shape(lambda p: dynamics.delayed(dynamics.init(p), held), params)
    return Stimulus(held.x, held.y, zeros_of(one))

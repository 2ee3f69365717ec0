"""One path of a dynamics, from record to record."""

import dataclasses
import functools
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations.internal import split

from .base import AbstractPath
from .brownian import Brownian, segments
from .coins import Coins
from .fused import Behind, FusedTerm
from .held import counted, held, scales_all
from .keys import apart
from .lanes import are_few
from .progress import Progress
from .quotient import Peak, no_peak
from .record import first_failure, keep, with_start
from .steps import take_steps
from .strang import Merged, Steps
from .terms import Clock, EulerTerm, Field, KickTerm
from .watched import Watched, nothing_seen


class Path(AbstractPath):
    """A path that Diffrax integrates in segments, each with a clock of its own."""

    law: str = eqx.field(static=True, default="gaussian")
    stride: int | float = eqx.field(static=True, default=1)  # training steps in what is a training step here
    opening: Any = None  # the path of the first such step by training steps, where a dynamics is singular at the start
    windows: bool = eqx.field(static=True, default=False)  # whether what is counted jumps between such steps

    def begin(self, params: PyTree, key: Array) -> Progress:
        state = self.dynamics.init(params)
        return Progress.begin(state, state, state)

    def __call__(self, progress: Progress, key: Array) -> tuple[tuple, Progress, Any]:
        """A loop over intervals between records."""
        state = progress.recorded
        brownian = self._brownian(state, key)
        started = self._start(state, key)  # in the place of a first training step; of no meaning in a later one

        def interval(carry, index):
            progress, owes, block, seen, meter = carry
            state, failed_at = progress.running, progress.failed_at
            offset = self.first + index * self.save_every
            end = offset + self.save_every
            if started is not None:
                fresh = offset == 0
                state = jax.lax.cond(fresh, lambda state: started, lambda state: state, state)
                failed_at = jnp.where(fresh, first_failure(failed_at, self._ok(state), 1), failed_at)
                offset = jnp.maximum(offset, 1)
            carried = state, failed_at, progress.peak, owes, block, seen
            state, failed_at, peak, owes, block, seen = self._advance(carried, offset, end, brownian)
            complete = self._complete(state, owes, end)
            failed_at = first_failure(failed_at, self._ok(complete), end)
            recorded = progress.recorded
            state, recorded = keep(failed_at >= 0, (recorded, recorded), (state, complete))
            meter = self.meter.step(meter, ((index + 1) / self.count).astype(float))  # the dtype in which it starts
            return (Progress(state, recorded, failed_at, peak), owes, block, seen, meter), self._saved(recorded)

        block = None if brownian is None else brownian.first_block()
        carry = progress, self.owes, block, nothing_seen(self, state), self.meter.init()
        (progress, owes, *_, meter), saves = self.places.loop(interval, carry, self.count, self._saved(state))
        self.meter.close(meter)
        return saves, progress, owes

    def before(self, progress: Progress, key: Array, step: Array) -> PyTree:
        """The state before training step `step`, counted from 1, of the path that a call gives."""
        path = dataclasses.replace(self, save_every=1)
        state = progress.running
        brownian = self._brownian(state, key)
        block = None if brownian is None else brownian.first_block()
        started = self._start(state, key)
        offset = self.first
        if started is not None:
            offset = jnp.maximum(offset, 1)
            state = jax.lax.cond(self.first == 0, lambda state: started, lambda state: state, state)

        def advance(carry):
            offset, state, owes, block = carry
            carried = state, jnp.full((), -1, jnp.int32), no_peak(state), owes, block, nothing_seen(self, state)
            state, _, _, owes, block, _ = path._advance(carried, offset, offset + 1, brownian)
            return offset + 1, state, owes, block

        carry = offset.astype(jnp.int32), state, self.owes, block
        return jax.lax.while_loop(lambda carry: carry[0] < step - 1, advance, carry)[1]

    @property
    def _owing(self) -> float:
        return Steps(self.solver).owing

    @property
    def _kicks(self) -> int:
        return Steps(self.solver).kicks(self.dynamics)

    @property
    def kicks_per_step(self) -> int:
        """Kicks in a training step."""
        return self.substeps * self._kicks

    def noise(self, state: PyTree) -> PyTree[jax.ShapeDtypeStruct] | None:
        """The structure of the normal numbers of a kick; None without noise."""
        return split(self.dynamics).noise(state, self.signal, self.kicks_per_step if self.stride == 1 else 1)

    def _brownian(self, state, key) -> Any:
        if Steps(self.solver).on_batches:
            solver: Any = self.solver
            return solver.drawn(self.dynamics, self.signal, self.dynamics.params(state), key, self.substeps)
        structure = self.noise(state)
        if structure is None:
            return None
        if self.law != "gaussian":
            return Coins(key, structure, self.kicks_per_step, self.law)
        return Brownian(key, structure, self.kicks_per_step, shares=Steps(self.solver).shares)

    def _counts(self, state) -> bool:
        return self.windows if self.stride != 1 else counted(self.dynamics, self.signal, self.dynamics.params(state))

    def _start(self, state, key):
        """The state after the first step, for a dynamics that is singular at the start; None for all others."""
        if self.opening is not None:
            return self.opening(self.opening.begin(self.dynamics.params(state), key), apart(key, 1))[1].recorded
        if Steps(self.solver).on_batches:
            start = split(self.dynamics.held(jnp.zeros((), jnp.int32))).start
            if eqx.filter_eval_shape(start, state, self.signal, None) is None:
                return None  # and no batch is drawn
            return start(state, self._brownian(state, key).start(self.signal), None)
        structure = split(self.dynamics).noise(state, self.signal, 1)
        noise = None if structure is None else Brownian(key, structure, 1).whole(jnp.zeros((), jnp.int32))
        return self.started(state, noise)

    def started(self, state: PyTree, noise: PyTree | None) -> PyTree | None:
        """The same from the normal numbers of the first training step."""
        return split(self.dynamics.held(jnp.zeros((), jnp.int32))).start(state, self.signal, noise)

    def step(self, step: Array, state: PyTree, increments: Any) -> PyTree:
        """Training step number `step`, counted from 0, by the steps of the solver alone, without Diffrax's loop around them
        and half flows that merge: for runs whose length is no constant. The solver's own loops must be of a kind that needs
        none around it, as `dfx.ForwardMode` makes them.
        """
        terms = held(self._terms(step, increments), jnp.zeros((), _clock_type(state)))

        def substep(state, count):
            t0, t1 = (jnp.asarray(count + more, _clock_type(state)) for more in (0, 1))
            inner = self.solver.init(terms, t0, t1, state, None)
            return self.solver.step(terms, t0, t1, state, None, inner, made_jump=False)[0], None

        return jax.lax.scan(substep, state, jnp.arange(self.substeps))[0]

    def _terms(self, offset, increments: Any) -> dfx.AbstractTerm:
        clock = Clock(offset, self.dt / self.substeps, self.substeps, stride=self.stride)
        steps = Steps(self.solver)
        if steps.on_batches:
            solver: Any = self.solver
            return solver.term(self.dynamics, self.signal, clock, increments)
        field = Field(self.dynamics, self.signal, clock, unsplit=not steps.apart)
        if steps.fused:
            return dfx.MultiTerm(dfx.ODETerm(field), FusedTerm(self.dynamics, self.signal, clock, increments))
        if steps.split:
            kick = KickTerm(self.dynamics, self.signal, clock, increments, self._kicks)
            return dfx.MultiTerm(dfx.ODETerm(field), kick)
        if isinstance(self.solver, dfx.Euler):
            return EulerTerm(self.dynamics, self.signal, clock, increments)
        return dfx.ODETerm(field)

    def _complete(self, state, owes, end):
        """The state at the end of training step `end`: where half flows are merged, half a flow is owing."""
        if not self._owing:
            return state
        start, stop = (jnp.full((), self.substeps - owing, _clock_type(state)) for owing in (self._owing, 0.0))
        terms = self._terms(end - 1, None)
        terms = held(terms, start) if self._counts(state) else terms
        solver: Any = self.solver
        complete = solver.flow_step(terms, start, stop, state, None)
        return keep(owes, complete, state)

    def _advance(self, carried, offset, end, brownian: Any):
        """From training step `offset` to `end`: a scan over segments, which end where a block of noise does.

        What is carried is the state, the step of failure, the peak, whether half a flow is owing, the block of noise, and
        what is known of the steps before.
        """
        if Steps(self.solver).fused:
            carried = self._behind(carried, offset, end)
        longest, count = segments(1 if brownian is None else brownian.rows, self.save_every, self.substeps)

        def segment(carry, _):
            offset, (state, failed_at, peak, owes, block, seen) = carry
            increments, stop = None, jnp.minimum(offset + longest, end)
            if brownian is not None:
                if Steps(self.solver).anchored:
                    block = brownian.refreshed(self, state, offset, block)
                increments, block, limit = brownian.read(offset, block)
                stop = stop if limit is None else jnp.minimum(stop, limit)
            stop = jnp.maximum(stop, offset)
            state, found, new, seen = self._segment(state, offset, stop - offset, longest, owes, increments, seen)
            peak = peak.or_later(*new)
            if brownian is not None and Steps(self.solver).anchored:
                block = brownian.measured(self, state, stop, block, (stop == self.end) & (stop > offset))
                peak = Peak(block.ratio, stop)
            owes = owes | (stop > offset) if self._owing else owes
            carried = state, jnp.where(failed_at < 0, found, failed_at), peak, owes, block, seen
            return (stop, carried), None

        carry, _ = jax.lax.scan(segment, (offset, carried), None, length=count)
        return carry[1]

    def _behind(self, carried, offset, end):
        """What is carried, with the variable of `Fused` steps in place of a state of which nothing is owing."""
        state, *others = carried
        owes = carried[3]
        solver: Any = self.solver
        back = functools.partial(solver.back, self._terms(offset, None), jnp.zeros((), _clock_type(state)))
        state = jax.lax.cond(owes | (end <= offset), lambda y: y, lambda y: back(y, None), state)
        return state, *others

    def _segment(self, state, offset, length, longest: int, owes, increments, seen):
        """`length` training steps in a row, of which the first is entered with half a flow owing or not."""
        count, clock_type = length * self.substeps, _clock_type(state)
        solver: Any = self.solver
        counts = self._counts(state)
        merged, fused = Steps(solver).merge, Steps(solver).fused
        solver, trail = (Behind(solver, seen), None) if fused else (solver, seen)
        if merged:
            scales = not self.windows and scales_all(self.dynamics, state)
            solver = Merged(solver, jnp.where(owes, -1, 0), counts, scales)
        known: dict[str, Any] = dict(
            merged=merged, counts=counts and not merged, trail=trail, params=self.dynamics.params
        )
        solver = Watched(solver, self._ok, offset, self.substeps, **known)
        state, inner = take_steps(
            self._terms(offset, increments),
            solver,
            state,
            count=count.astype(clock_type),
            most=longest * self.substeps,
            adjoint=self.adjoint,
            lanes=increments is not None and not Steps(self.solver).on_batches and are_few(state, self.noise(state)),
        )
        return state, *inner[1:3], inner[0 if fused else 3]

    def adaptive(self, progress: Progress, controller: dfx.AbstractStepSizeController):
        """A noise-free path whose steps the controller chooses: one call of Diffrax with dense output at the records."""
        initial = state = progress.recorded
        started = self._start(state, None)
        begin = self.first
        if started is not None:
            begin = jnp.maximum(begin, 1)
            state = jax.lax.cond(self.first == 0, lambda state: started, lambda state: state, state)
        clock_type = _clock_type(state)
        clock = Clock(jnp.zeros((), jnp.int32), self.dt, 1)
        steps = self.places.number * self.save_every
        recorded: Any = (self.first + jnp.arange(self.save_every, steps + 1, self.save_every, jnp.int32)).astype(
            clock_type
        )

        def output(t, state, args):
            return self._saved(state)

        solution: Any = dfx.diffeqsolve(
            dfx.ODETerm(Field(self.dynamics, self.signal, clock, unsplit=True)),
            self.solver,
            t0=begin.astype(clock_type),
            t1=self.end.astype(clock_type),
            dt0=None,
            y0=state,
            saveat=dfx.SaveAt(
                subs=[dfx.SubSaveAt(ts=recorded, fn=output), dfx.SubSaveAt(t1=True, fn=lambda t, y, args: (t, y))]
            ),
            stepsize_controller=controller,
            event=dfx.Event(lambda t, y, args, **kwargs: ~self._ok(y)),
            adjoint=self.reversible,
            progress_meter=self.meter,
            max_steps=16 * steps + 4096,
            throw=False,
        )
        saves, last = solution.ys
        reached, state = jax.tree.map(lambda leaf: leaf[-1], last)
        ok = solution.result == dfx.RESULTS.successful
        failed_at = jnp.where(ok, -1, jnp.floor(reached).astype(jnp.int32) + 1)
        failed_at = jnp.where(progress.failed_at >= 0, progress.failed_at, failed_at)
        # Records that were not reached repeat the last one that was.
        saves = with_start(self._saved(initial), saves)
        count = jnp.where(ok, recorded.size, jnp.sum(recorded <= reached))
        index = jnp.minimum(jnp.arange(recorded.size + 1), count)
        saves = jax.tree.map(lambda leaf: leaf[index], saves)
        return saves, Progress(state, state, failed_at, no_peak(state)), self.owes


def _clock_type(state):
    """The dtype of Diffrax's clock: that of the state, or its time would promote the state."""
    return jnp.result_type(*jax.tree.leaves(state))

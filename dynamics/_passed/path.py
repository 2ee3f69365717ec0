"""One path of a stochastic differential equation by a solver of Diffrax's own, from record to record."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations.internal import zeros_of

from .._paths.around import Around
from .._paths.base import AbstractPath
from .._paths.brownian import Brownian, segments
from .._paths.held import differ, held
from .._paths.progress import Progress
from .._paths.record import first_failure, keep, with_start
from .._paths.steps import take_steps
from .._paths.terms import Clock, Field
from .brownian import Forest, Fresh, Stepwise
from .chosen import meeting, smallest_step
from .langevin import Reduced, halves, reduced
from .terms import NoiseTerm

# Relative: a dynamics that changes by less where a run goes on is the same one, to rounding.
_SAME = 1e-5


class Guard(Around):
    """Keeps, beside the state of a solver, the training step in which the path first went bad, or -1; and holds what the
    dynamics counts at the training step of a step."""

    ok: Callable[[PyTree], Array]
    offset: Array
    substeps: int = eqx.field(static=True)
    counts: bool = eqx.field(static=True)

    def init(self, terms, t0, t1, y0, args):
        return self.solver.init(terms, t0, t1, y0, args), jnp.full((), -1, jnp.int32)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        inner, failed_at = solver_state
        if self.counts:
            now, last = (held(terms, (t0 + t1) / 2 - back) for back in (0, 1))
            terms, made_jump = now, made_jump | differ(now, last)
        y1, error, dense, inner, result = self.solver.step(terms, t0, t1, y0, args, inner, made_jump)
        step = self.offset + jnp.rint(t0).astype(self.offset.dtype) // self.substeps + 1
        return y1, error, dense, (inner, first_failure(failed_at, self.ok(y1), step)), result


class PassedPath(AbstractPath):
    """A path whose drift, diffusion and Brownian motion Diffrax's solver takes as they are.

    A run goes on from the state in the solver's form, the solver's own state, and what the dynamics was there: where that
    is another one now, the two are made anew.

    **Attributes:** `additive`, `steady`, `langevin`, `levy_area`, `counts` as in `Pairing`.
    """

    additive: bool = eqx.field(static=True)
    steady: bool = eqx.field(static=True)
    langevin: bool = eqx.field(static=True)
    levy_area: Any = eqx.field(static=True)
    counts: bool = eqx.field(static=True)

    def begin(self, params, key):
        state = self.dynamics.init(params)
        return Progress.begin(self.running(state), state, state)

    def running(self, state):
        """What a run carries from a state on that is not its own."""
        form = self._form(state, self._step(state))
        y = form.encode(state)
        terms = self._terms(form, jnp.asarray(self.first), (state, None, None), None)
        return y, self._solver_state(form, y, terms), self._here(state, self.first)

    def __call__(self, progress, key):
        """A loop over intervals between records, through which the solver's own state goes on."""
        state = progress.recorded
        form = self._form(state, self._step(state))
        brownian = self._brownian(state, key)

        def interval(carry, index):
            progress, block, meter = carry
            before, inner, here = progress.running
            offset = self.first + index * self.save_every
            end = offset + self.save_every
            y, inner, found, block = self._advance(form, before, inner, block, offset, end, (state, key, brownian))
            failed_at = jnp.where(progress.failed_at < 0, found, progress.failed_at)
            y = keep(failed_at >= 0, before, y)
            recorded = form.decode(y)
            meter = self.meter.step(meter, ((index + 1) / self.count).astype(float))  # the dtype in which it starts
            return (Progress((y, inner, here), recorded, failed_at, progress.peak), block, meter), self._saved(recorded)

        block = None if brownian is None else brownian.first_block()
        carry = progress, block, self.meter.init()
        (progress, _, meter), saves = self.places.loop(interval, carry, self.count, self._saved(state))
        self.meter.close(meter)
        y, inner, _ = progress.running
        running = y, inner, self._here(progress.recorded, self.end)
        return saves, Progress(running, progress.recorded, progress.failed_at, progress.peak)

    def renewed(self, progress):
        """Where it goes on: with the solver's own state, or another one where the dynamics was another."""
        *own, then = progress.running
        *new, now = self.running(progress.recorded)

        def near(a, b):
            scale = jnp.maximum(jnp.max(jnp.abs(a), initial=0.0), jnp.max(jnp.abs(b), initial=0.0))
            return jnp.all(jnp.abs(a - b) <= _SAME * scale)

        same = jnp.all(jnp.stack(jax.tree.leaves(jax.tree.map(near, then, now))))
        return dataclasses.replace(progress, running=(*keep(same, tuple(own), tuple(new)), then))

    def _here(self, state, step):
        """Drift and diffusion at a state, over a step of the solver, by which a dynamics is known again."""
        dt = self._step(state)
        t = (jnp.asarray(step) * self.substeps).astype(dt.dtype) * dt
        operator: Any = self.dynamics.diffusion(t, state, self.signal)
        ones = jax.tree.map(jnp.ones_like, zeros_of(operator.in_structure()))
        parts = (dt, self.dynamics.drift(t, state, self.signal)), (jnp.sqrt(dt), operator.mv(ones))
        return [jax.tree.map(lambda leaf, by=by: (by * leaf).astype(dt.dtype), part) for by, part in parts] + [dt]

    def _step(self, state):
        return self.dt.astype(_clock_type(state)) / self.substeps

    def begin_adaptive(self, params, key):
        """As `begin`, for steps that a controller chooses, which carry nothing on."""
        state = self.dynamics.init(params)
        return Progress.begin(state, state, state)

    def adaptive(self, progress, key, controller):
        """The same with steps that the controller chooses: one call of Diffrax, whose steps meet the records."""
        state = progress.recorded
        dtype = _clock_type(state)
        clock = Clock(jnp.zeros((), jnp.int32), self.dt.astype(dtype), 1)
        form = self._form(state, clock.dt)
        steps = self.places.number * self.save_every
        recorded: Any = (self.first + jnp.arange(self.save_every, steps + 1, self.save_every, jnp.int32)).astype(dtype)
        smallest = jnp.asarray(smallest_step(controller), dtype)
        begin, end = (jnp.asarray(step).astype(dtype) for step in (self.first, self.end))
        chosen = not isinstance(controller, dfx.StepTo)
        structure = self._structure(state)
        if chosen:
            tree: Any = Forest(key=key, smallest=smallest, structure=structure, levy_area=self.levy_area)
            controller = meeting(controller, jnp.sort(jnp.concatenate([recorded, Forest.between(begin, end)])))
        else:
            tree = dfx.VirtualBrownianTree(jnp.zeros((), dtype), end, smallest / 2, structure, key, self.levy_area)
            controller = dfx.StepTo(controller.ts.astype(dtype))

        def output(t, y, args):
            return self._saved(form.decode(y))

        solution: Any = dfx.diffeqsolve(
            self._terms_on(form, clock, tree, state),
            self.solver,
            t0=begin,
            t1=end,
            dt0=jnp.full((), 1 / self.substeps, dtype) if chosen else None,
            y0=form.encode(state),
            saveat=dfx.SaveAt(
                subs=[dfx.SubSaveAt(ts=recorded, fn=output), dfx.SubSaveAt(t1=True, fn=lambda t, y, args: (t, y))]
            ),
            stepsize_controller=controller,
            event=dfx.Event(lambda t, y, args, **kwargs: ~self._ok(form.decode(y))),
            adjoint=self.reversible,
            progress_meter=self.meter,
            max_steps=1024 * steps + 4096,
            throw=False,
        )
        saves, last = solution.ys
        reached, y = jax.tree.map(lambda leaf: leaf[-1], last)
        ok = solution.result == dfx.RESULTS.successful
        failed_at = jnp.where(ok, -1, jnp.floor(reached).astype(jnp.int32) + 1)
        failed_at = jnp.where(progress.failed_at >= 0, progress.failed_at, failed_at)
        saves = with_start(self._saved(state), saves)
        count = jnp.where(ok, recorded.size, jnp.sum(recorded <= reached))
        index = jnp.minimum(jnp.arange(recorded.size + 1), count)
        state = form.decode(y)
        return jax.tree.map(lambda leaf: leaf[index], saves), Progress(state, state, failed_at, progress.peak)

    def _form(self, state, dt) -> "Reduced | Plain":
        return reduced(self.dynamics, self.signal, state, dt) if self.langevin else Plain()

    def _structure(self, state) -> PyTree[jax.ShapeDtypeStruct]:
        """That of the Brownian motion, which of a Langevin equation is that of the positions."""
        if self.langevin:
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), halves(state)[0][0])
        operator: Any = self.dynamics.diffusion(jnp.zeros((), _clock_type(state)), state, self.signal)
        return operator.in_structure()

    def _brownian(self, state, key) -> Brownian | None:
        """Where the solver sees increments alone."""
        if self.levy_area is not dfx.BrownianIncrement:
            return None
        return Brownian(key, self._structure(state), self.substeps)

    def _terms(self, form, offset, motion, block) -> dfx.MultiTerm:
        """From training step `offset` on, in the time of the solver's steps."""
        state, key, brownian = motion
        clock = Clock(offset, self.dt.astype(_clock_type(state)) / self.substeps, self.substeps)
        if brownian is None:
            path: Any = Fresh(
                key=key,
                clock=clock,
                structure=self._structure(state),
                levy_area=self.levy_area,
            )
        else:
            path = Stepwise(increments=brownian.read(offset, block)[0], clock=clock)
        return self._terms_on(form, clock, path, state)

    def _terms_on(self, form, clock, path, state) -> dfx.MultiTerm:
        if self.langevin:
            return form.terms(self.dynamics, self.signal, path)
        noise = NoiseTerm(
            dynamics=self.dynamics,
            signal=self.signal,
            clock=clock,
            increments=None,
            path=path,
            fixed=state if self.additive else None,
            steady=self.steady,
            flat=self._structure(state) if isinstance(self.solver, dfx.ItoMilstein) else None,
        )
        return dfx.MultiTerm(dfx.ODETerm(Field(self.dynamics, self.signal, clock, unsplit=True)), noise)

    def _guard(self, form, offset) -> Guard:
        return Guard(self.solver, lambda y: self._ok(form.decode(y)), offset, self.substeps, self.counts)

    def _solver_state(self, form, y, terms):
        begin, end = (jnp.asarray(t, _clock_type(form.decode(y))) for t in (0, 1))
        terms = held(terms, begin) if self.counts else terms
        inner, _ = self._guard(form, jnp.zeros((), jnp.int32)).init(terms, begin, end, y, None)
        return inner

    def _advance(self, form, y, inner, block, offset, end, motion):
        """From training step `offset` to `end`: a scan over segments, which end where a block of noise does."""
        state, key, brownian = motion
        longest, count = segments(1 if brownian is None else brownian.rows, self.save_every, self.substeps)
        if count == 1:
            return self._segment(form, y, inner, block, (offset, end, longest), motion)[1:]

        def segment(carry, _):
            offset, y, inner, failed_at, block = carry
            stop, y, inner, found, block = self._segment(form, y, inner, block, (offset, end, longest), motion)
            return (stop, y, inner, jnp.where(failed_at < 0, found, failed_at), block), None

        carry = offset, y, inner, jnp.full((), -1, jnp.int32), block
        return jax.lax.scan(segment, carry, None, length=count)[0][1:]

    def _segment(self, form, y, inner, block, span, motion):
        """At most `longest` training steps, and where they end."""
        offset, end, longest = span
        state, key, brownian = motion
        stop = jnp.minimum(offset + longest, end)
        if brownian is not None:
            _, block, limit = brownian.read(offset, block)
            stop = stop if limit is None else jnp.minimum(stop, limit)
        stop = jnp.maximum(stop, offset)
        dtype = _clock_type(state)
        y, inner = take_steps(
            self._terms(form, offset, motion, block),
            self._guard(form, offset),
            y,
            count=((stop - offset) * self.substeps).astype(dtype),
            most=longest * self.substeps,
            adjoint=self.adjoint,
            inner=(inner, jnp.full((), -1, jnp.int32)),
        )
        return stop, y, *inner, block


class Plain(eqx.Module):
    """A state that the solver takes as it is."""

    def encode(self, state):
        return state

    def decode(self, y):
        return y


def _clock_type(state):
    """The dtype of Diffrax's clock: that of the state, or its time would promote the state."""
    return jnp.result_type(*jax.tree.leaves(state))

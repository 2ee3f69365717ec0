"""A Diffrax solver that notes when its path diverges: a fixed-step NaN is otherwise reported as a success."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .around import Around
from .fused import Seen
from .held import differ, held
from .quotient import no_peak
from .record import first_failure
from .strang import Steps
from .terms import from_step
from .trail import Trail


class Watched(Around):
    """Wraps a solver and keeps, beside its state, the training step in which the path first went bad, or -1, and the
    `Peak` of the quotients of stages (`quotient.py`).

    It only takes note: a path goes on, so that an ensemble under vmap never waits for it. And it holds, in all stages of a
    step, what the dynamics counts at the training step that the step belongs to.
    """

    ok: Callable[[PyTree], Array]
    offset: Array
    substeps: int = eqx.field(static=True)
    merged: bool = eqx.field(static=True)  # whether the solver's half flows are
    counts: bool = eqx.field(static=True, default=False)  # whether to hold what the dynamics counts
    trail: Trail | None = None  # of the steps before, where these have no stages that say how stiff they were
    params: Callable[[PyTree], PyTree] | None = None  # of a state

    def init(self, terms, t0, t1, y0, args):
        inner = self.solver.init(terms, t0, t1, y0, args)
        return inner, jnp.full((), -1, jnp.int32), no_peak(y0), self.trail

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        inner, failed_at, peak, trail = solver_state
        begin, end = t0, t1
        if not self.merged:  # which does this itself
            terms, begin, end = from_step(terms, t0), jnp.zeros_like(t0), jnp.ones_like(t0)
        if self.counts:
            now, last = (held(terms, (begin + end) / 2 - back) for back in (0, 1))
            terms, made_jump = now, made_jump | differ(now, last)
        y1, error, dense, inner, result = self.solver.step(terms, begin, end, y0, args, inner, made_jump)
        step = self.offset + jnp.rint(t0).astype(self.offset.dtype) // self.substeps + 1
        if trail is None or self.params is None:
            quotient = Steps(self.solver).quotient(inner, dense)
        else:
            trail = trail.after(self.params(y0), self.params(y1))
            quotient = trail.quotient
        peak = peak.or_later(quotient, step)
        return y1, error, dense, (inner, first_failure(failed_at, self.ok(y1), step), peak, trail), result


def nothing_seen(path: Any, state: PyTree) -> Seen | Trail | None:
    """What the solver of a path knows at the start of the steps before, of which some tell by two in a row how stiff they
    were."""
    steps = Steps(path.solver)
    if steps.fused:
        return Seen.none(state)
    # Euler's single step is the algorithm itself, of which nothing is asked.
    itself = isinstance(path.solver, dfx.Euler) and path.substeps == 1
    return Trail.none(path.dynamics.params(state)) if steps.blind(path.dynamics) and not itself else None

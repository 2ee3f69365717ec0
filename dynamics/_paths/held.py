"""Counts in a run: what is held within a training step, and where solvers that choose their steps must stop."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import abstract_value, is_free, is_traced, split, zeros_of

from .._times import rates_at
from .around import Around
from .terms import with_dynamics

# So far from a whole step, before and after it, the learning rate is read; float32 holds that to 10^5 steps.
NEAR = 1 / 64
_FINE = 4  # places within a training step at which it is read for its integral
_STEEP = 16  # times the change beside a whole step: not even a small root begins so


def counted(dynamics: AbstractDynamics, signal: Any, params: PyTree) -> bool:
    """Whether anything that the dynamics counts acts on its rates, as far as the jaxpr tells."""
    return abstract_value(_counted, dynamics, signal, params) is not None


def _counted(dynamics, signal, params):
    zero = jnp.zeros((), jnp.int32)
    if dynamics.held(zero) is dynamics:
        return None
    state = dynamics.init(params)
    structure = split(dynamics).noise(state, signal, 1)
    noise = zeros_of(structure)
    dtype = jnp.result_type(*jax.tree.leaves(state))
    time = dt = jnp.asarray(dynamics.scaling_limit().learning_rate_at(zero)).astype(dtype)

    def flow(step):
        return split(dynamics.held(step)).flow(time, state, signal)

    def kick(step):
        return split(dynamics.held(step)).kick(time, state, signal, noise, dt)

    free = is_free(flow, zero) and (structure is None or is_free(kick, zero))
    return None if free else jnp.zeros(())


def held(terms: PyTree, tau: Any) -> PyTree:
    """The terms with what their dynamics count held at the training step to which time tau of the solver belongs, or kept
    between those of a step of many of them."""

    def hold(term):
        substep = jnp.floor(tau).astype(term.clock.offset.dtype)
        if term.clock.stride != 1:
            return term.dynamics.held(*term.clock.span(substep, tau.dtype))
        return term.dynamics.held(term.clock.step(substep))

    return with_dynamics(terms, hold)


def differ(a: PyTree, b: PyTree) -> Array:
    """Whether two trees of the same structure hold different numbers."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    changes = [jnp.any(x != y) for x, y in pairs if x is not y and eqx.is_array(x)]
    return jnp.any(jnp.stack(changes)) if changes else jnp.zeros((), bool)


def mean(a: PyTree, b: PyTree) -> PyTree:
    """The mean of two trees of the same structure, where they differ."""
    return jax.tree.map(lambda x, y: x if x is y or not eqx.is_array(x) else (x + y) / 2, a, b)


def scales_all(dynamics: AbstractDynamics, state: PyTree) -> bool:
    """Whether what is held is one factor of all rates: the flow under one and then another is that of their mean."""
    return split(dynamics).scales_all(state)


class Between(Around):
    """A solver whose steps end where the learning rate jumps: within one, counts stay between two jumps.

    `stops`: where jumps are, in training steps, ascending; `tops`: how far the learning rate before each goes on smoothly,
    and the end of the run.
    """

    stops: Array
    tops: Array

    def init(self, terms, t0, t1, y0, args):
        return self.solver.init(self._terms(terms, t0, t1), t0, t1, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        return self.solver.step(self._terms(terms, t0, t1), t0, t1, y0, args, solver_state, made_jump)

    def _terms(self, terms, t0, t1):
        place = jnp.searchsorted(self.stops, t0 + (t1 - t0) / 2)
        low = jnp.concatenate([jnp.zeros(1, self.stops.dtype), self.stops])[place]
        high = self.tops[place]

        return with_dynamics(terms, lambda term: term.dynamics.held(low, high))


def jumps(dynamics: Any, steps: int) -> tuple[Array, Array]:
    """The training steps, from 1 to steps - 1, with which the learning rate jumps, and the `tops` of `Between`.

    It is tabulated: at a jump it changes by more than its slopes on both sides explain. Where it jumps between two whole
    steps, as a schedule does that is stretched by an odd factor, it does so with the second. Under a trace, where the
    values are not known, there is a place for every step, those without a jump at infinity.
    """
    whole = jnp.arange(1.0, steps)
    if steps < 1:
        return whole, jnp.full(1, float(steps))
    at, inside = _changes(dynamics, steps)
    # Inside, the last whole step is as far as it goes on.
    stops = jnp.where(at | inside, jnp.arange(1.0, steps + 1), jnp.inf)
    tops = jnp.where(inside, jnp.arange(0.0, steps) + 2 * NEAR, jnp.arange(1.0, steps + 1))
    stops, tops, end = stops[:-1], tops[:-1], tops[-1:]
    if not is_traced(stops):
        found = np.isfinite(stops)
        return stops[found], jnp.concatenate([tops[found], end])
    order = jnp.argsort(stops)
    tops = jnp.where(stops < jnp.inf, tops, end)
    return stops[order], jnp.concatenate([tops[order], end])


@eqx.filter_jit
def _changes(dynamics, steps):
    """Whether the learning rate jumps with each training step from 1 to `steps`, and whether it does so before it."""
    whole = jnp.arange(1.0, steps + 1)
    places = jnp.asarray([-2 * NEAR, -NEAR, NEAR, 2 * NEAR, NEAR - 1, 2 * NEAR - 1])
    left, before, after, right, start, later = _table(dynamics, whole, places)
    rounding = 1e-5 * jnp.max(jnp.abs(jnp.stack([before, after])))
    slopes = jnp.abs(before - left) + jnp.abs(right - after)
    at = jnp.abs(after - before) > 4 * slopes + rounding
    inside = jnp.abs(before - start) > (4 / NEAR) * (jnp.abs(before - left) + jnp.abs(later - start)) + rounding
    return at, inside


def _table(dynamics, whole, places):
    """The learning rates at all places from all steps, `(places, steps)`."""
    return rates_at(dynamics, (whole + places[:, None]).ravel()).reshape(places.size, whole.size)


def of_whole_steps(dynamics: Any, steps: int) -> Array:
    """Whether the learning rate is a function of whole training steps alone, which is another one between them: in one of
    so many it has not the value from which it goes on, or its integral is not the sum of its values.

    The integral of a smooth one differs from its sum by a remainder at the ends, and by the share of a change within a step
    that a trapezoid leaves.
    """
    return jnp.zeros((), bool) if steps < 1 else _of_whole_steps(dynamics, steps)


@eqx.filter_jit
def _of_whole_steps(dynamics, steps):
    whole, values = jnp.arange(0.0, steps), rates_at(dynamics, jnp.arange(steps))
    fine = jnp.asarray([NEAR, 2 * NEAR, *((2 * j + 1) / (2 * _FINE) for j in range(_FINE)), 1 - NEAR, 1 - 2 * NEAR])
    after, right, *inner, before, left = table = _table(dynamics, whole, fine)
    size = jnp.max(jnp.abs(jnp.concatenate([values[None], table])))
    away = jnp.any(jnp.abs(values - after) > _STEEP * jnp.abs(right - after) + 1e-5 * size)
    # A step in which it jumps reads the value before.
    inside = jnp.abs(before - after) > (4 / NEAR) * (jnp.abs(before - left) + jnp.abs(right - after)) + 1e-5 * size
    off = jnp.sum(jnp.where(inside, 0.0, sum(inner) / _FINE - (values + before) / 2))
    change = jnp.sum(jnp.where(inside, 0.0, jnp.abs(before - values)))
    spread = jnp.maximum(jnp.max(values), jnp.max(table)) - jnp.minimum(jnp.min(values), jnp.min(table))
    return away | (jnp.abs(off) > change / 4 + spread / 2 + 1e-4 * jnp.sum(jnp.abs(values)))


def _whole_windows(dynamics, steps: int, alone: bool) -> tuple[Array, Array]:
    """The training steps with which the learning rate is another, all if not `alone`, and the `tops` of `Between`, which
    hold it there; like `jumps` under a trace."""
    whole, values = jnp.arange(1.0, steps), rates_at(dynamics, jnp.arange(steps))
    rounding = 8 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))
    changes = (jnp.abs(jnp.diff(values)) > rounding) | (not alone)
    stops = jnp.where(changes, whole, jnp.inf)
    stops = jnp.sort(stops) if is_traced(stops) else stops[np.isfinite(stops)]
    return stops, jnp.concatenate([jnp.zeros(1, stops.dtype), stops])


def read(
    dynamics: AbstractDynamics,
    signal: Any,
    params: PyTree,
    steps: int,
    solver: dfx.AbstractSolver,
    controller: Any,
    adjoint: Any,
) -> tuple[dfx.AbstractSolver, Any, tuple[tuple[str, str], ...]]:
    """Solver and step-size controller that read what a dynamics counts as they should, and how they do that, in words.

    **Raises:** ValueError or TypeError, naming the argument, where a solver cannot stop at jumps.
    """
    if not counted(dynamics, signal, params):
        return solver, controller, ()
    if isinstance(adjoint, dfx.BacksolveAdjoint):
        raise ValueError(
            "Argument `adjoint` must not be a BacksolveAdjoint where the dynamics counts, as under a schedule: backwards "
            f"nothing is held within a training step, but {adjoint!r} was given."
        )
    if controller is None:
        return solver, None, (("counts", "held within a training step"),)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    dynamics.held(*jnp.zeros(2, dtype))  # raises where counts cannot be read so
    stops, tops, reading = _windows(dynamics, signal, params, steps)
    if stops.size == 0 and tops[0] > 0:
        return solver, controller, (("counts", "continuous, stopping at 0 jumps"),)
    if isinstance(solver, dfx.AbstractImplicitSolver):
        raise ValueError(
            "Argument `solver` must be explicit, such as diffrax.Tsit5(), or None where a step-size controller meets a "
            f"learning rate that jumps, but {solver!r} was given."
        )
    if not isinstance(controller, dfx.AbstractAdaptiveStepSizeController):
        raise TypeError(
            "Argument `stepsize_controller` must be adaptive, such as diffrax.PIDController, where the learning rate "
            f"jumps, but {controller!r} was given."
        )
    stops, tops = jnp.asarray(stops, dtype), jnp.asarray(tops, dtype)
    if stops.size:
        controller = dfx.ClipStepSizeController(controller, jump_ts=stops)
    return Between(solver, stops, tops), controller, (("counts", reading),)


def _windows(dynamics, signal, params, steps):
    """`stops` and `tops` of `Between`, and how counts are read between them, in words."""
    whole = of_whole_steps(dynamics, steps)
    if not is_traced(whole) and not whole:
        stops, tops = jumps(dynamics, steps)
        return stops, tops, f"continuous, stopping at {stops.size} jumps"
    alone = abstract_value(_counts_no_more, dynamics, signal, params) is not None
    held_stops, held_tops = _whole_windows(dynamics, steps, alone)
    if not is_traced(whole):
        return held_stops, held_tops, f"held within a training step, stopping at {held_stops.size} of them"
    stops, tops = jumps(dynamics, steps)
    both = jnp.where(whole, held_stops, stops), jnp.where(whole, held_tops, tops)
    return *both, "continuous, stopping at jumps, or held within a training step where it is a function of those"


def _counts_no_more(dynamics, signal, params):
    return jnp.zeros(()) if scales_all(dynamics, dynamics.init(params)) else None

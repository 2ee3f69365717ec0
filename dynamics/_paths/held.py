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
    whole, end = jnp.arange(1.0, steps), jnp.full(1, float(steps))
    if steps < 2:
        return whole, end

    def table(*places):
        return [rates_at(dynamics, whole + place) for place in places]

    left, before, after, right = table(-2 * NEAR, -NEAR, NEAR, 2 * NEAR)
    start, later = table(NEAR - 1, 2 * NEAR - 1)
    rounding = 1e-5 * jnp.max(jnp.abs(jnp.stack([before, after])))
    slopes = jnp.abs(before - left) + jnp.abs(right - after)
    at = jnp.abs(after - before) > 4 * slopes + rounding
    inside = jnp.abs(before - start) > (4 / NEAR) * (jnp.abs(before - left) + jnp.abs(later - start)) + rounding
    # Inside, the last whole step is as far as it goes on.
    stops = jnp.where(at | inside, whole, jnp.inf)
    tops = jnp.where(inside, whole - 1 + 2 * NEAR, whole)
    if not is_traced(stops):
        found = np.isfinite(stops)
        return stops[found], jnp.concatenate([tops[found], end])
    order = jnp.argsort(stops)
    tops = jnp.where(stops < jnp.inf, tops, end)
    return stops[order], jnp.concatenate([tops[order], end])


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
    stops, tops = jumps(dynamics, steps)
    if stops.size == 0:
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
    count = "" if is_traced(stops) else f"{stops.size} "
    stops, tops = jnp.asarray(stops, dtype), jnp.asarray(tops, dtype)
    controller = dfx.ClipStepSizeController(controller, jump_ts=stops)
    return Between(solver, stops, tops), controller, (("counts", f"continuous, stopping at {count}jumps"),)

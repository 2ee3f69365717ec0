"""`solve`: an ensemble of an equation's paths under one jit."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractDynamics, AbstractSignal
from equations._checks import integer, positive
from equations._signal import is_parameter

from ._ensemble import (
    check_equation,
    check_key,
    check_observe,
    check_params,
    check_schedule,
    dynamic_numbers,
    first_failure,
    guard_traced,
    is_good,
    keep,
    path_keys,
    record,
    with_start,
)
from ._noise import Brownian, Increments
from ._strang import Merged, Strang
from ._terms import Clock, EulerTerm, Field, KickTerm
from ._trajectory import Trajectory
from ._watched import Watched

# One call of Diffrax makes at most this many substeps: its float32 clock loses steps beyond about 10^5.
_LONGEST = 10_000


def solve(
    equation: AbstractDynamics,
    objective: Any,
    params: PyTree,
    *,
    steps: int,
    key: Array | None = None,
    paths: int = 1,
    observe: dict | None = None,
    save_every: int = 1,
    substeps: int = 1,
    dt: float | None = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    adjoint: dfx.AbstractAdjoint | None = None,
    progress_meter: dfx.AbstractProgressMeter | None = None,
) -> Trajectory:
    """Integrates the stochastic or ordinary differential equation of a training algorithm with Diffrax.

    **Arguments:**

    - `equation`: an `equations.AbstractDynamics`, such as `SGD(learning_rate=0.05, batch_size=4)`.
    - `objective`: its signal, such as an `equations.Objective`; `None` for a dynamics that needs none.
    - `params`: the parameters at step 0, a PyTree of float32 or float64 arrays or an Equinox module.
    - `steps`: training steps; the solution runs over the time `learning_rate * steps`.
    - `key`: a typed key; needed exactly where the equation is random. The same key gives the same Brownian motion for any
        `save_every`, and for any `substeps` the same increments over training steps.
    - `paths`: the number of realisations. The paths of a noise-free equation are all the same and solved once.
    - `observe`: a dict of functions of the parameters, recorded at step 0 and every `save_every` steps, each giving an
        array. A function defined afresh on every call recompiles on every call.
    - `save_every`: a divisor of `steps`.
    - `substeps`: steps of the solver per training step.
    - `dt`: the time of a training step, for a dynamics without a learning rate.
    - `solver`: a Diffrax solver. Default: `Strang()`, of second order for mean and covariance, and `diffrax.Tsit5()` where
        nothing is random. `diffrax.Euler()` is the Euler-Maruyama step, for an affine rule one weighted gradient; at
        `substeps=1` it is the discrete algorithm on Gaussian gradients, not a resolved equation. Any Diffrax solver of
        ordinary differential equations for a noise-free equation.
    - `stepsize_controller`: for noise-free equations; the solver then chooses its steps itself, ignoring `substeps`, and a
        path that diverges ends in the last state that the controller accepted.
    - `adjoint`, `progress_meter`: passed on to Diffrax. The default adjoint is for reverse-mode differentiation.

    **Returns:** a `Trajectory`; arrays have a leading axis `paths`, also for one path.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    check_equation(equation, AbstractDynamics)
    equation = dynamic_numbers(equation)
    params = check_params(params)
    equation.check(params, objective)
    steps, paths, save_every = check_schedule(steps, paths, save_every)
    substeps = integer("substeps", substeps, maximum=128)
    observe = check_observe(observe, params)
    dt = _step_length(equation, dt)

    dynamic, static = eqx.partition(params, is_parameter)
    signal = objective.bind(static) if isinstance(objective, AbstractSignal) else objective
    random = _noise_structure(equation, signal, dynamic, 1) is not None
    solver = _check_solver(solver, stepsize_controller, random)
    key = check_key(key, random)
    for name, value, kind in (
        ("adjoint", adjoint, dfx.AbstractAdjoint),
        ("progress_meter", progress_meter, dfx.AbstractProgressMeter),
    ):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"Argument `{name}` must be a diffrax.{kind.__name__} or None, but {value!r} was given.")
    if isinstance(solver, dfx.Euler):  # raises where Euler cannot make substeps of a rule that is not affine
        structure = _noise_structure(equation, signal, dynamic, substeps)
        eqx.filter_eval_shape(
            lambda y, n: equation.euler(dt, equation.init(y), signal, n, dt / substeps), dynamic, structure
        )

    plan = _Plan(steps, save_every, substeps, random)
    run = _adaptive if stepsize_controller is not None else _ensemble
    saves, state, ok, failed_at = run(
        equation,
        signal,
        guard_traced(dynamic),
        static,
        key,
        observe,
        dt,
        solver,
        stepsize_controller,
        adjoint or dfx.RecursiveCheckpointAdjoint(),
        progress_meter or dfx.NoProgressMeter(),
        plan,
        paths if random else 1,
    )
    if not random:  # every path is the same one
        saves, state, ok, failed_at = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (paths, *leaf.shape[1:])), (saves, state, ok, failed_at)
        )
    recorded = jnp.arange(0, steps + 1, save_every)
    details = (
        ("solver", repr(solver)),
        ("substeps", str(substeps)),
        ("stepsize_controller", repr(stepsize_controller)),
    )
    return Trajectory(
        steps=recorded,
        times=recorded.astype(float) * dt,
        observables=saves,
        final=eqx.combine(state, static),
        ok=ok,
        failed_at=failed_at,
        equation=equation,
        kind="equation",
        details=details,
    )


class _Plan(eqx.Module):
    """The static numbers of a run."""

    steps: int = eqx.field(static=True)
    save_every: int = eqx.field(static=True)
    substeps: int = eqx.field(static=True)
    random: bool = eqx.field(static=True)


def _step_length(equation, dt) -> Array:
    rate = getattr(equation, "learning_rate", None)
    if rate is None and dt is None:
        raise ValueError(
            f"Argument `dt` must be the time of a training step, since {type(equation).__name__} has no "
            "learning rate, but None was given."
        )
    if rate is not None and dt is not None:
        raise ValueError(
            f"Argument `dt` must be None, since the learning rate of {type(equation).__name__} is its time of "
            f"a training step, but {dt!r} was given."
        )
    return positive("dt" if rate is None else "learning_rate")(dt if rate is None else rate)


def _noise_structure(equation, signal, dynamic, kicks_per_step):
    found = []
    eqx.filter_eval_shape(
        lambda params: found.append(equation.noise(equation.init(params), signal, kicks_per_step)), dynamic
    )
    return found[0]


def _check_solver(solver, controller, random: bool) -> dfx.AbstractSolver:
    if solver is not None and not isinstance(solver, dfx.AbstractSolver):
        raise TypeError(f"Argument `solver` must be a diffrax.AbstractSolver or None, but {solver!r} was given.")
    if controller is not None:
        if not isinstance(controller, dfx.AbstractStepSizeController):
            raise TypeError(
                "Argument `stepsize_controller` must be a diffrax.AbstractStepSizeController or None, but "
                f"{controller!r} was given."
            )
        if random:
            raise ValueError(
                f"Argument `stepsize_controller` must be None for an equation with noise, but {controller!r} was given."
            )
        if isinstance(solver, Strang | dfx.Euler):
            raise ValueError(
                f"Argument `solver` must have an error estimate for `stepsize_controller`, but {solver!r} was given."
            )
    if random and not isinstance(solver, None | Strang | dfx.Euler):
        raise ValueError(
            "Argument `solver` must be Strang(), diffrax.Euler() or None for an equation with noise, but "
            f"{solver!r} was given. The noise is multiplicative, does not commute and is read in the Itô sense, which no "
            "other Diffrax solver integrates; a Stratonovich solver would solve another equation."
        )
    if solver is None:
        return Strang() if random else dfx.Tsit5()
    return solver


@eqx.filter_jit
def _ensemble(equation, signal, params, static, key, observe, dt, solver, controller, adjoint, meter, plan, paths):
    def one(key):
        return _path(equation, signal, params, static, key, observe, dt, solver, adjoint, meter, plan)

    return jax.vmap(one)(path_keys(key, paths))


def _path(equation, signal, params, static, key, observe, dt, solver, adjoint, meter, plan):
    """One path: a scan over the intervals between two records."""
    splitting = isinstance(solver, Strang)
    kicks = (solver.kicks or equation.kicks) if splitting else 1
    per_step = plan.substeps * kicks
    state = equation.init(params)
    structure = equation.noise(state, signal, per_step)
    brownian = None if structure is None else Brownian(key, structure, per_step)
    clock_type = jnp.result_type(*jax.tree.leaves(state))

    def start(state):
        first = equation.noise(state, signal, 1)
        noise = None if first is None else Brownian(key, first, 1).whole(jnp.zeros((), jnp.int32))
        return equation.start(state, signal, noise)

    starts = jax.eval_shape(start, state) is not None
    if starts:
        # Taken once, ahead of the scan: the recorded step 0 is the state before it.
        started = start(state)

    def terms(offset, increments):
        clock = Clock(offset, dt / plan.substeps, plan.substeps)
        if splitting:
            flow = dfx.ODETerm(Field(equation, signal, clock, whole=False))
            return dfx.MultiTerm(flow, KickTerm(equation, signal, clock, increments, kicks))
        if isinstance(solver, dfx.Euler):
            return EulerTerm(equation, signal, clock, increments)
        return dfx.ODETerm(Field(equation, signal, clock, whole=True))

    merged = type(solver) is Strang
    rows = plan.save_every if brownian is None or brownian.rows == 1 else brownian.rows
    longest = max(1, min(rows, plan.save_every, _LONGEST // plan.substeps))
    aligned = brownian is not None and brownian.rows > 1

    def segment(offset, length, end, state, failed_at, increments):
        """`length` training steps from step `offset`, by one call of Diffrax; `end`: the interval ends with it."""
        these = terms(offset, increments)
        count = length * plan.substeps
        inner = Merged(solver, jnp.where(end, count - 1, -1)) if merged else solver
        zero = jnp.zeros((), clock_type)
        solution = dfx.diffeqsolve(
            these,
            Watched(inner, offset, plan.substeps),
            zero,
            count.astype(clock_type),
            jnp.ones((), clock_type),
            state,
            saveat=dfx.SaveAt(t1=True, solver_state=True),
            adjoint=adjoint,
            max_steps=longest * plan.substeps,
            throw=False,
        )
        state = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
        found = solution.solver_state[1]
        return state, jnp.where(failed_at < 0, found, failed_at)

    def interval(carry, index):
        state, failed_at, block_index, block, meter_state = carry
        offset = index * plan.save_every
        end = offset + plan.save_every
        before = state
        if starts:
            state = jax.lax.cond(index == 0, lambda state: started, lambda state: state, state)
            failed_at = first_failure(failed_at, is_good(state), 1)
            offset = jnp.maximum(offset, 1)
        if merged:
            half = solver.flow_step(
                terms(offset, None), jnp.zeros((), clock_type), jnp.full((), 0.5, clock_type), state, None
            )
            state = keep(offset >= end, state, half)

        def body(carry, _):
            offset, state, failed_at, block_index, block = carry
            if aligned:
                wanted = offset // brownian.rows
                block = jax.lax.cond(wanted == block_index, lambda: block, lambda: brownian.block(wanted))
                block_index = wanted
                stop = jnp.minimum((wanted + 1) * brownian.rows, end)
                increments = Increments(brownian, block, wanted * brownian.rows)
            else:
                stop = jnp.minimum(offset + longest, end)
                increments = None if brownian is None else Increments(brownian, None, offset)
            stop = jnp.maximum(jnp.minimum(stop, offset + longest), offset)
            state, failed_at = segment(offset, stop - offset, stop == end, state, failed_at, increments)
            return (stop, state, failed_at, block_index, block), None

        carry = (offset, state, failed_at, block_index, block)
        (_, state, failed_at, block_index, block), _ = jax.lax.scan(
            body, carry, None, length=_segments(plan, rows, longest, aligned)
        )
        state = keep(failed_at >= 0, before, state)
        meter_state = meter.step(meter_state, (index + 1) / (plan.steps // plan.save_every))
        return (state, failed_at, block_index, block, meter_state), record(observe, equation.params(state), static)

    block = brownian.block(jnp.zeros((), jnp.int32)) if aligned else None
    carry = (state, jnp.full((), -1, jnp.int32), jnp.zeros((), jnp.int32), block, meter.init())
    (state, failed_at, _, _, meter_state), saves = jax.lax.scan(
        interval, carry, jnp.arange(plan.steps // plan.save_every, dtype=jnp.int32)
    )
    meter.close(meter_state)
    saves = with_start(record(observe, params, static), saves)
    return saves, equation.params(state), failed_at < 0, failed_at


def _segments(plan, rows, longest, aligned) -> int:
    """Calls of Diffrax in an interval: a bound, where the interval's place among the blocks of noise varies."""
    length = plan.save_every
    if not aligned:
        return -(-length // longest)
    if rows % length == 0 or length % rows == 0:
        return -(-length // rows)
    return (length - 2) // rows + 2


@eqx.filter_jit
def _adaptive(equation, signal, params, static, key, observe, dt, solver, controller, adjoint, meter, plan, paths):
    """A noise-free path whose steps the controller chooses: one call of Diffrax, with dense output at the records."""
    state = equation.init(params)
    clock_type = jnp.result_type(*jax.tree.leaves(state))
    started = equation.start(state, signal, None)
    begin, state = (0, state) if started is None else (1, started)
    recorded = jnp.arange(plan.save_every, plan.steps + 1, plan.save_every)

    def bad(t, state, args, **kwargs):
        return ~is_good(state)

    solution = dfx.diffeqsolve(
        dfx.ODETerm(Field(equation, signal, Clock(jnp.zeros((), jnp.int32), dt, 1), whole=True)),
        solver,
        jnp.full((), begin, clock_type),
        jnp.full((), plan.steps, clock_type),
        None,
        state,
        saveat=dfx.SaveAt(
            subs=[
                dfx.SubSaveAt(
                    ts=recorded.astype(clock_type),
                    fn=lambda t, state, args: record(observe, equation.params(state), static),
                ),
                dfx.SubSaveAt(t1=True, fn=lambda t, state, args: (t, state)),
            ]
        ),
        stepsize_controller=controller,
        event=dfx.Event(bad),
        adjoint=adjoint,
        progress_meter=meter,
        max_steps=16 * plan.steps + 4096,
        throw=False,
    )
    saves, last = solution.ys
    reached, state = jax.tree.map(lambda leaf: leaf[-1], last)
    ok = solution.result == dfx.RESULTS.successful
    failed_at = jnp.where(ok, -1, jnp.floor(reached).astype(jnp.int32) + 1)
    # Records that were not reached repeat the last one that was.
    saves = with_start(record(observe, params, static), saves)
    count = jnp.where(ok, recorded.size, jnp.sum(recorded.astype(clock_type) <= reached))
    index = jnp.minimum(jnp.arange(recorded.size + 1), count)
    saves = jax.tree.map(lambda leaf: leaf[index], saves)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (saves, equation.params(state), ok, failed_at))

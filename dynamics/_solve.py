"""`solve`: an ensemble of an equation's paths under one jit."""

import dataclasses
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractDynamics, AbstractSignal, AbstractStream
from equations.internal import (
    abstract_value,
    check_model,
    flag,
    is_parameter,
    learning_rate_of,
    on_parameters,
    positive,
    split,
    warn_frozen,
)

from ._arguments.checks import (
    check_equation,
    check_key,
    check_mesh,
    check_observe,
    check_params,
    check_schedule,
    dynamic_numbers,
    guard_traced,
)
from ._arguments.handed_out import check_axis, hand_out
from ._arguments.hooks import check_hooks, checked_noise
from ._arguments.jumps import warn_of_jumps
from ._health.auto import check_auto, check_substeps, checked_run, looked_at
from ._paths.brownian import block_rows
from ._paths.grid import check_time, stream_grid
from ._paths.held import read
from ._paths.path import Path, state_before
from ._paths.record import for_all_paths, path_keys
from ._paths.strang import Strang
from ._paths.stream_path import StreamPath, first_stimulus
from ._trajectory import Trajectory, learning_rates, recorded


def solve(
    equation: AbstractDynamics,
    objective: Any,
    params: PyTree,
    *,
    steps: int | None = None,
    time: float | None = None,
    key: Array | None = None,
    paths: int = 1,
    observe: dict | None = None,
    save_every: int = 1,
    substeps: int | str = 1,
    dt: float | None = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    adjoint: dfx.AbstractAdjoint | None = None,
    progress_meter: dfx.AbstractProgressMeter | None = None,
    keep_states: bool = False,
) -> Trajectory:
    """Integrates the stochastic or ordinary differential equation of a training algorithm with Diffrax.

    What is counted is training steps, of a length in time that is the learning rate. A dynamics without one lives in time:
    under a stream of stimuli (`dynamics.stimuli`) a stimulus is its training step, otherwise `dt` is.

    **Arguments:**

    - `equation`: an `equations.AbstractDynamics`, such as `SGD(learning_rate=0.05, batch_size=4)`.
    - `objective`: its signal, such as an `equations.Objective` or `stimuli`; `None` for a dynamics that needs none.
    - `params`: the parameters at step 0, a PyTree of float32 or float64 arrays or an Equinox module. In float32 the
        state is rounded in every step of the solver, as in the algorithm: changes below 1e-5 of a parameter lose digits.
    - `steps`: training steps; the solution runs over the time `learning_rate * steps`.
    - `time`: in place of `steps`, for a dynamics without a learning rate: the whole time, in seconds for a circuit, a
        multiple of the duration of a stimulus or of `dt`. Exactly one of the two is given.
    - `key`: a typed key; needed exactly where the equation is random. The same key gives the same Brownian motion for any
        `save_every`, and for any `substeps` the same increments over training steps.
    - `paths`: the number of realizations. The paths of a noise-free equation are all the same and solved once.
    - `observe`: a dict of functions of the parameters, recorded at step 0 and every `save_every` steps, each giving an
        array. A function defined afresh on every call recompiles on every call.
    - `save_every`: a divisor of `steps`.
    - `substeps`: steps of the solver per training step. What grows because they are too long is warned of, at the start,
        at the end and where the stages of a step differ most (one path is looked at, one that failed if any did, else the
        stiffest), as is noise that is not small within a step, at both ends; both stand in `details`. `"auto"` runs again
        with shorter steps until nothing is found, at most 128, and `details` says with how many; not under a trace, where
        nothing is looked at.
    - `dt`: for a dynamics without a learning rate, the time of a training step; under a stream of stimuli the step of the
        solver, which divides the duration of a stimulus (`substeps` is then 1).
    - `solver`: a Diffrax solver. Default: `Strang()`, of second order for mean and covariance, and `diffrax.Tsit5()` where
        nothing is random. `diffrax.Euler()` is the Euler-Maruyama step, for an affine rule one weighted gradient; at
        `substeps=1` it has the moments of a discrete step, for SGD exactly, and does not resolve the equation. For a
        noise-free equation any explicit Runge-Kutta method, and with a step-size controller any adaptive solver. Under a
        stream of stimuli `diffrax.Euler()` is the default; the stimulus is held over a step in every stage of a solver.
    - `stepsize_controller`: for noise-free equations; the solver then chooses its steps itself, ignoring `substeps`, and a
        path that diverges ends in the last state that the controller accepted. What a dynamics counts, such as the steps of
        a schedule, is held within a training step; with a controller it is read continuously, and steps end where the
        learning rate jumps. The `details` of the result say which.
    - `adjoint`, `progress_meter`: passed on to Diffrax. The default adjoint is for reverse-mode differentiation.

    - `keep_states`: records the whole state, the optimizer's memory included, in `states`.

    **Returns:** a `Trajectory`; arrays have a leading axis `paths`, also for one path.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    check_equation(equation, AbstractDynamics, "equation")
    equation = dynamic_numbers(equation)
    params = check_params(params)
    check_axis(objective, params)
    check_mesh(params)
    equation.check(params, objective)
    equation = on_parameters(equation, params)
    check_model(equation, params)
    warn_frozen(equation, objective, params)
    stream = objective if isinstance(objective, AbstractStream) else None
    substeps, auto = check_substeps(substeps)
    grid = None if stream is None else stream_grid(equation, stream, dt, substeps)
    length = dt if stream is None else stream.duration
    steps, paths, save_every = check_schedule(check_time(equation, steps, time, length), paths, save_every)
    dt = _step_length(equation, length)
    observe = check_observe(observe, params)
    keep_states = flag("keep_states")(keep_states)

    dynamic, static = eqx.partition(params, is_parameter)
    signal = objective.bind(static) if isinstance(objective, AbstractSignal) else objective
    if stream is not None:
        signal = first_stimulus(equation, stream, grid.delay, dynamic)
    noise = checked_noise(equation, signal, dynamic)
    random = noise is not None or (stream is not None and stream.random)
    if stream is None:
        solver = check_solver(solver, stepsize_controller, random)
    else:
        solver = check_stream_solver(solver, stepsize_controller, noise is not None)
    key = check_key(key, random)
    for name, value, kind in (
        ("adjoint", adjoint, dfx.AbstractAdjoint),
        ("progress_meter", progress_meter, dfx.AbstractProgressMeter),
    ):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"Argument `{name}` must be a diffrax.{kind.__name__} or None, but {value!r} was given.")
    if isinstance(adjoint, dfx.ImplicitAdjoint):
        raise ValueError(
            f"Argument `adjoint` must differentiate a whole path, not its steady state, but {adjoint!r} was given."
        )
    if isinstance(adjoint, dfx.BacksolveAdjoint) and stepsize_controller is not None:
        raise ValueError(
            "Argument `adjoint` must keep records between steps where a `stepsize_controller` chooses them, but "
            f"{adjoint!r} was given."
        )
    if isinstance(solver, dfx.Euler) and substeps > 1:  # raises where Euler cannot make substeps of a nonlinear rule
        structure = abstract_value(_noise, equation, signal, dynamic, substeps)
        eqx.filter_eval_shape(
            lambda y, n: split(equation).euler(dt, equation.init(y), signal, n, dt / substeps), dynamic, structure
        )
    check_hooks(equation, signal, dynamic, hooks_of(solver, noise is not None))
    adjoint = adjoint or _default_adjoint(noise)

    rates = learning_rates(equation, steps)
    chosen, how = solver, ()
    if stream is None:
        if stepsize_controller is None:  # which meets a jump by short steps
            warn_of_jumps(equation, signal, dynamic, steps, dt)
        chosen, controller, how = read(equation, signal, dynamic, steps, solver, stepsize_controller, adjoint)
    else:
        controller = None
    substeps = substeps if stream is None else grid.stimulus
    common = (
        equation, signal, static, observe, dt if stream is None else positive("dt")(grid.dt),
        _differentiable(chosen, adjoint), adjoint, progress_meter or dfx.NoProgressMeter(),
        steps, save_every, substeps, keep_states,
    )  # fmt: skip
    path = Path(*common) if stream is None else StreamPath(*common, stream, grid.delay)
    if auto:
        check_auto(path, solver, controller, dynamic)

    def run(path):
        return _ensemble(path, guard_traced(dynamic), key, controller, paths if random else 1)

    def before(path, index, step):
        return state_before(
            path, guard_traced(dynamic), key, paths if random else 1, jnp.asarray(index), jnp.asarray(step)
        )

    result, substeps, found = checked_run(path, solver, controller, (run, before), dynamic, noise is not None, auto)
    (saves, states), state, failed_at, _, _ = result
    if not random:
        saves, states, state, failed_at = for_all_paths((saves, states, state, failed_at), paths)
    details = (
        ("solver", repr(solver)),
        ("substeps", str(substeps)),
        ("stepsize_controller", repr(stepsize_controller)),
        *how,
        *found,
    )
    if stream is not None:
        details += (("duration", f"{stream.duration:g}"), ("dt", f"{grid.dt:g}"))
    hand_out(objective, params, state, states, saves)
    recorded_steps, times = recorded(rates, steps, save_every, dt)
    return Trajectory(
        steps=recorded_steps,
        times=times,
        observables=saves,
        final=eqx.combine(state, static),
        ok=failed_at < 0,
        failed_at=failed_at,
        equation=equation,
        kind="equation",
        details=details,
        states=states,
        **({} if stream is None else {"units": ("stimuli", "s")}),
    )


def _default_adjoint(noise: PyTree[jax.ShapeDtypeStruct] | None) -> dfx.AbstractAdjoint:
    """One for reverse-mode differentiation.

    XLA's loops with a condition cost 3 % more than those of a known length, which DirectAdjoint makes (a network on
    digits); where a step is cheap, the branches in them cost more than that.
    """
    cheap = noise is None or block_rows(noise) > 1
    return dfx.RecursiveCheckpointAdjoint() if cheap else dfx.DirectAdjoint()


def _differentiable(solver: dfx.AbstractSolver, adjoint: dfx.AbstractAdjoint) -> dfx.AbstractSolver:
    """The solver with the kind of loop over Runge-Kutta stages that an adjoint with forward mode needs.

    Diffrax sees to this itself, but not in a solver inside another one.
    """
    kind = {dfx.ForwardMode: "lax", dfx.DirectAdjoint: "bounded"}.get(type(adjoint))
    if kind is None:
        return solver

    def is_open(node):
        return getattr(node, "scan_kind", kind) is None

    def close(node):
        return dataclasses.replace(node, scan_kind=kind) if is_open(node) else node

    return jax.tree.map(close, solver, is_leaf=is_open)


@eqx.filter_jit
def _ensemble(path, params, key, controller, paths):
    if controller is not None:
        result = jax.tree.map(lambda leaf: leaf[None], path.adaptive(params, controller))
    elif paths == 1:  # the axis of a vmap would cost kernels of their own
        result = jax.tree.map(lambda leaf: leaf[None], path(params, path_keys(key, 1)[0]))
    else:
        result = jax.vmap(lambda key: path(params, key))(path_keys(key, paths))
    saves, states, failed_at, peak = result
    one = jax.tree.map(lambda leaf: leaf[looked_at(failed_at, peak)], states)
    return saves, jax.vmap(path.dynamics.params)(states), failed_at, peak, one


def _step_length(equation, dt) -> Array:
    rate = learning_rate_of(equation)
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


def check_stream_solver(solver, controller, noisy: bool) -> dfx.AbstractSolver:
    """The solver under a stream of stimuli, which makes constant steps."""
    if controller is not None:
        raise ValueError(
            f"Argument `stepsize_controller` must be None under a stream of stimuli, but {controller!r} was given."
        )
    solver = check_solver(dfx.Euler() if solver is None else solver, None, False)
    if isinstance(solver, Strang) or (noisy and not isinstance(solver, dfx.Euler)):
        raise ValueError(
            f"Argument `solver` must be diffrax.Euler() under a stream of stimuli with noise, but {solver!r} was given."
        )
    return solver


def _noise(equation, signal, dynamic, kicks_per_step):
    structure = split(equation).noise(equation.init(dynamic), signal, kicks_per_step)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), structure)


def hooks_of(solver: dfx.AbstractSolver, noisy: bool) -> tuple[str, ...]:
    """The methods of a dynamics that a solver calls."""
    if isinstance(solver, Strang):
        return ("start", "flow", "kick") if noisy else ("start", "flow")
    return ("start", "euler" if isinstance(solver, dfx.Euler) else "drift")


def check_solver(solver, controller, random: bool) -> dfx.AbstractSolver:
    if solver is not None and not isinstance(solver, dfx.AbstractSolver):
        raise TypeError(f"Argument `solver` must be a diffrax.AbstractSolver or None, but {solver!r} was given.")
    if controller is not None:
        if not isinstance(controller, dfx.AbstractStepSizeController):
            raise TypeError(
                "Argument `stepsize_controller` must be a diffrax.AbstractStepSizeController or None, but "
                f"{controller!r} was given."
            )
        if isinstance(controller, dfx.ConstantStepSize):
            raise ValueError(
                "Argument `stepsize_controller` must choose the steps, such as diffrax.PIDController, or be None for "
                f"constant ones, but {controller!r} was given."
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
    explicit = isinstance(solver, None | dfx.AbstractERK | Strang | dfx.Euler)
    if not explicit and (controller is None or isinstance(solver, dfx.SemiImplicitEuler)):
        raise ValueError(
            "Argument `solver` must be an explicit Runge-Kutta method of Diffrax or None where no "
            f"`stepsize_controller` is given, but {solver!r} was given."
        )
    if solver is None:
        return Strang() if random else dfx.Tsit5()
    return solver

"""`solve`: an ensemble of an equation's paths under one jit."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import flag, warn_sampling

from ._blocks import Kept, check_kept, reduced
from ._coarse import of_large_batches
from ._cost import warn_of_cost
from ._health.auto import check_substeps
from ._increments import check_increments, refuse_passed
from ._integrate import path_of, solve_problem
from ._large_steps import LargeSteps, check_solver_error
from ._passed.free import check_free, solve_free, thrown
from ._passed.pairing import is_passed
from ._passed.run import check_not_auto, solve_passed
from ._paths.layout import Layout
from ._problem import Problem
from ._solvers import Method
from ._trajectory import Trajectory


def solve(
    equation: AbstractDynamics,
    objective: Any,
    params: PyTree = None,
    *,
    steps: int | None = None,
    time: float | None = None,
    key: Array | None = None,
    paths: int | None = None,
    observe: dict | None = None,
    save_every: int = 1,
    substeps: int | str | None = None,
    dt: float | None = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    adjoint: dfx.AbstractAdjoint | None = None,
    progress_meter: dfx.AbstractProgressMeter | None = None,
    keep_states: bool = False,
    start: Trajectory | None = None,
    frozen: Any = None,
    per_path: bool = False,
    event: dfx.Event | None = None,
    saveat: dfx.SaveAt | None = None,
    throw: bool = False,
    reduce: tuple | None = None,
    devices: Any = None,
    block: int | None = None,
    increments: str | None = None,
    solver_error: float | None = None,
) -> Any:  # of two classes, which nobody wants to tell apart at every use
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
        `save_every`, and for any `substeps` the same increments over training steps, but where `solver` sees Lévy areas.
    - `paths`: the number of realizations, by default 1. The paths of a noise-free equation are all the same, solved once.
    - `observe`: a dict of functions of the parameters, or of two positional arguments, parameters and state, recorded at
        step 0 and every `save_every` steps, each giving an array. A function defined afresh on every call recompiles on
        every call.
    - `save_every`: a divisor of `steps`.
    - `substeps`: steps of the solver per training step; None: 1, or what the splitting of the equation says, 4 for a
        `RodFlow`. What grows because they are too long is warned of, at the start, at the end and where the stages of a
        step differ most (one path is looked at, one that failed if any did, else the stiffest), as is noise that is not
        small within a step, at both ends and where the learning rate is the largest; both stand in `details`. Small is
        noise by which the rate at which typical paths grow, a - s^2/2 for dX = a X dt + s X dW, is off by at most 5 % (of
        half of |a| + s^2/2 where these nearly cancel; 10 % where the mean square decays too). Leapfrog
        steps and Euler's have no such stages: between the ends they are looked at where the learning rate is the
        largest, and where the parameters go to and fro in moves that grow, as they do once what is unstable outdoes the
        noise. Noise that is strong in between by the landscape alone is not seen. Noise is measured over all numbers of
        the state together; that of a dynamics which is no training algorithm also number by number, in states of up to
        64 of them: beyond, the few draws do not tell a number's own noise from that of others, and strong noise in a
        few numbers beside much that is additive is not seen. Where all is well, a call that differs in its key alone
        looks at failures and stages only. `"auto"` runs again with shorter steps until nothing is found, and as long as
        that puts off failures, at most 128 (where these do not suffice the warning remains), and `details` says with how
        many; not under a trace, where nothing is looked at.
    - `dt`: for a dynamics without a learning rate, the time of a training step; under a stream of stimuli the step of the
        solver, which divides the duration of a stimulus (`substeps` is then 1).
    - `solver`: a Diffrax solver. Default: `Fused()`, `Strang(Heun(), kicks=1)` or `Strang()`, which resolve the equation at
        the least cost, of second order for mean and covariance, and `diffrax.Tsit5()` where nothing is random.
        `diffrax.Euler()` is the Euler-Maruyama step, for an affine rule one weighted gradient; at
        `substeps=1` it has the moments of a discrete step, for SGD exactly, and does not resolve the equation. For a
        noise-free equation any explicit Runge-Kutta method, and with a step-size controller any adaptive solver. Under a
        stream of stimuli `diffrax.Euler()` is the default; the stimulus is held over a step in every stage of a solver.
        With noise also any solver of Diffrax's that converges to the equation, on Diffrax's terms: all that it marks as
        Itô's or Stratonovich's where the noise is additive, Stratonovich's for a dynamics in that form (`interpretation`,
        or `equations.stratonovich`), Milstein's where the noise commutes, `ALIGN`, `ShOULD` and `QUICSORT` for underdamped
        Langevin equations. Those that see Lévy areas (`details` says which) take numbers of Diffrax's own, two or three
        times as many: another `substeps` is then another Brownian motion. Their steps are not checked as above.
        `SVAG(l)` goes by 2l real minibatches a training step and never by all examples; l = 1 is the algorithm itself.
        `LargeBatches(n)` makes steps of n training steps on batches n times as large, `ControlVariate(batch_size, every)`
        Euler's steps by batches and a full gradient now and then.
        The `gradients` in `details` are what a training step takes. Where that is a hundred times the algorithm's or more,
        and the run takes 10^12 gradients of an example and a parameter, about a minute of two cores, a warning names what
        is cheaper.
    - `stepsize_controller`: times are in training steps. With noise, for such a solver that has an error estimate (None:
        `diffrax.ShARK()` for additive noise, `diffrax.SPaRK()` for the Stratonovich form): its steps meet the records, and
        the Brownian motion is of Diffrax's trees, 50 to 95 times a hand-written loop where the drift is cheap,
        which resolve steps from the controller's `dtmin` on, or 1/1024. There is one for the times 0 to 1, 1 to 2, 2 to 4,
        4 to 8 and so on, at whose borders steps end too, so that runs of any length see the same motion (but under
        `diffrax.StepTo`, one for the run, which cannot go on). For noise-free equations the solver chooses its steps
        itself, ignoring `substeps`, and a path that diverges ends in the last state that the controller accepted. What a
        dynamics counts, such as the steps of a schedule, is held within a training step; with a controller it is read
        continuously, and steps end where the learning rate jumps, unless it is a function of whole training steps alone,
        such as `jnp.where(step % 3 == 0, ...)`, and another one between them. The `details` of the result say which.
    - `adjoint`, `progress_meter`: passed on to Diffrax. The default adjoint is for reverse-mode differentiation.
    - `keep_states`: records the whole state, the optimizer's memory included, in `states`.
    - `start`: a `Trajectory` to go on from, in memory or loaded, in place of `params`: the memory, the half flow that a
        step may owe, the records and the noise go on, and so does the counting of steps, which schedules read; `steps` are
        the additional ones. At fixed steps 20 + 20 are 40 to the bit, on the same machine, also by Diffrax's own solvers,
        which go on with their own state; under a controller within its tolerance, on the same Brownian motion. `key` and
        `paths` are left out (where nothing was drawn yet, noise needs a `key`), and the equation may have other numbers,
        but no other memory. With `paths` and another `key` so many begin at the end of a run of one, with noise that is new
        and independent. From a trajectory of `train` the equation goes on with the memory that the algorithm had, where
        that is known to be its own. A run that stopped at an event has no step from which to go on.
    - `frozen`: what of the parameters nothing moves: a function that gives it, as of `equinox.tree_at`, or a tree of bools.
        No drift, noise, decay or twin sees it; the loss and observables do. A circuit, or another dynamics without a signal
        of examples, sees it where it was and goes without its rates. What has no gradient and moves all the same, by noise
        or decay, is warned of: whole leaves, and parts of them behind a `stop_gradient`. A slice that no example reads
        (rows of an embedding, constant pixels, a buffer inside of a larger array) has none by its data alone, as a dead
        unit has, and passes.
    - `per_path`: True: every path begins with parameters of its own, leaves of `params` `(paths, ...)`.
    - `event`: a `diffrax.Event` that ends a noise-free path; its conditions take the time and the state.
    - `saveat`: `diffrax.SaveAt(ts=...)` for a noise-free equation: records at these times, in the unit of `times`, in place
        of every `save_every` steps, by the interpolation of the solver.
    - `throw`: whether a path that fails raises an error, as in Diffrax; by default it is flagged. An event is no failure.

    - `devices`: a number of JAX's devices, a sequence of them or a `jax.sharding.Mesh`, over whose axis `"paths"`, or the
        first, the paths are laid out; data may lie along others. None: what JAX does by itself.
    - `block`: how many paths are computed at once, by a program of which each device takes its part. The numbers of a
        path are then the same to the bit for any number of devices, as XLA compiles by default; another block may change
        the last bits of a network. None: all paths, and with `devices` a power of two by their number, which `details`
        says.
    - `reduce`: what is kept over paths, of which none is: a tuple of `"mean"`, `"variance"`, `"skewness"`, `"kurtosis"` and
        a `dynamics.Histogram(edges)`. Paths are run block by block, and no sum depends on what computes them.
    - `increments`: what the noise is drawn from; `"gaussian"`, normal numbers. Where means and variances alone are wanted
        two or three values serve as well, and one random word holds those of many steps: `"two-point"` keeps a weak order
        of one, as of `diffrax.Euler()`, `"three-point"` one of two. None takes the one that keeps the order where `reduce`
        keeps means and variances only, as `details` says, and normal numbers in all other runs. Runs of other `substeps`
        then have noise of their own.

    - `solver_error`: the error that the solver may have in the means over paths of what is observed, at any record,
        relative to the largest of these means; steps of many training steps are then taken, as long as it allows, up to
        `save_every` or 4096. How long is found by pilot runs of up to 64 paths, and stands in `details`. Where no `solver`
        is given and the data are many, the steps are on large batches (`LargeBatches`). Smooth schedules are read
        continuously; where they jump must be a record. For rules affine in the gradient, Adam and AdamW, and noise-free
        ones; without noise a `stepsize_controller` does the same.

    **Returns:** a `Trajectory`; arrays have a leading axis `paths`, also for one path. With `reduce` a `dynamics.Reduced`.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    layout = Layout.of(devices, block)
    placed = layout.placed((equation, objective, params, start, observe))
    equation, objective, params, start, observe = placed
    problem = Problem.of(
        equation,
        objective,
        params,
        twin=False,
        reads="equation",
        start=start,
        frozen=frozen,
        per_path=per_path,
    )
    asked, (substeps, auto) = substeps, check_substeps(substeps, problem.equation)
    problem = problem.scheduled(
        steps, paths, save_every, observe, time=time, dt=dt, substeps=substeps, keep_states=keep_states, layout=layout
    )
    throw = flag("throw")(throw)
    increments = check_increments(increments)
    kept = check_kept(reduce, problem, event=event, saveat=saveat, substeps="auto" if auto else None)
    given = dict(
        substeps=None if asked == 1 else asked, event=event, saveat=saveat, stepsize_controller=stepsize_controller
    )
    large = check_solver_error(solver_error, problem, solver, keep_states=keep_states or None, **given)
    check_free(problem, event, saveat, stepsize_controller, substeps, auto)
    if is_passed(problem, solver, stepsize_controller):
        check_not_auto(auto)
        refuse_passed(increments, solver)
        key = problem.check_key(key, True)
        passed = stepsize_controller, adjoint, progress_meter, key, substeps
        return _whole(lambda problem: solve_passed(problem, solver, *passed), problem, kept, throw)
    warn_sampling(problem.equation, problem.objective, problem.params)
    moments = kept is not None and kept.order <= 2 and kept.histogram is None

    def method_of(problem, substeps, other=None, pilot=False):
        return Method.of(
            problem,
            solver=solver if other is None else other,
            controller=stepsize_controller,
            adjoint=adjoint,
            meter=None if pilot else progress_meter,
            substeps=substeps,
            increments=None if pilot else increments,
            moments=moments and not pilot,
        )

    method = method_of(problem, substeps)
    key = problem.check_key(key, problem.random)
    if large is not None:
        run = LargeSteps(problem, method, method_of, key, large, given=solver is not None)
        return _whole(run, problem, kept, throw)
    problem = of_large_batches(problem, method.solver, substeps, keep_states=keep_states or None)
    if stepsize_controller is None:
        warn_of_cost(problem, method.solver, substeps)
    if event is not None or saveat is not None:
        path: Any = path_of(problem, method, substeps)
        return _whole(lambda problem: solve_free(problem, method, path, key, event, saveat), problem, None, throw)
    return _whole(lambda problem: solve_problem(problem, method, key, substeps, auto), problem, kept, throw)


def _whole(run: Callable[[Problem], Trajectory], problem: Problem, kept: Kept | None, throw: bool):
    """The result of `run`, or what is kept of it."""
    one = (lambda problem: thrown(run(problem))) if throw else run
    return one(problem) if kept is None else reduced(one, problem, kept, problem.random)

"""`solve` of noise-free equations in Diffrax's own manner: up to an event, and with output at times that the user gives."""

import dataclasses
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations.internal import is_traced

from .._integrate import begin_of, steps_of
from .._paths.held import counted
from .._paths.keys import path_keys
from .._paths.layout import Layout
from .._paths.path import Path
from .._paths.progress import Progress
from .._paths.record import Places, for_all_paths
from .._paths.terms import Clock, Field
from .._problem import Problem
from .._results import trajectory_of
from .._solvers import Method
from .._trajectory import Trajectory
from .path import Guard

_LONGEST = 50_000  # steps that Diffrax's float32 clock tells apart


def check_free(problem: Problem, event: Any, saveat: Any, controller: Any, substeps: int, auto: bool) -> None:
    """Raises a TypeError or ValueError unless event and times of output are of use in this run."""
    for name, value, kind in (("event", event, dfx.Event), ("saveat", saveat, dfx.SaveAt)):
        if value is None:
            continue
        if not isinstance(value, kind):
            raise TypeError(f"Argument `{name}` must be a diffrax.{kind.__name__} or None, but {value!r} was given.")
        if problem.stream is not None or problem.noise is not None:
            raise ValueError(
                f"Argument `{name}` must be None for an equation with noise or under a stream of stimuli, whose paths are "
                f"known at the ends of steps, but {value!r} was given."
            )
        if auto:
            raise ValueError(f"Argument `substeps` must be an integer with `{name}`, but 'auto' was given.")
        if controller is None and (problem.first + problem.steps) * substeps > _LONGEST:
            raise ValueError(
                f"Argument `steps` must be at most {_LONGEST} steps of the solver in one call with `{name}`, and those "
                f"before it, but {problem.steps} times {substeps} were given."
            )
    if saveat is not None:
        _times(problem, saveat)


def _times(problem: Problem, saveat: dfx.SaveAt) -> Array:
    """The times of output, shape `(saves,)`."""
    sub = saveat.subs
    plain = dfx.SaveAt(t1=True)
    other = (saveat.dense, saveat.solver_state, saveat.controller_state, saveat.made_jump)
    if not isinstance(sub, dfx.SubSaveAt) or any(other) or sub.steps or sub.fn is not plain.subs.fn:
        raise ValueError(
            "Argument `saveat` must be diffrax.SaveAt(ts=...), with `t0` and `t1` if wanted (what is recorded is told by "
            f"`observe` and `keep_states`), but {saveat!r} was given."
        )
    if problem.rates is not None:
        raise ValueError(
            "Argument `saveat` must be None where the learning rate changes from step to step, on which time depends, but "
            f"{saveat!r} was given."
        )
    begin, end = _span(problem)
    parts = ([begin[None]] if sub.t0 else []) + ([] if sub.ts is None else [sub.ts]) + ([end[None]] if sub.t1 else [])
    times = jnp.concatenate([part.astype(end.dtype) for part in parts])
    if not is_traced(times):
        ts = np.asarray(times)
        rising = ts.size and np.all(np.isfinite(ts)) and np.all(np.diff(ts) >= 0)
        if not rising or ts[0] < float(begin) * (1 - 1e-6) or ts[-1] > float(end) * (1 + 1e-6):
            raise ValueError(
                f"Argument `saveat` must have times that rise from {float(begin):g} or later to at most {float(end):g}, "
                f"the time of all steps, but {saveat!r} was given."
            )
    return jnp.clip(times, begin, end)


def _span(problem: Problem) -> tuple[Array, Array]:
    """The times at which a run begins and ends."""
    length = problem.steps * problem.dt
    begin = jnp.zeros_like(length) if problem.start is None else problem.start.time.astype(length.dtype)
    return begin, begin + length


def solve_free(problem: Problem, method: Method, path: Path, key: Array, event: Any, saveat: Any) -> Trajectory:
    """`solve` with an event or with times of output, all checked."""
    times, (begin, _) = None if saveat is None else _times(problem, saveat), _span(problem)
    within = None if times is None else (times - begin) / problem.dt
    counts = method.stepping is None and counted(problem.equation, problem.signal, problem.dynamic)
    path = dataclasses.replace(path, places=Places(problem.steps // problem.save_every))
    free: Any = FreePath(**{field.name: getattr(path, field.name) for field in dataclasses.fields(path)})
    free, start = begin_of(problem, method, free, key)
    paths, layout = (problem.paths, problem.layout) if problem.apart(False) else (1, Layout())
    run, progress = _run(
        free, start, key, method.stepping, event, within=within, counts=counts, paths=paths, layout=layout
    )
    saves, states, last, failed_at, stopped_at, result = for_all_paths(run, problem.paths)
    details = (
        ("solver", repr(method.solver)),
        ("substeps", str(path.substeps)),
        ("stepsize_controller", repr(method.controller)),
        *method.how,
        ("event", "none" if event is None else "ends a path"),
        ("health", "not looked at where there is an event or times are given"),
    )
    done = trajectory_of(problem, (saves, states, last, failed_at), True, None, kind="equation", details=details)
    how = dict(owes=np.zeros((), bool), how=steps_of(method, path.substeps), kind="equation")
    checkpoint = dataclasses.replace(problem.checkpoint(progress, False, key=key, **how), time=done.times[-1])
    changes: dict[str, Any] = dict(result=result, stopped_at=stopped_at, checkpoint=checkpoint)
    if times is not None and within is not None:
        whole = problem.first + jnp.floor(within * (1 + 1e-6)).astype(done.steps.dtype)
        changes |= dict(times=times, steps=whole)
    return dataclasses.replace(done, **changes)


def thrown(result: Trajectory) -> Trajectory:
    """The same, or an error at run time where a path failed."""
    failed = jnp.any(~result.ok)
    message = "A path diverged or ran out of steps: `throw=False` gives the others, with `ok` and `failed_at`."
    return eqx.tree_at(lambda r: r.ok, result, eqx.error_if(result.ok, failed, message))


@eqx.filter_jit
def _run(path, begin, key, controller, event, *, within, counts, paths, layout):
    def run(key, progress):
        return path.run(progress, controller, event, within, counts)

    return begin.each(run, path.begin, path_keys(key, paths), layout)


class FreePath(Path):
    """A noise-free path by one call of Diffrax, which may end before the last step."""

    def run(self, progress: Progress, controller: Any, event: Any, within: Any, counts: bool):
        """Records and states `(saves, ...)`, the last parameters, the training step of failure, or -1, the time of the
        event, infinite if there was none, and Diffrax's result; and how far the path has come. `within`: the records, in
        training steps of this run."""
        initial = state = progress.recorded
        dtype = jnp.result_type(*jax.tree.leaves(state))
        parts, steps = self.substeps if controller is None else 1, self.places.number * self.save_every
        clock = Clock(jnp.zeros((), jnp.int32), self.dt.astype(dtype) / parts, parts)
        started = self.started(state, None)
        first = jnp.asarray(self.first)
        begin = first * parts
        if started is not None:
            begin = jnp.maximum(begin, parts)
            state = jax.lax.cond(first == 0, lambda state: started, lambda state: state, state)
        if within is None:
            within = jnp.arange(0, steps + 1, self.save_every)
        recorded = (first.astype(dtype) + within.astype(dtype)) * parts
        solver: Any = Guard(self.solver, self._ok, jnp.zeros((), jnp.int32), parts, True) if counts else self.solver
        begin, end = begin.astype(dtype), ((first + steps) * parts).astype(dtype)
        solution: Any = dfx.diffeqsolve(
            dfx.ODETerm(Field(self.dynamics, self.signal, clock, unsplit=True)),
            solver,
            t0=begin,
            t1=end,
            dt0=jnp.ones((), dtype) if controller is None else None,
            y0=state,
            saveat=dfx.SaveAt(
                subs=[
                    dfx.SubSaveAt(ts=jnp.clip(recorded, begin, end), fn=lambda t, y, args: (self._saved(y), y)),
                    dfx.SubSaveAt(t1=True, fn=lambda t, y, args: (t, y)),
                ]
            ),
            stepsize_controller=dfx.ConstantStepSize() if controller is None else controller,
            event=watched(event, self._ok, clock),
            adjoint=self.reversible,
            progress_meter=self.meter,
            max_steps=steps * parts + 1 if controller is None else 16 * steps + 4096,
            throw=False,
        )
        saves, last = solution.ys
        reached, state = jax.tree.map(lambda leaf: leaf[-1], last)
        alive = self._ok(state) & (solution.result != dfx.RESULTS.max_steps_reached)
        met = solution.result == dfx.RESULTS.event_occurred
        # Where the algorithm's own first step is taken, what comes before is where the path begins.
        at_first = self._saved(initial), initial
        saves = _instead(saves, recorded < begin, at_first)
        # Records that were not reached are the state at the event, or of a path that failed its last record.
        count = jnp.sum(recorded <= reached)
        held = jax.tree.map(lambda leaf: leaf[jnp.maximum(count - 1, 0)], saves)
        stop = jax.tree.map(lambda a, b: jnp.where(alive, a, b), (self._saved(state), state), held)
        saves = _instead(saves, jnp.arange(recorded.size) >= count, stop)
        failed_at = jnp.where(alive, -1, jnp.floor(reached / parts).astype(jnp.int32) + 1)
        stopped_at = jnp.where(alive & met, clock.time(reached), jnp.inf)
        # A path that had failed before stays where it was.
        lost = progress.failed_at >= 0
        saves = _instead(saves, lost & jnp.ones(recorded.size, bool), at_first)
        stop = jax.tree.map(lambda a, b: jnp.where(lost, a, b), initial, stop[1])
        failed_at, stopped_at = jnp.where(lost, progress.failed_at, failed_at), jnp.where(lost, jnp.inf, stopped_at)
        run = (*saves[0], self.dynamics.params(stop), failed_at, stopped_at, solution.result)
        return run, Progress(stop, stop, failed_at, progress.peak)


def _instead(saves: PyTree, where: Array, one: PyTree) -> PyTree:
    """Records `(saves, ...)` with `one` in the places `where`."""
    return jax.tree.map(lambda leaf, x: jnp.where(where.reshape(-1, *(1,) * x.ndim), x, leaf), saves, one)


def watched(event: Any, ok: Any, clock: Clock) -> dfx.Event:
    """The user's event, whose conditions are given the time and the state, and the end of a path that diverges."""

    def diverged(t, y, args, **kwargs):
        return ~ok(y)

    if event is None:
        return dfx.Event(diverged)

    def timed(condition):
        def told(t, y, args, **kwargs):
            try:
                found = jnp.asarray(condition(clock.time(t), y, args, **kwargs))
            except Exception as error:
                raise ValueError(
                    "Argument `event` must have conditions that take the time, the state, `args` and **kwargs, as Diffrax "
                    f"gives them, but one fails: {type(error).__name__}: {error}"
                ) from error
            if found.shape != ():
                raise ValueError(
                    f"Argument `event` must have conditions that give one number or bool, but one gives {found.dtype} of "
                    f"shape {found.shape}."
                )
            return found

        return told

    conditions = jax.tree.map(timed, event.cond_fn, is_leaf=callable)
    return dfx.Event((conditions, diverged), event.root_finder, (event.direction, None))

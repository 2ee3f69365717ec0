"""The equation's side of a problem that is checked: an ensemble of its paths under one jit, looked at when it has run."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from equations.internal import positive, steps_to_mean

from ._coarse import how_counted, in_windows, unit
from ._control_variate import told_of_anchors
from ._cost import costs
from ._health.auto import check_auto, checked_run, looked_at
from ._increments import told
from ._minibatches import begin_source, told_of_source
from ._paths.before import state_before
from ._paths.keys import path_keys
from ._paths.layout import Layout
from ._paths.path import Path
from ._paths.progress import Ensemble, Fresh
from ._paths.record import Places
from ._paths.strang import Steps
from ._paths.stream_path import StreamPath
from ._problem import Problem
from ._results import trajectory_of
from ._solvers import Method
from ._trajectory import Trajectory


def solve_problem(
    problem: Problem, method: Method, key: Array, substeps: int, auto: bool = False, look: bool = True
) -> Trajectory:
    """`solve` on what is checked already, with `substeps` steps of the solver in a training step, or as many as are found
    to be enough (`auto`); `look`: whether its steps are looked at."""
    if Steps(method.solver).on_batches:
        begin_source(problem, "minibatch")
    apart = problem.apart(problem.random)
    paths, layout = (problem.paths, problem.layout) if apart else (1, Layout())
    path = path_of(problem, method, substeps, paths)
    if auto:
        check_auto(path, method.solver, method.stepping, problem.dynamic)

    def begin(path):
        return begin_of(problem, method, path, key)

    def run(path):
        path, start = begin(path)
        return _ensemble(path, start, key, method.stepping, paths, problem.before, layout)

    def before(path, index, step):
        path, start = begin(path)
        return state_before(path, start, key, paths, problem.before, jnp.asarray(index), jnp.asarray(step))

    noisy = problem.noise is not None
    if look:
        result, substeps, found = checked_run(
            path, method.solver, method.stepping, (run, before), begin(path)[1], noisy, auto
        )
    else:
        result, found = run(path), ()
    (saves, states), last, progress, owes, one = result
    failed_at = progress.failed_at
    on_batches = Steps(method.solver).on_batches
    unseen = ("health", "not looked at, which would take all examples")
    details = (
        ("solver", repr(method.solver)),
        ("substeps", str(substeps)),
        ("stepsize_controller", repr(method.controller)),
        *told(method.law, method.solver),
        *(method.how if problem.stride == 1 else how_counted(method.how)),
        *costs(problem, method, substeps),
        *layout.rows,
        *told_of_source(problem, on_batches),
        *_sampled(problem),
        *((unseen, *told_of_anchors(problem, method.solver, substeps, progress, one)) if on_batches else found),
    )
    units = {}
    if problem.stream is not None and problem.grid is not None:
        details += (("duration", f"{problem.stream.duration:g}"), ("dt", f"{problem.grid.dt:g}"))
        units["units"] = ("stimuli", "s")
    results = saves, states, last, failed_at
    how = dict(owes=owes, how=steps_of(method, substeps), kind="equation")
    checkpoint = problem.checkpoint(progress, problem.random, key=key, **how)
    return trajectory_of(problem, results, apart, checkpoint, kind="equation", details=details, **units)


def _sampled(problem: Problem) -> tuple[tuple[str, str], ...]:
    """What is said of a drift that is a mean over keys."""
    steps = steps_to_mean(problem.equation, problem.objective, problem.params)
    return () if steps is None else (("draws", str(problem.objective.samples)), ("steps_to_draws", f"{steps:.4g}"))


def steps_of(method: Method, substeps: int) -> tuple[str, ...]:
    """By what steps a run goes, between which half a flow may be owing."""
    return repr(method.solver), str(substeps), *([] if method.law == "gaussian" else [method.law])


def begin_of(problem: Problem, method: Method, path: Path | StreamPath, key: Array) -> tuple[Any, Fresh | Ensemble]:
    """A path and where it begins."""
    if problem.start is None:
        return path, problem.begin(path.begin, key)
    progress, owes = problem.start.progress_as(
        "equation",
        steps_of(method, path.substeps),
        lambda: path.begin(problem.dynamic, key),
        path.dynamics,
        problem.dynamic,
    )
    return dataclasses.replace(path, owes=owes), progress


def path_of(problem: Problem, method: Method, substeps: int, paths: int = 1) -> Path | StreamPath:
    """All that a path of a problem needs but its start and its key, with room for the records of so many paths."""
    stream, grid = problem.stream, problem.grid
    first, steps, places = problem.span(paths)
    if method.controller is not None:
        places = Places(problem.steps // problem.save_every)
    common: dict[str, Any] = dict(
        dynamics=problem.equation,
        signal=problem.signal,
        static=problem.static,
        observe=problem.observe,
        dt=problem.dt if grid is None else positive("dt")(grid.dt),
        solver=method.stepped,
        adjoint=method.adjoint,
        meter=method.meter,
        first=first,
        steps=steps,
        owes=np.zeros((), bool),
        places=places,
        save_every=problem.save_every,
        substeps=substeps * Steps(method.solver).per_step if grid is None else grid.stimulus,
        keep_states=problem.keep_states,
    )
    if stream is None or grid is None:
        first = unit(problem)
        opening = None if first is None else path_of(first, method, 1, paths)
        how: dict[str, Any] = dict(stride=problem.stride, windows=in_windows(problem), opening=opening)
        return Path(**common, **how, law=method.law)
    return StreamPath(**common, stream=stream, delay=grid.delay)


@eqx.filter_jit
def _ensemble(path, begin, key, controller, paths, ahead, layout):
    def run(key, progress):
        return path(progress, key) if controller is None else path.adaptive(progress, controller)

    saves, progress, owes = begin.each(run, path.begin, path_keys(key, paths, ahead), layout)
    index = looked_at(progress.failed_at, progress.peak)
    one = jax.tree.map(lambda leaf: leaf[index], progress.recorded)
    return saves, jax.vmap(path.dynamics.params)(progress.recorded), progress, owes[0], one

"""`solve` by a solver of Diffrax's own."""

import dataclasses
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from equations.internal import is_stratonovich

from .._arguments.hooks import check_hooks
from .._arguments.partly import wholly
from .._health.failed import tell_start
from .._paths.keys import path_keys
from .._paths.progress import Ensemble, Fresh
from .._paths.record import Places
from .._problem import Problem
from .._results import trajectory_of
from .._solvers import check_adjoint, default_adjoint, differentiable
from .._trajectory import Trajectory
from .chosen import smallest_step
from .pairing import Pairing
from .path import PassedPath


def solve_passed(
    problem: Problem, solver: Any, controller: Any, adjoint: Any, meter: Any, key: Array, substeps: int
) -> Trajectory:
    """`solve` for a pairing of Diffrax's, all else checked.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    check_adjoint(adjoint, controller, meter)
    if isinstance(adjoint, dfx.BacksolveAdjoint):
        raise ValueError(
            "Argument `adjoint` must not be a BacksolveAdjoint for an equation with noise under a solver of Diffrax's, but "
            f"{adjoint!r} was given."
        )
    pairing = Pairing.of(problem, solver, controller)
    check_hooks(pairing.dynamics, problem.signal, problem.dynamic, ("drift", "diffusion"))
    if adjoint is None and (problem.traced or controller is not None):
        adjoint = default_adjoint(problem.noise)
    first, steps, places = problem.span(problem.paths)
    path = PassedPath(
        dynamics=pairing.dynamics,
        signal=problem.signal,
        static=problem.static,
        observe=problem.observe,
        dt=problem.dt,
        solver=differentiable(pairing.solver, adjoint),
        adjoint=adjoint,
        meter=meter or dfx.NoProgressMeter(),
        first=first,
        steps=steps,
        owes=np.zeros((), bool),
        places=places if controller is None else Places(problem.steps // problem.save_every),
        save_every=problem.save_every,
        substeps=substeps,
        keep_states=problem.keep_states,
        additive=pairing.additive,
        steady=pairing.steady,
        langevin=pairing.langevin,
        levy_area=pairing.levy_area,
        counts=pairing.counts,
    )
    how = repr(pairing.solver), f"Diffrax's own steps, {substeps if controller is None else 'chosen'}"
    begin = _begin(problem, path, key, how, controller is not None)
    saves, last, progress = _ensemble(path, begin, key, controller, problem.paths, problem.before, problem.layout)
    if problem.start is None:
        tell_start(pairing.dynamics, problem.signal, problem.dynamic, progress.failed_at, unsplit=True)
    checkpoint = problem.checkpoint(progress, True, key=key, owes=path.owes, how=how, kind="equation")
    result = trajectory_of(
        problem,
        (*saves, last, progress.failed_at),
        True,
        None if isinstance(controller, dfx.StepTo) else checkpoint,
        kind="equation",
        details=(*_details(pairing, substeps), *problem.layout.rows),
    )
    return dataclasses.replace(result, equation=wholly(problem.given)) if is_stratonovich(problem.given) else result


def _begin(problem: Problem, path: PassedPath, key: Array, how: tuple[str, ...], chosen: bool) -> Fresh | Ensemble:
    """Where the paths begin; `chosen`: by steps that a controller chooses."""
    fresh = path.begin_adaptive if chosen else path.begin
    if problem.start is None:
        return problem.begin(fresh, key)
    begin, _ = problem.start.progress_as(
        "equation",
        how,
        lambda: fresh(problem.dynamic, key),
        problem.equation,
        problem.dynamic,
        restart=None if chosen else path.running,
    )
    return begin


def check_not_auto(auto: bool) -> None:
    """Raises a ValueError for `substeps="auto"`, which goes by checks that these solvers have not."""
    if auto:
        raise ValueError(
            "Argument `substeps` must be an integer for an equation with noise under a solver of Diffrax's, whose steps "
            "are not looked at, but 'auto' was given."
        )


@eqx.filter_jit
def _ensemble(path, begin, key, controller, paths, ahead, layout):
    def run(key, progress):
        if controller is not None:
            return path.adaptive(progress, key, controller)
        return path(path.renewed(progress) if begin.resumed else progress, key)

    fresh = path.begin if controller is None else path.begin_adaptive
    saves, progress = begin.each(run, fresh, path_keys(key, paths, ahead), layout)
    return saves, jax.vmap(path.dynamics.params)(progress.recorded), progress


def _details(pairing: Pairing, substeps: int) -> tuple[tuple[str, str], ...]:
    if pairing.controller is not None:
        least = smallest_step(pairing.controller)
        brownian = f"diffrax.VirtualBrownianTree, steps of {least:g} training steps or more"
    elif pairing.levy_area is dfx.BrownianIncrement:
        brownian = "the increments of the default solver"
    else:
        brownian = "diffrax.UnsafeBrownianPath"
    return (
        ("solver", repr(pairing.solver)),
        ("substeps", str(substeps)),
        ("stepsize_controller", repr(pairing.controller)),
        *((("counts", "held within a training step"),) if pairing.counts else ()),
        ("interpretation", "either, the noise is additive" if pairing.additive else pairing.dynamics.interpretation),
        ("brownian_motion", f"{brownian}, {pairing.levy_area.__name__}"),
        ("health", "not looked at: its checks are those of Strang() and diffrax.Euler()"),
    )

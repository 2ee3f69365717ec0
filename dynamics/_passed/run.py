"""`solve` by a solver of Diffrax's own."""

import dataclasses
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
from jaxtyping import Array

from equations.internal import is_stratonovich

from .._arguments.hooks import check_hooks
from .._health.failed import tell_start
from .._paths.keys import path_keys
from .._problem import Problem
from .._results import trajectory_of
from .._solvers import check_adjoint, default_adjoint, differentiable
from .._trajectory import Trajectory
from .pairing import Pairing
from .path import PassedPath, smallest_step


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
    path = PassedPath(
        dynamics=pairing.dynamics,
        signal=problem.signal,
        static=problem.static,
        observe=problem.observe,
        dt=problem.dt,
        solver=differentiable(pairing.solver, adjoint),
        adjoint=adjoint,
        meter=meter or dfx.NoProgressMeter(),
        steps=problem.steps,
        save_every=problem.save_every,
        substeps=substeps,
        keep_states=problem.keep_states,
        additive=pairing.additive,
        steady=pairing.steady,
        langevin=pairing.langevin,
        levy_area=pairing.levy_area,
        counts=pairing.counts,
    )
    (saves, states), last, failed_at = _ensemble(
        path, problem.guarded, key, controller, problem.paths, problem.before, problem.layout
    )
    tell_start(pairing.dynamics, problem.signal, problem.dynamic, failed_at, unsplit=True)
    result = trajectory_of(
        problem,
        (saves, states, last, failed_at),
        True,
        None,
        kind="equation",
        details=(*_details(pairing, substeps), *problem.layout.rows),
    )
    return dataclasses.replace(result, equation=problem.given) if is_stratonovich(problem.given) else result


def check_begins(problem: Problem, how: str) -> None:
    """Raises a ValueError unless all paths of a run begin with the same parameters."""
    for name, value in (("start", problem.start), ("per_path", problem.spread)):
        if value is not None:
            raise ValueError(f"Argument `{name}` must be left out with {how}, whose runs begin with `params`.")


def check_not_auto(auto: bool) -> None:
    """Raises a ValueError for `substeps="auto"`, which goes by checks that these solvers have not."""
    if auto:
        raise ValueError(
            "Argument `substeps` must be an integer for an equation with noise under a solver of Diffrax's, whose steps "
            "are not looked at, but 'auto' was given."
        )


@eqx.filter_jit
def _ensemble(path, params, key, controller, paths, ahead, layout):
    def run(key):
        return path(params, key) if controller is None else path.adaptive(params, key, controller)

    saves, states, failed_at, _ = layout.each_path(run, path_keys(key, paths, ahead))
    return saves, jax.vmap(path.dynamics.params)(states), failed_at


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

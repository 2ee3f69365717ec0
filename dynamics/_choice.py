"""Which steps a noisy equation takes where no solver is asked for: the cheapest that are known to resolve it."""

import dataclasses
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax

from equations import GradientSplitting
from equations.internal import definer, is_contract, split

from ._noise import is_additive
from ._paths.fused import Fused
from ._paths.held import counted
from ._paths.strang import Steps, Strang
from ._problem import Problem


def chosen(problem: Problem, given: Any, solver: Any) -> Any:
    """The steps of a noisy equation: as given, with what is left open; by default these.

    | equation | default | gradients | error |
    |---|---|---|---|
    | noise free of the state | `Strang(Heun(), kicks=1)` | 2 and the kick | .04 |
    | affine in the gradient, without a memory | `Fused()` | 3 | .11 |
    | leapfrog: momentum, Adam | `Strang()` | 1 | |
    | at the edge of stability: `RodFlow` | `Strang(Heun(), kicks=1)` | 4, in each of 4 substeps | |
    | all else: other memories, schedules, rules that are not affine, one's own kick | `Strang()` | 5 and more | .12 |

    The error is that in the covariance over the model's, for eta*lambda <= .25 and batches of 1, 4 and 16: the worst of
    eight linear regressions and 24 times by exact moments (of `Strang()` for SGD), for additive noise in closed form, where
    that in the mean is the larger one, .15.
    Heun's flow with one kick, of three gradients, has .63 there, 1.04 at B = 1; with two kicks 1.17; the FHK schemes of two
    and three gradients have .57 to 1.9. A dynamics without a discrete twin has no model error to compare with: the rule is
    then that the steps are of second order for mean and covariance, at the fewest evaluations of its drift.
    """
    if given is None:
        if _is_free(problem) or split(problem.equation).alternating is not None:  # whose noise is that of rounding
            return Strang(dfx.Heun(), kicks=1)
        return Fused() if obstacle(problem) is None else solver
    if Steps(solver).fused:
        words = obstacle(problem)
        if words is not None:
            wanted = f"Strang(), diffrax.Euler() or None for {type(problem.equation).__name__}"
            raise ValueError(f"Argument `solver` must be {wanted}, {words}, but {solver!r} was given.")
    if Steps(solver).split and solver.kicks is None and _is_free(problem):
        return dataclasses.replace(solver, kicks=1)
    return solver


def _is_free(problem: Problem) -> bool:
    """Whether the noise does not depend on the state, so that no kick changes the next one."""
    kick = definer(type(split(problem.equation)), "kick")
    # A kick of one's own need not be of the diffusion.
    return is_contract(kick) and is_additive(problem.equation, problem.signal, problem.dynamic, problem.dt)


def draws_normals(problem: Problem) -> bool:
    """Whether what a kick draws are the normals of the noise, in which it is linear, and not what keys are made of."""
    equation, batches = problem.equation, problem.equation.batches(problem.signal)
    model, params = equation.gradient_noise, equation.params(equation.init(problem.dynamic))
    return eqx.tree_equal(model.kicked(batches, params), model.structure(batches, params)) is True


def obstacle(problem: Problem) -> str | None:
    """Why an equation cannot go by `Fused` steps; None if it can."""
    equation, signal, params = problem.equation, problem.signal, problem.dynamic
    splitting, state = split(equation), equation.init(params)
    if type(splitting) is not GradientSplitting or splitting.leapfrog:
        return "whose steps are split in a way of their own"
    if jax.tree.structure(state) != jax.tree.structure(params):
        return "which has a memory"
    if not equation.is_affine(state):
        return "whose velocity is not affine in the gradient"
    if not draws_normals(problem):
        return "whose kicks draw keys"
    if counted(equation, signal, params):
        return "which counts its steps"
    return None

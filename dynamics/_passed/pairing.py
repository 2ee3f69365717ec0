"""Which of Diffrax's solvers integrates which stochastic differential equation, and why not another one."""

import dataclasses
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from equations.internal import abstract_value, check_derivatives, is_stratonovich, is_traced

from .._noise import commutes, is_additive, is_steady
from .._paths.held import counted
from .._paths.strang import Steps
from .._problem import Problem
from . import langevin
from .brownian import innermost, levy_area_of

_DEFAULTS = "Strang(), diffrax.Euler() or None"


@dataclasses.dataclass(frozen=True)
class Pairing:
    """An equation with a solver that integrates it.

    **Attributes:**

    - `dynamics`: in the interpretation of the solver.
    - `additive`, `steady`: of its noise, see `NoiseTerm`; `langevin`: whether the solver takes Diffrax's Langevin terms.
    - `levy_area`: what the solver sees of a Brownian path; `counts`: whether the dynamics counts training steps.
    """

    dynamics: Any
    solver: dfx.AbstractSolver
    controller: dfx.AbstractStepSizeController | None
    additive: bool
    steady: bool
    langevin: bool
    levy_area: Any
    counts: bool

    @classmethod
    def of(cls, problem: Problem, solver: Any, controller: Any) -> "Pairing":
        """The pairing of a problem with noise and what the user gave.

        **Raises:** ValueError before any compilation, naming the argument and the reason.
        """
        ito, signal, params, dt = problem.equation, problem.signal, problem.dynamic, problem.dt
        if abstract_value(_diffusion_is_none, ito, signal, params) is None:
            raise ValueError(
                f"Argument `solver` must be {_DEFAULTS} for {type(ito).__name__}, whose noise is told by its splitting and "
                f"not by its `diffusion`, but {solver!r} was given."
            )
        additive = is_additive(ito, signal, params, dt)
        given = problem.given if is_stratonovich(problem.given) else None
        if solver is None:
            solver = _default(additive, given, controller)
        is_langevin = isinstance(innermost(solver), dfx.AbstractFosterLangevinSRK)
        dynamics = ito if given is None or isinstance(innermost(solver), dfx.AbstractItoSolver) else given
        counts = counted(ito, signal, params)
        if is_langevin:
            _check_langevin(problem, solver, counts)
        else:
            _check(problem, solver, additive, given)
        if controller is None and isinstance(solver, dfx.HalfSolver):
            raise ValueError(
                "Argument `solver` must not be a HalfSolver, whose error estimates nobody reads, where no "
                f"`stepsize_controller` is given, but {solver!r} was given."
            )
        if controller is not None:
            _check_controller(solver, controller, problem)
        if controller is not None and counts:
            raise ValueError(
                "Argument `stepsize_controller` must be None for an equation with noise that counts its training steps, as "
                f"under a schedule, but {controller!r} was given."
            )
        milstein = isinstance(innermost(solver), dfx.ItoMilstein | dfx.StratonovichMilstein) and not additive
        if milstein and problem.has_examples:
            check_derivatives(problem.objective, problem.params, "the Milstein term")
        elif dynamics is not ito:
            dynamics.check(problem.params, problem.objective)
        return cls(
            dynamics=dynamics,
            solver=solver,
            controller=controller,
            additive=additive,
            steady=additive and is_steady(ito.held(jnp.zeros((), jnp.int32)), signal, params),
            langevin=is_langevin,
            levy_area=levy_area_of(solver),
            counts=counts,
        )


def is_passed(problem: Problem, solver: Any, controller: Any) -> bool:
    """Whether a solver, or the default under a controller, is one of Diffrax's own for an equation with noise."""
    if problem.stream is not None or problem.noise is None:
        return False
    if solver is None:
        chooses = isinstance(controller, dfx.AbstractStepSizeController)
        return chooses and not isinstance(controller, dfx.ConstantStepSize)
    ours = Steps(solver).apart or Steps(solver).on_batches or type(solver) is dfx.Euler
    return isinstance(solver, dfx.AbstractSolver) and not ours


def _diffusion_is_none(dynamics, signal, params):
    """A structure where there is a diffusion."""
    state = dynamics.init(params)
    operator = dynamics.diffusion(_zero(state), state, signal)
    return None if operator is None else state


def _zero(state) -> Array:
    return jnp.zeros((), jnp.result_type(*jax.tree.leaves(state)))


def _default(additive: bool, given: Any, controller: Any) -> dfx.AbstractSolver:
    if additive:
        return dfx.ShARK()
    if given is not None:
        return dfx.SPaRK()
    raise ValueError(
        "Argument `stepsize_controller` must be None for an equation with noise that is neither additive nor in the "
        f"Stratonovich form (`equations.stratonovich`), but {controller!r} was given."
    )


def _check(problem: Problem, solver: Any, additive: bool, given: Any) -> None:
    """Raises unless the solver converges to this equation."""
    name = type(problem.equation if given is None else given).__name__
    steps = innermost(solver)
    if not isinstance(steps, dfx.AbstractItoSolver | dfx.AbstractStratonovichSolver):
        raise _refusal(
            solver, f"Diffrax marks it as converging neither to the Itô nor to the Stratonovich solution of {name}"
        )
    if additive:
        return
    if isinstance(steps, dfx.AbstractSRK) and steps.tableau.is_additive_noise():
        raise _refusal(
            solver,
            f"it is one for additive noise, and that of {name} depends on the state, where Itô and Stratonovich differ, as "
            "far as its jaxpr tells (`interpretation = 'additive'` in its class says otherwise)",
        )
    if isinstance(steps, dfx.AbstractStratonovichSolver) and given is None:
        raise _refusal(
            solver,
            f"it converges to the Stratonovich solution, and {name} is read in the Itô sense: give "
            "`equations.stratonovich(equation)`, the same equation in the other form, or say by `interpretation = "
            "'stratonovich'` in its class that drift and diffusion are in it",
        )
    if isinstance(steps, dfx.ItoMilstein | dfx.StratonovichMilstein):
        dynamics = problem.equation
        if commutes(dynamics, problem.signal, problem.dynamic, problem.dt) is False:
            raise _refusal(
                solver,
                "it needs noise that commutes, such as noise of which every coordinate depends on that coordinate only, in "
                f"the Itô sense as in the Stratonovich sense, and that of {name} does not",
            )


def _check_langevin(problem: Problem, solver: Any, counts: bool) -> None:
    name = type(problem.given).__name__
    if counts:
        raise _refusal(solver, f"its friction and temperature are constants, and {name} counts its training steps")
    found = langevin.obstacle(problem.equation, problem.signal, problem.dynamic, problem.dt)
    if found is not None:
        raise _refusal(solver, f"it is one for underdamped Langevin equations, {found}, and {name} is none")


def _refusal(solver: Any, reason: str) -> ValueError:
    return ValueError(
        f"Argument `solver` must be {_DEFAULTS} for this equation with noise, or one of Diffrax's that converges to it, "
        f"but {solver!r} was given: {reason}."
    )


def _check_controller(solver: Any, controller: Any, problem: Problem) -> None:
    """Raises unless the steps of a controller suit a solver and meet the records."""
    if isinstance(controller, dfx.ConstantStepSize) or isinstance(innermost(solver), dfx.Euler):
        raise ValueError(
            f"Argument `stepsize_controller` must be None for an equation with noise under {solver!r}, which may converge "
            f"to something else where steps depend on the noise, but {controller!r} was given."
        )
    if not isinstance(controller, dfx.AbstractStepSizeController):
        raise TypeError(
            "Argument `stepsize_controller` must be a diffrax.AbstractStepSizeController or None, but "
            f"{controller!r} was given."
        )
    if isinstance(controller, dfx.StepTo):
        ts = controller.ts
        records = np.arange(0, problem.steps + 1, problem.save_every)
        if not is_traced(ts) and not np.all(np.isin(records, np.asarray(ts))):
            raise ValueError(
                "Argument `stepsize_controller` must step to all records, in training steps from 0 to `steps`, but "
                f"{controller!r} was given."
            )
    elif not isinstance(controller, dfx.AbstractAdaptiveStepSizeController):
        raise TypeError(
            "Argument `stepsize_controller` must be adaptive, such as diffrax.PIDController, or diffrax.StepTo for an "
            f"equation with noise, but {controller!r} was given."
        )
    elif not has_error_estimate(solver):
        raise ValueError(
            "Argument `solver` must have an error estimate for `stepsize_controller`, as diffrax.HalfSolver gives one, but "
            f"{solver!r} was given."
        )


def has_error_estimate(solver: Any) -> bool:
    """Whether a solver estimates the error of a step."""
    if isinstance(solver, dfx.HalfSolver | dfx.ReversibleHeun | dfx.ALIGN):
        return True
    if isinstance(solver, dfx.AbstractSRK | dfx.AbstractERK):
        tableau: Any = solver.tableau
        return tableau.b_error is not None
    return isinstance(solver, dfx.AbstractAdaptiveSolver)

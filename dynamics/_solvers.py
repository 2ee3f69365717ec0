"""The solvers that fit a problem: what is refused, what is taken where none is given, and what is known of them."""

import dataclasses
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
from jaxtyping import PyTree

from equations import AbstractEquation
from equations.internal import (
    abstract_value,
    check_agreement,
    is_parameter,
    split,
    zeros_of,
)

from ._arguments.hooks import check_hooks
from ._choice import chosen
from ._increments import law_of
from ._minibatches import check_svag
from ._paths.brownian import block_rows
from ._paths.held import read
from ._paths.jumps import warn_of_jumps
from ._paths.strang import Steps, Strang
from ._problem import Problem


@dataclasses.dataclass(frozen=True)
class Method:
    """How a problem is integrated, checked.

    **Attributes:**

    - `solver`, `controller`: as given, or what stands in for None.
    - `stepped`, `stepping`: the same as a path takes them, which read what the dynamics counts as they should; `how` says
        this in words.
    - `law`: of the numbers that noise is drawn from.
    - `adjoint`, `meter`: of Diffrax; `adjoint` is None for a run at fixed steps that nothing can differentiate.
    """

    solver: dfx.AbstractSolver
    controller: dfx.AbstractStepSizeController | None
    stepped: dfx.AbstractSolver
    stepping: dfx.AbstractStepSizeController | None
    how: tuple[tuple[str, str], ...]
    adjoint: dfx.AbstractAdjoint | None
    meter: dfx.AbstractProgressMeter
    law: str = "gaussian"

    @property
    def silent(self) -> bool:
        """Whether nobody is told how far a run is."""
        return isinstance(self.meter, dfx.NoProgressMeter)

    @classmethod
    def of(
        cls,
        problem: Problem,
        solver: Any = None,
        controller=None,
        adjoint=None,
        meter=None,
        substeps: int = 1,
        increments: str | None = None,
        moments: bool = False,
    ) -> "Method":
        """The method for a problem with a schedule, from what the user gave.

        **Arguments:** `moments`, whether means and variances over paths are all that is kept of it.

        **Raises:** TypeError or ValueError before any compilation, naming the argument. Warns of jumps that are not held.
        """
        equation, signal, dynamic, noisy = problem.equation, problem.signal, problem.dynamic, problem.noise is not None
        if Steps(solver).on_batches:
            check_svag(problem, solver, controller)
        elif problem.stream is None:
            given, solver = solver, check_solver(wanted(equation, solver, controller), controller, problem.random)
            solver = chosen(problem, given, solver) if noisy else solver
        else:
            solver = check_stream_solver(solver, controller, noisy)
        check_adjoint(adjoint, controller, meter)
        if isinstance(solver, dfx.Euler) and substeps > 1:
            _check_euler(problem, substeps)
        check_hooks(equation, signal, dynamic, Steps(solver).hooks(noisy))
        check_agreement(equation, signal, dynamic, problem.dt)
        if adjoint is None and (problem.traced or controller is not None):
            adjoint = default_adjoint(problem.noise)
        stepped, stepping, how = solver, None, ()
        if problem.stream is None:
            last = problem.first + problem.steps
            if controller is None:  # which meets a jump by short steps
                warn_of_jumps(equation, signal, dynamic, last, problem.dt)
            stepped, stepping, how = read(equation, signal, dynamic, last, solver, controller, adjoint)
        stepped = differentiable(stepped, adjoint)
        return cls(
            solver=solver,
            controller=controller,
            stepped=stepped,
            stepping=stepping,
            how=how,
            adjoint=adjoint,
            meter=meter or dfx.NoProgressMeter(),
            law=law_of(problem, solver, increments, moments),
        )


def wanted(equation: Any, solver: Any, controller: Any = None) -> Any:
    """The solver that was asked for, by the user or where he asks for none by the equation; None: neither does."""
    by_itself = solver is None and controller is None and split(equation).first_order
    return dfx.Euler() if by_itself else solver


def check_solver(solver, controller, random: bool) -> dfx.AbstractSolver:
    """The solver and the controller that a user gave, checked; the default where that is None."""
    if Steps(solver).on_batches and controller is None:  # which `check_svag` sees to
        return solver
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
                "Argument `stepsize_controller` must be None for an equation with noise under Strang() or diffrax.Euler(), "
                f"but {controller!r} was given."
            )
        if isinstance(solver, dfx.Euler) or Steps(solver).apart:
            raise ValueError(
                f"Argument `solver` must have an error estimate for `stepsize_controller`, but {solver!r} was given."
            )
    splits = Steps(solver).apart
    if random and not (splits or isinstance(solver, None | dfx.Euler)):
        raise ValueError(
            "Argument `solver` must be Strang(), diffrax.Euler() or None for an equation with noise, but "
            f"{solver!r} was given. The noise is multiplicative, does not commute and is read in the Itô sense, which no "
            "other Diffrax solver integrates; a Stratonovich solver would solve another equation."
        )
    explicit = splits or isinstance(solver, None | dfx.AbstractERK | dfx.Euler)
    if not explicit and (controller is None or isinstance(solver, dfx.SemiImplicitEuler)):
        raise ValueError(
            "Argument `solver` must be an explicit Runge-Kutta method of Diffrax or None where no "
            f"`stepsize_controller` is given, but {solver!r} was given."
        )
    if solver is None:
        return Strang() if random else dfx.Tsit5()
    return solver


def check_stream_solver(solver, controller, noisy: bool) -> dfx.AbstractSolver:
    """The solver under a stream of stimuli, which makes constant steps."""
    if controller is not None:
        raise ValueError(
            f"Argument `stepsize_controller` must be None under a stream of stimuli, but {controller!r} was given."
        )
    solver = check_solver(dfx.Euler() if solver is None else solver, None, False)
    if Steps(solver).apart or (noisy and not isinstance(solver, dfx.Euler)):
        raise ValueError(
            f"Argument `solver` must be diffrax.Euler() under a stream of stimuli with noise, but {solver!r} was given."
        )
    return solver


def check_adjoint(adjoint: Any, controller: Any, meter: Any) -> None:
    """Raises a TypeError or ValueError unless adjoint and progress meter are Diffrax's and of use in a run."""
    for name, value, kind in (
        ("adjoint", adjoint, dfx.AbstractAdjoint),
        ("progress_meter", meter, dfx.AbstractProgressMeter),
    ):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"Argument `{name}` must be a diffrax.{kind.__name__} or None, but {value!r} was given.")
    if isinstance(adjoint, dfx.ImplicitAdjoint):
        raise ValueError(
            f"Argument `adjoint` must differentiate a whole path, not its steady state, but {adjoint!r} was given."
        )
    if isinstance(adjoint, dfx.BacksolveAdjoint) and controller is not None:
        raise ValueError(
            "Argument `adjoint` must keep records between steps where a `stepsize_controller` chooses them, but "
            f"{adjoint!r} was given."
        )


def _check_euler(problem: Problem, substeps: int) -> None:
    """Raises where Euler's step cannot be divided, as that of a nonlinear rule."""
    equation, signal, dt = problem.equation, problem.signal, problem.dt
    structure = abstract_value(_normals, equation, signal, problem.dynamic, substeps)
    eqx.filter_eval_shape(
        lambda y, n: split(equation).euler(dt, equation.init(y), signal, n, dt / substeps), problem.dynamic, structure
    )


def _normals(equation, signal, dynamic, kicks_per_step):
    structure = split(equation).noise(equation.init(dynamic), signal, kicks_per_step)
    return zeros_of(structure)


def default_adjoint(noise: PyTree[jax.ShapeDtypeStruct] | None) -> dfx.AbstractAdjoint:
    """One for reverse-mode differentiation.

    XLA's loops with a condition cost 3 % more than those of a known length, which DirectAdjoint makes (a network on
    digits); where a step is cheap, the branches in them cost more than that.
    """
    cheap = noise is None or block_rows(noise) > 1
    return dfx.RecursiveCheckpointAdjoint() if cheap else dfx.DirectAdjoint()


def differentiable(solver: dfx.AbstractSolver, adjoint: dfx.AbstractAdjoint | None) -> dfx.AbstractSolver:
    """The solver with the kind of loop over Runge-Kutta stages that an adjoint with forward mode needs, or none at all.

    Diffrax sees to this itself, but not in a solver inside another one.
    """
    kind = {type(None): "lax", dfx.ForwardMode: "lax", dfx.DirectAdjoint: "bounded"}.get(type(adjoint))
    if kind is None:
        return solver

    def is_open(node):
        return getattr(node, "scan_kind", kind) is None

    def close(node):
        return dataclasses.replace(node, scan_kind=kind) if is_open(node) else node

    return jax.tree.map(close, solver, is_leaf=is_open)


def weak_order(equation: AbstractEquation, params: PyTree, solver: dfx.AbstractSolver | None) -> int:
    """The order in its step with which the means of a solver (None: the default) converge on this equation.

    **Raises:** TypeError or ValueError for a solver that cannot be refined on it.
    """
    checked: Any = check_solver(wanted(equation, solver), None, equation.random)
    if Steps(checked).on_batches:
        return checked.order(None)
    if not equation.random:
        return checked.order(None)
    affine = equation.is_affine(equation.init(eqx.filter(params, is_parameter)))
    if isinstance(checked, dfx.Euler):
        if not affine:
            raise ValueError(
                f"Argument `solver` must be Strang() or None for {type(equation).__name__}, whose velocity is not affine "
                f"in the gradient, so that Euler's step cannot be refined, but {checked!r} was given."
            )
        return 1
    if Steps(checked).fused:
        return checked.order(None)
    if Steps(checked).kicks(equation) < split(equation).kicks or not (affine or split(equation).leapfrog):
        return 1
    return checked.order(None)

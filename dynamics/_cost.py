"""What a training step of an equation costs, in gradients of single examples, against that of its algorithm."""

import dataclasses
import math
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp

from equations import AbstractEquation
from equations.internal import abstract_value, split, warn

from ._minibatches import obstacle
from ._paths.strang import Steps
from ._problem import Problem

_RATIO = 100  # training steps of the algorithm
_MOST = 32  # evaluations in a step of any solver
_MUCH = 1e12  # gradients of single examples, each times the parameters: about a minute of two cores


@dataclasses.dataclass(frozen=True)
class Cost:
    """Gradients of single examples in so many training steps, of the solver and of the algorithm."""

    solver: int | float
    algorithm: int | float
    steps: int | float = 1

    @property
    def ratio(self) -> float:
        """Training steps of the algorithm that one of the equation takes the gradients of."""
        return self.solver / self.algorithm

    @property
    def row(self) -> tuple[str, str]:
        """For the details of a trajectory."""
        span = "a training step" if self.steps == 1 else f"in {self.steps:.4g} training steps"
        examples = f"those of {self.solver:,.0f} examples {span}, the algorithm's of {self.algorithm:,.6g}"
        return "gradients", f"{self.ratio:.3g} times the algorithm's: {examples}"


def cost_of(problem: Problem, solver: Any, substeps: int) -> Cost | None:
    """That of a run at fixed steps, the stages of flows counted as if every step had a whole one; None where no algorithm
    is the measure.

    Every evaluation on all data is a gradient of each of its examples, also where a rule asks for several in both.
    """
    equation = problem.equation
    if not (problem.has_examples and equation.series().discrete):
        return None
    signal, steps = problem.signal, Steps(solver)
    own = (equation.batch_size or signal.size) * problem.stride
    if steps.on_batches:
        return Cost(solver.examples(own, signal.size, substeps), own, problem.stride)
    if steps.fused:
        return Cost(substeps * 3 * _all(signal), own, problem.stride)
    kick = abstract_value(_kick, equation, signal, problem.dynamic, substeps * steps.kicks(equation)).shape[0]
    if problem.stride != 1 and problem.random and not equation.is_affine(equation.init(problem.dynamic)):
        kick = 3  # the mean, the mean square and what is drawn
    if steps.split:
        evaluations = (0 if steps.leap(equation) else _stages(steps.flow)) + kick * steps.kicks(equation)
    elif isinstance(solver, dfx.Euler):
        evaluations = 1
    else:
        evaluations = _stages(solver)
    return Cost(substeps * evaluations * _all(signal), own, problem.stride)


def costs(problem: Problem, method: Any, substeps: int) -> tuple[tuple[str, str], ...]:
    """What is said of the gradients that a training step takes by a `Method`, where its steps are fixed."""
    if method.controller is not None:
        return ()
    cost = cost_of(problem, method.solver, substeps // Steps(method.solver).per_step)
    return () if cost is None else (cost.row,)


def _all(signal: Any) -> int:
    """Gradients of single examples in one of all data, where a random loss is averaged over keys."""
    return signal.size * (signal.samples if signal.sampled else 1)


def _stages(solver: Any) -> int:
    """Evaluations of the field in a step; a first stage that is the last one of the step before counts once."""
    if isinstance(solver, dfx.Euler):
        return 1
    return solver.tableau.num_stages - bool(solver.tableau.fsal)


def _kick(equation: AbstractEquation, signal: Any, params: Any, kicks: int):
    """As many numbers as a kick takes gradients of all data."""
    state, splitting = equation.init(params), split(equation)
    noise = splitting.noise(state, signal, kicks)
    if equation.is_affine(state):
        batches = equation.batch_size is not None and equation.sampling != "shuffled"
        return jnp.zeros(int(splitting.leapfrog or batches))
    if noise is None:
        return jnp.zeros(0)
    return jnp.zeros((2 if isinstance(noise, tuple) else 1) + (not splitting.leapfrog))


def warn_of_cost(problem: Problem, solver: Any, substeps: int) -> None:
    """Warns where a training step of the equation takes the gradients of 100 of the algorithm or more, and the whole run
    those of so many examples that it lasts for a minute or longer, and names what is cheaper."""
    if not problem.has_examples:
        return
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(problem.dynamic))
    run = problem.steps * size * (problem.paths if problem.apart(problem.random) else 1)
    if _MOST * substeps * problem.signal.size * problem.signal.samples * run < _MUCH:
        return  # whatever the solver, without a look at what it does
    cost = cost_of(problem, solver, substeps)
    if cost is None or cost.ratio < _RATIO or cost.solver * run < _MUCH:
        return
    if isinstance(solver, dfx.Euler) or not problem.random:
        cheaper = "Fewer examples or larger batches are cheaper."
    else:
        euler = _all(problem.signal) / cost.algorithm
        cheaper = f"`solver=diffrax.Euler()` takes {euler:.3g}, with the moments of a discrete step."
    if obstacle(problem) is None:
        cheaper = "`solver=dynamics.SVAG(4)` takes 8, whatever the number of examples (its errors are in 1/4)."
    warn(
        f"A training step of {type(problem.equation).__name__}'s equation takes the gradients of {cost.solver:,} examples, "
        f"{cost.ratio:.3g} times the {cost.algorithm:,} of the algorithm's. {cheaper}"
    )

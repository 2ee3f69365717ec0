"""Which problems SVAG solves, and why not others."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from equations import AbstractEquation
from equations.internal import abstract_value, source_of, split, users, warn, within

from ._paths.strang import Steps
from ._paths.svag import AbstractOnBatches
from ._problem import Problem

_DEFAULT = "Strang(), diffrax.Euler() or None"
# What a step on a batch does not see.
_UNSEEN = ("drift", "diffusion", "splitting", "gradient")


def check_svag(problem: Problem, solver: AbstractOnBatches, controller: Any) -> None:
    """Raises a ValueError, naming the argument and the reason, unless SVAG converges to the equation of a problem."""
    equation = problem.equation
    if controller is not None:
        raise ValueError(f"Argument `stepsize_controller` must be None for {solver!r}, but {controller!r} was given.")
    if not problem.has_examples:
        raise ValueError(
            f"Argument `objective` must be a mean over examples, such as equations.Objective, for {solver!r}, which draws "
            f"minibatches of them, but {problem.objective!r} was given."
        )
    reason = obstacle(problem) or (of_anchors(problem, solver) if Steps(solver).anchored else None)
    if reason is not None:
        raise ValueError(
            f"Argument `solver` must be {_DEFAULT} for {type(equation).__name__}, {reason}, but {solver!r} was given."
        )


def obstacle(problem: Problem) -> str | None:
    """Why SVAG does not converge to the equation of a problem; None where it does."""
    equation, params = problem.equation, problem.dynamic
    if not equation.series().discrete:
        return "which is not the equation of an algorithm that draws minibatches"
    parts = within(equation)
    own = next((f"{type(p).__name__}.{name}" for p in parts for name in _UNSEEN if users(type(p), name)), None)
    if own is not None:
        return f"whose {own} is not seen by steps along the velocity"
    if equation.series().order > 1 or equation.series().maker == "modified":
        return "whose drift is more than the velocity"
    if abstract_value(_is_affine, equation, params) is None:
        return "whose velocity is not affine in the gradient, so that weighted batches would have another mean"
    if equation.batch_size is None:
        return "whose steps are on the full batch"
    if equation.sampling == "shuffled":
        return "whose batches are shuffled epochs and not independent"
    if not equation.gradient_noise.of_batches:
        return f"whose noise, {equation.gradient_noise!r}, is not that of real batches"
    if equation.gradient_noise.injects and abstract_value(_start, equation, problem.signal, params) is not None:
        return "whose first step is the algorithm's, and which adds noise to its gradient"
    return None


def of_anchors(problem: Problem, solver: Any) -> str | None:
    """Why control variates do not converge to the equation of a problem; None where they do."""
    source, noise = source_of(problem.objective.data), problem.equation.gradient_noise
    if source is not None:
        return f"of examples of {source!r}, of which no full gradient is taken"
    if noise.injects:
        return f"whose noise, {noise!r}, is not that of batches alone"
    if abstract_value(_start, problem.equation, problem.signal, problem.dynamic) is not None:
        return "whose first step is the algorithm's"
    if problem.first % solver.every:
        return f"which goes on from training step {problem.first}, no multiple of `every`"
    return None


def _is_affine(equation: AbstractEquation, params: PyTree):
    return jnp.zeros(()) if equation.is_affine(equation.init(params)) else None


def _start(equation, signal, params):
    return split(equation.held(jnp.zeros((), jnp.int32))).start(equation.init(params), signal, None)


def begin_source(problem: Problem, noise: str) -> None:
    """Before a run on minibatches whose examples may not be held.

    **Raises:** ValueError for a step on all of these.
    """
    source = source_of(problem.objective.data) if problem.has_examples else None
    if source is None:
        return
    if noise == "minibatch" and problem.equation.batch_size is None:
        raise ValueError(
            f"Argument `batch_size` must be given for an algorithm on examples of {source!r}, of which no step sees all, "
            "but None was given."
        )
    if problem.start is None:
        source.restart()


def told_of_source(problem: Problem, batches: bool) -> tuple[tuple[str, str], ...]:
    """What of examples that are not held a run has gone by, for the details."""
    source = source_of(problem.objective.data) if problem.has_examples else None
    if source is None:
        return ()
    return (
        ("data", f"batches of {source!r}" if batches else f"mean and noise of {source.draws} examples of {source!r}"),
    )


def warn_of_sample(problem: Problem, solver: Any) -> None:
    """Warns where an equation goes by a sample of the examples that its algorithm draws from, and both are compared."""
    source = source_of(problem.objective.data) if problem.has_examples else None
    if source is None or Steps(solver).on_batches:
        return
    warn(
        f"Mean and noise of the equation are those of {source.draws} examples of {source!r}, from which the algorithm "
        "draws: what is between the two counts as model error. `solver=dynamics.SVAG(4)` draws as the algorithm does, and "
        "more `draws` are nearer."
    )

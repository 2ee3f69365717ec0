"""Problems whose steps are many training steps."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from equations.internal import is_traced, kicks_long, split, warn

from ._paths.held import NEAR, counted, jumps, of_whole_steps
from ._paths.large_batches import is_large
from ._problem import Problem
from ._times import rates_at

_MISSED = 0.05  # of the integral of the learning rate, from where a warning says so
_LOOKED_AT = 16384  # training steps, spread over the run


def coarse(problem: Problem, number: int) -> Problem:
    """The same with so many steps between two records."""
    stride = problem.save_every / number
    records = problem.steps // problem.save_every
    return dataclasses.replace(
        problem, steps=records * number, save_every=number, dt=stride * problem.dt, stride=stride
    )


def of_large_batches(problem: Problem, solver: Any, substeps: int = 1, halves: bool = False, **others: Any) -> Problem:
    """The same with the steps of a `LargeBatches`; itself for all other solvers. `halves`: whether those
    of half the length must be of their order. `others`: what cannot be had with it, None where left out.

    **Raises:** ValueError, naming the argument.
    """
    if not is_large(solver):
        return problem
    if solver.n is None:
        raise ValueError("Argument `n` must be given for LargeBatches without `solver_error`, but None was given.")
    name = type(problem.equation).__name__
    for argument, value in {"start": problem.start, **others}.items():
        if value is not None:
            raise ValueError(f"Argument `{argument}` must be left out with {solver!r}, but it was given.")
    if problem.save_every % solver.n:
        raise ValueError(
            f"Argument `n` must be a divisor of `save_every`, {problem.save_every}, for LargeBatches, but {solver.n} was "
            "given."
        )
    if halves and (solver.n < 4 or solver.n % 2):
        raise ValueError(
            "Argument `n` must be an even number from 4 on for LargeBatches in `compare`, which takes half of it as well, "
            f"but {solver.n} was given."
        )
    hidden = hindrance(problem) or (f"for {name}, whose first step is the algorithm's" if opens(problem) else None)
    if hidden is not None and solver.n > 1:
        raise ValueError(
            f"Argument `solver` must be Strang(), diffrax.Euler() or None {hidden}, but {solver!r} was given."
        )
    if solver.n % substeps:
        raise ValueError(f"Argument `substeps` must be a divisor of `n` for {solver!r}, but {substeps} was given.")
    if solver.n == 1:
        return problem
    large = coarse(problem, problem.save_every // solver.n)
    missed = missed_by_steps(large)
    if missed > _MISSED:
        warn(
            f"Argument `n` of LargeBatches: the learning rate changes within steps of {solver.n} training steps in ways "
            f"that they do not follow, about {missed:.0%} of its integral: give a smaller `n`."
        )
    return large


def missed_by_steps(problem: Problem) -> float:
    """How much of the integral of a scheduled rate steps of many training steps miss, which read it at both ends and in the
    middle: relative, added up over steps whatever its sign. 0 where that is not known."""
    if problem.stride < 2 or problem.rates is None or is_traced(problem.rates) or problem.traced:
        return 0.0
    stride, count = problem.stride, min(problem.steps, max(1, _LOOKED_AT // math.ceil(problem.stride)))
    fine = 2 * math.ceil(stride)
    places = np.asarray([NEAR, stride / 2, stride - NEAR, *((np.arange(fine) + 0.5) * (stride / fine))])
    first = np.linspace(0, problem.steps - 1, count).astype(int) * stride
    rates = np.asarray(rates_at(problem.equation, jnp.asarray((first + places[:, None]).ravel()))).reshape(-1, count)
    integral = rates[3:].mean(0)
    simpson = (rates[0] + 4 * rates[1] + rates[2]) / 6
    return float(np.sum(np.abs(simpson - integral)) / max(np.sum(integral), np.finfo(float).tiny))


def hindrance(problem: Problem) -> str | None:
    """Why no step is longer than a training step; None if it may be."""
    equation, name = problem.equation, type(problem.equation).__name__
    if problem.stream is not None:
        return "under a stream of stimuli, whose solver makes steps of `dt`"
    affine = not (problem.random and equation.series().discrete) or equation.is_affine(equation.init(problem.dynamic))
    if not (affine or kicks_long(equation, problem.signal, problem.dynamic)):
        return (
            f"for {name}, whose velocity is not affine in the gradient, so that a draw is that of a whole training step"
        )
    if counted(equation, problem.signal, problem.dynamic) or problem.rates is not None:
        reason = _of_counts(problem)
        if reason is not None:
            return f"for {name}, {reason}"
    return None


def opens(problem: Problem) -> bool:
    """Whether the first training step of a dynamics is the algorithm's."""
    equation, start = problem.equation, split(problem.equation).start
    return eqx.filter_eval_shape(lambda y: start(equation.init(y), problem.signal, None), problem.dynamic) is not None


def unit(problem: Problem) -> Problem | None:
    """That of the training steps of the first step, where it cannot be made at once; None where it can."""
    if problem.stride == 1 or not opens(problem):
        return None
    steps = round(problem.stride)
    return dataclasses.replace(
        problem, dt=problem.dt / problem.stride, stride=1, steps=steps, save_every=steps, observe={}
    )


def _of_counts(problem: Problem) -> str | None:
    """Why what is counted cannot be read within steps of many training steps; None if it can."""
    zero = jnp.zeros(())
    try:
        problem.equation.held(zero, zero + 1)
    except ValueError:
        return "of which something that is counted belongs to whole training steps"
    if problem.rates is None:
        return None
    if is_traced(problem.rates):
        return "whose schedule is traced"
    if of_whole_steps(problem.equation, problem.steps):
        return "whose schedule is a function of whole training steps, and another one between them"
    stops = np.asarray(jumps(problem.equation, problem.steps)[0])
    inside = stops[stops % problem.save_every != 0]
    if inside.size == 0:
        return None
    return f"whose learning rate jumps with training step {inside[0]:g}, which is no multiple of `save_every`"


def in_windows(problem: Problem) -> bool:
    """Whether what is counted is read within single steps of many training steps, between which it jumps."""
    if problem.stride == 1 or problem.rates is None:
        return False
    return jumps(problem.equation, round(problem.stride * problem.steps))[0].size > 0


def how_counted(how: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """What is said of counts that are read within steps of many training steps, where there are any."""
    return (("counts", "continuous"),) if how else ()

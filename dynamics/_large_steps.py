"""Steps of many training steps, as long as a solver error that was asked for allows: found by pilot runs."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from equations.internal import positive, unchecked

from ._coarse import coarse, hindrance, missed_by_steps, opens
from ._cost import cost_of
from ._integrate import solve_problem
from ._minibatches import obstacle
from ._passed.pairing import is_passed
from ._paths.large_batches import LargeBatches, is_large
from ._paths.strang import Steps
from ._problem import Problem
from ._solvers import Method, weak_order
from ._trajectory import Trajectory

_PILOTS = 64  # paths of a pilot run
_LONGEST, _SHORTEST = 4096, 1 / 128  # steps in training steps
_EXAMPLES = 4096  # of a large batch: more gain nothing, and take memory


def check_solver_error(given: Any, problem: Problem, solver: Any, **others: Any) -> float | None:
    """The error that is asked for, None for none; `others` say how steps go otherwise, None where left out.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    if given is None:
        return None
    for name, value in {"start": problem.start, **others}.items():
        if value is not None:
            raise ValueError(f"Argument `{name}` must be left out with `solver_error`, but it was given.")
    batches = is_large(solver)
    if is_passed(problem, solver, None) or (Steps(solver).on_batches and not batches):
        raise ValueError(
            "Argument `solver` must be Strang(), Fused(), diffrax.Euler(), LargeBatches() or None with `solver_error`, but "
            f"{solver!r} was given."
        )
    if batches and solver.n is not None:
        raise ValueError(f"Argument `n` must be None with `solver_error`, which finds it, but {solver!r} was given.")
    if problem.traced:
        raise TypeError("Argument `solver_error` must be None under jit, vmap or grad, but a traced run was given.")
    error = float(positive("solver_error")(given))
    reason = hindrance(problem)
    if reason is None and not problem.observe:
        reason = "without `observe`, whose means are what it is the error of"
    if reason is None and batches and opens(problem):
        reason = f"with LargeBatches() for {type(problem.equation).__name__}, whose first step is the algorithm's"
    if reason is None and batches and not _numbers(problem, problem.save_every):
        reason = f"with LargeBatches(), whose steps have halves, where `save_every` is {problem.save_every}"
    if reason is not None:
        raise ValueError(f"Argument `solver_error` must be None {reason}, but {given!r} was given.")
    return error


def _numbers(problem: Problem, longest: float) -> list[int]:
    """How many steps of large batches there may be between two records: the fewest first, of at most `longest` training
    steps each, an even number from 4 on."""
    size, every = problem.equation.batch_size or 1, problem.save_every
    longest = min(longest, _LONGEST, max(4, 2 * _EXAMPLES // size))
    return [every // n for n in range(min(every, int(longest)), 3, -1) if every % n == 0 and n % 2 == 0]


class LargeSteps:
    """The steps of a problem, so many between two records that the error is as asked for.

    The error is that of the means over paths of what is observed, the largest at a record, relative to the largest size of
    this mean at any record. It is measured by Richardson's rule: of steps of order p the difference to those of half the
    length, whose noise adds up to theirs, times 2^p/(2^p - 1), with two standard errors of the difference added.

    Of steps on large batches, which cost the same whatever their length, the halves are taken: their error is at most the
    difference, and a third of it where it is of second order alone.

    Where no solver is given, steps on all examples go first, as long as they take fewer gradients than the algorithm; then
    large batches, at those of the algorithm, where the rule allows; then shorter steps on all examples.
    """

    def __init__(
        self, problem: Problem, method: Method, method_of: Callable[..., Method], key: Array, error: float, **how
    ):
        self.method_of, self.key, self.wanted = method_of, key, error
        enough = problem.spread is not None or problem.paths <= _PILOTS
        self.few = problem if enough else dataclasses.replace(problem, paths=_PILOTS)
        self.pilots = self.few.paths if problem.random else 1
        self.solver: Any = None  # of large batches, where they are taken
        self.pilot: Any = None  # which need not be run again
        self.number, self.error = self._found(problem, method.solver, **how)

    def _found(self, problem: Problem, solver: Any, given: bool) -> tuple[int, float]:
        """How many steps there are between two records, and their error; whether the solver was `given`."""
        if is_large(solver):
            return self._on_batches(problem.save_every) or self._fail(
                problem.save_every / _numbers(problem, math.inf)[-1]
            )
        batches = not given and obstacle(problem) is None and not opens(problem)
        cost = cost_of(problem, solver, 1) if batches else None
        number = max(1, math.ceil(problem.save_every / _LONGEST))
        if cost is not None:  # of steps so long that both take as many gradients
            found, number = self._on_all(problem, solver, number, max(_SHORTEST, cost.ratio))
            found = found or self._on_batches(cost.ratio)
            if found:
                return found
        found, number = self._on_all(problem, solver, number, _SHORTEST)
        return found or self._fail(problem.save_every / number)

    def _fail(self, shortest: float):
        raise ValueError(
            f"Argument `solver_error` must be an error that steps of {shortest:.3g} training steps have, but "
            f"{self.wanted:g} was given, and that is {self.error:.3g}."
        )

    def _on_all(self, problem: Problem, solver: Any, number: int, shortest: float) -> tuple:
        """Number and error of good steps on all examples that are not shorter, or None; and the number to go on with."""
        algorithm = problem.has_examples and problem.equation.series().discrete
        order: Any = weak_order(problem.equation, problem.params, solver) if algorithm else solver.order(None)
        whole = opens(problem)  # the first step is made of training steps
        while problem.save_every / number >= (max(1, shortest) if whole else shortest):
            if whole and problem.save_every % number:
                number += 1
                continue
            share = 2**order / (2**order - 1)
            self.error = error = share * self._difference(coarse(self.few, number), solver)
            if error <= self.wanted:
                return (number, error), number
            # Each pilot is compiled: what the order promises is gone at once, where it may be believed.
            ahead = math.log2(error / self.wanted) / order if error < 1 else 1
            number *= 2 ** max(1, math.floor(ahead))
        return None, number

    def _on_batches(self, longest: float) -> tuple[int, float] | None:
        """The same of steps on large batches; None where none are good."""
        every, numbers = self.few.save_every, _numbers(self.few, longest)
        while numbers:
            number = numbers[0]
            self.solver = LargeBatches(every // number)
            self.error = error = self._difference(coarse(self.few, number), self.solver)
            if error <= self.wanted:
                return number, error
            ahead = math.log2(error / self.wanted) / 2 if error < 1 else 1
            numbers = [more for more in numbers if more >= 2 ** max(1.0, ahead) * number]
        self.solver = self.pilot = None
        return None

    def _difference(self, problem: Problem, solver: Any) -> float:
        """That of means to those by steps of half the length, or of what both miss of a schedule."""
        runs = [self._pilot(problem, substeps, solver) for substeps in (1, 2)]
        self.pilot = runs[1]
        seen = [jax.device_get(run.observables) if bool(run.ok.all()) else None for run in runs]
        return max(_difference(*seen), missed_by_steps(problem))

    def _pilot(self, problem: Problem, substeps: int, solver: Any) -> Trajectory:
        with unchecked():
            return solve_problem(problem, self.method_of(problem, substeps, solver, True), self.key, substeps)

    def __call__(self, problem: Problem) -> Trajectory:
        """The run of a problem, or of a block of its paths."""
        here, substeps = coarse(problem, self.number), 1 if self.solver is None else 2
        with unchecked():  # of which the pilots have been the check
            method = self.method_of(here, substeps, self.solver, False)
            seen = self.solver is not None and problem is self.few and method.silent
            run = self.pilot if seen else solve_problem(here, method, self.key, substeps)
        said = (
            f"{here.stride / substeps:.4g} training steps, of an error of {self.error:.2g} in means (asked for: "
            f"{self.wanted:g}), by pilot runs of {self.pilots} paths"
        )
        return dataclasses.replace(run, details=(*run.details, ("length_of_steps", said)))


def _difference(one: dict | None, other: dict | None) -> float:
    """The largest relative difference of means at a record, with two standard errors added."""
    if one is None or other is None:
        return math.inf
    found = [0.0]
    for name, values in one.items():
        a, b = (np.asarray(x, float).reshape(*x.shape[:2], -1) for x in (values, other[name]))
        size, off = np.max(np.linalg.norm(b.mean(0), axis=-1)), a - b
        errors = np.sqrt(np.sum(off.var(0, ddof=1), -1) / len(off)) if len(off) > 1 else 0.0
        apart = np.max(np.linalg.norm(off.mean(0), axis=-1) + 2 * errors)
        found.append(apart / size if size > 0 else math.inf * apart if apart > 0 else 0.0)
    return float(np.max(found)) if np.all(np.isfinite(found)) else math.inf

"""Steps of many training steps, as long as a solver error that was asked for allows: found by pilot runs."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from equations.internal import positive, split, unchecked

from ._integrate import solve_problem
from ._passed.pairing import is_passed
from ._paths.held import counted
from ._paths.strang import Steps
from ._problem import Problem
from ._solvers import Method, weak_order
from ._trajectory import Trajectory

_PILOTS = 64  # paths of a pilot run
_LONGEST, _SHORTEST = 4096, 1 / 128  # steps in training steps


def check_solver_error(given: Any, problem: Problem, solver: Any, **others: Any) -> float | None:
    """The error that is asked for, None for none; `others` say how steps go otherwise, None where left out.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    if given is None:
        return None
    for name, value in {"start": problem.start, **others}.items():
        if value is not None:
            raise ValueError(f"Argument `{name}` must be left out with `solver_error`, but it was given.")
    if is_passed(problem, solver, None) or Steps(solver).amplified:
        raise ValueError(
            "Argument `solver` must be Strang(), Fused(), diffrax.Euler() or None with `solver_error`, but "
            f"{solver!r} was given."
        )
    if problem.traced:
        raise TypeError("Argument `solver_error` must be None under jit, vmap or grad, but a traced run was given.")
    error = float(positive("solver_error")(given))
    reason = _obstacle(problem)
    if reason is not None:
        raise ValueError(f"Argument `solver_error` must be None {reason}, but {given!r} was given.")
    return error


def _obstacle(problem: Problem) -> str | None:
    """Why no step is longer than a training step; None if it may be."""
    equation, name = problem.equation, type(problem.equation).__name__
    if problem.stream is not None:
        return "under a stream of stimuli, whose solver makes steps of `dt`"
    if not problem.observe:
        return "without `observe`, whose means are what it is the error of"
    if counted(equation, problem.signal, problem.dynamic) or problem.rates is not None:
        return f"for {name}, which counts training steps"
    start = split(equation).start
    if eqx.filter_eval_shape(lambda y: start(equation.init(y), problem.signal, None), problem.dynamic) is not None:
        return f"for {name}, whose first step is the algorithm's"
    return None


class LargeSteps:
    """The steps of a problem, so many between two records that the error is as asked for.

    The error is that of the means over paths of what is observed, the largest at a record, relative to the largest size of
    this mean at any record. It is measured by Richardson's rule: of steps of order p the difference to those of half the
    length, whose noise adds up to theirs, times 2^p/(2^p - 1), with two standard errors of the difference added.
    """

    def __init__(self, problem: Problem, solver: Any, method_of: Callable[..., Method], key: Array, error: float):
        self.method_of, self.key, self.wanted = method_of, key, error
        few = problem if problem.spread is not None else dataclasses.replace(problem, paths=min(problem.paths, _PILOTS))
        self.pilots = few.paths if problem.random else 1
        algorithm = problem.has_examples and problem.equation.series().discrete
        order: Any = weak_order(problem.equation, problem.params, solver) if algorithm else solver.order(None)
        self.order: int = order
        self.number, self.error = self._found(few)

    def _found(self, problem: Problem) -> tuple[int, float]:
        """How many steps there are between two records, and their error."""
        number, share = max(1, math.ceil(problem.save_every / _LONGEST)), 2**self.order / (2**self.order - 1)
        while problem.save_every / number >= _SHORTEST:
            coarse = _coarse(problem, number)
            error = share * _difference(self._pilot(coarse, 1), self._pilot(coarse, 2))
            if error <= self.wanted:
                return number, error
            # Each pilot is compiled: what the order promises is gone at once, where it may be believed.
            ahead = math.log2(error / self.wanted) / self.order if error < 1 else 1
            number *= 2 ** max(1, math.floor(ahead))
        raise ValueError(
            f"Argument `solver_error` must be an error that steps of {_SHORTEST:.3g} training steps have, but "
            f"{self.wanted:g} was given, and that of twice as long ones is {error:.3g}."
        )

    def _pilot(self, coarse: Problem, substeps: int) -> dict | None:
        """What is observed, `(paths, saves, ...)`; None where a path fails."""
        with unchecked():
            run = solve_problem(coarse, self.method_of(coarse, substeps, True), self.key, substeps)
        return jax.device_get(run.observables) if bool(run.ok.all()) else None

    def __call__(self, problem: Problem) -> Trajectory:
        """The run of a problem, or of a block of its paths."""
        coarse = _coarse(problem, self.number)
        with unchecked():  # of which the pilots have been the check
            run = solve_problem(coarse, self.method_of(coarse, 1, False), self.key, 1)
        said = (
            f"{coarse.stride:.4g} training steps, of an error of {self.error:.2g} in means (asked for: {self.wanted:g}), "
            f"by pilot runs of {self.pilots} paths"
        )
        return dataclasses.replace(run, details=(*run.details, ("length_of_steps", said)))


def _coarse(problem: Problem, number: int) -> Problem:
    """The same with so many training steps between two records."""
    stride = problem.save_every / number
    records = problem.steps // problem.save_every
    return dataclasses.replace(
        problem, steps=records * number, save_every=number, dt=stride * problem.dt, stride=stride
    )


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

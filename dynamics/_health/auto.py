"""A run with what is checked of it, and `substeps="auto"`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from equations.internal import integer, silent, split

from .._paths.quotient import Peak
from .course import in_the_course
from .failed import postponed, tell_end, tell_start
from .health import SOUND, Health, harmless, health, is_checked, told
from .memory import HEALTHY, run_of
from .pair import begins_singular, state_at_start
from .stability import MOST


def check_substeps(substeps: Any, equation: Any, maximum: int = MOST) -> tuple[int, bool]:
    """A first number of substeps, for None that of the equation's splitting, and whether the run is to find its own."""
    if substeps is None:
        return split(equation).substeps, False
    if isinstance(substeps, str):
        if substeps != "auto":
            raise TypeError(f"Argument `substeps` must be a positive integer or 'auto', but {substeps!r} was given.")
        return 1, True
    return integer("substeps", substeps, maximum=maximum), False


def check_auto(path, solver, controller, params: PyTree) -> None:
    """Raises a ValueError unless the steps of this run can be checked, so that their number can be found."""
    reason = None
    if path.streamed:
        reason = "under a stream of stimuli, whose solver makes steps of `dt`"
    elif controller is not None:
        reason = "where a `stepsize_controller` chooses the steps"
    elif not is_checked(path, solver, controller):
        reason = "for diffrax.Euler(), whose single step is the discrete algorithm's"
    elif silent((path, params)):
        reason = "under a trace (jit, vmap, grad), where no value can be looked at"
    if reason is not None:
        raise ValueError(f"Argument `substeps` must be an integer {reason}, but 'auto' was given.")


def checked_run(
    path, solver, controller, runs: tuple[Callable, Callable], begin: Any, noisy: bool, auto: bool
) -> tuple[Any, int, tuple]:
    """What `run(path)` returns, its number of substeps and rows for the details, with warnings of what is wrong.

    `begin`: a `Fresh` or an `Ensemble`. `runs`: besides `run` there is `before(path, index, step)`, the state of
    path `index` before a training step. With `auto` steps are divided until they are stable and their noise small, at the
    start (unless the equation is singular there), at the end and where the quotient of stages is largest; where a path
    still fails, for as long as shorter steps put that off, to see whether the solver or the equation is to blame.
    """
    run, before = runs
    if auto and not begins_singular(path, begin):
        start = state_at_start(path, begin)
        path = dataclasses.replace(path, substeps=max(health(path, solver, noisy, begin, start, np.inf).substeps))
    result = run(path)
    told_of = not begin.resumed and tell_start(path.dynamics, path.signal, begin.given, _failed_at(result))
    if silent((result, begin)) or not is_checked(path, solver, controller):
        if controller is not None and not told_of:
            tell_end(path.dynamics, _failed_at(result), None)
        return result, path.substeps, ()
    found = _found(path, solver, noisy, begin, result, before)
    while auto and path.substeps < MOST and (_failures(result) or not found.ok):
        other = dataclasses.replace(path, substeps=_more(found, path.substeps, _failures(result)))
        finer = run(other)
        if found.ok and _failures(finer) and not postponed(_failed_at(result), _failed_at(finer), noisy):
            break  # it is the equation that fails
        path, result, found = other, finer, _found(other, solver, noisy, begin, finer, before)
    rows = told(found, path, solver, _failures(result) > 0)
    if not rows and not told_of:
        tell_end(path.dynamics, _failed_at(result), path.substeps)
    return result, path.substeps, (*rows, ("substeps_chosen", "auto")) if auto else rows


def _more(found: Health, substeps: int, failures: int) -> int:
    """The next number to try: of a path that failed only the start can be relied on."""
    wanted = found.substeps[0] if failures else max(found.substeps)
    return min(MOST, max(wanted, 2 * substeps if failures or wanted == substeps else wanted))


def looked_at(failed_at, peak: Peak):
    """The path to be looked at: one that failed, if any did, else the stiffest."""
    failed = failed_at >= 0
    return jnp.where(jnp.any(failed), jnp.argmax(failed), jnp.argmax(peak.quotient))


def _found(path, solver, noisy, begin, result, before) -> Health:
    progress, state = result[2], result[4]
    failed_at, peak = progress.failed_at, progress.peak
    if _failures(result):
        ends, index = health(path, solver, noisy, begin, state, np.inf), int(looked_at(failed_at, peak))
        there = lambda path, step: before(path, index, step)  # noqa: E731
        found = ends
        if ends.suspect is not None:  # before a step that was taken
            suspect = min(ends.suspect, int(failed_at[index]))
            found = in_the_course(dataclasses.replace(ends, suspect=suspect), path, solver, noisy, 0.0, 0, there)
        if found.ok:  # what grew before may be stable where it has led
            stiffest = float(peak.quotient[index]), int(peak.step[index])
            found = in_the_course(dataclasses.replace(ends, suspect=None), path, solver, noisy, *stiffest, there)
        return found
    peak = jax.tree.map(np.asarray, peak)
    index = int(np.argmax(peak.quotient))
    quotient, step = float(peak.quotient[index]), int(peak.step[index])
    settings = path.dt, path.first, path.steps, path.substeps, solver, noisy, len(failed_at)
    known = run_of(path.dynamics, path.signal, begin, settings)
    if HEALTHY.holds(known, quotient, harmless(path, solver)):
        return SOUND
    found = health(path, solver, noisy, begin, state, quotient)
    found = in_the_course(found, path, solver, noisy, quotient, step, lambda path, step: before(path, index, step))
    if found.ok:
        HEALTHY.add(known, quotient)
    return found


def _failed_at(result):
    return result[2].failed_at


def _failed(result) -> np.ndarray:
    return np.asarray(_failed_at(result)) >= 0


def _failures(result) -> int:
    return int(np.sum(_failed(result)))

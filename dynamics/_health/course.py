"""What is unstable only in the course of a run, though both ends are stable."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from equations.internal import quick_jit

from .._paths.progress import Fresh
from .._paths.strang import Steps
from .health import Health, along_program, growth_of, is_misleading, jacobians, strengths
from .pair import Pair
from .reach import fastest
from .stability import MOST, limit, stiffest

_HALVINGS = 8  # of a step, for where its rate of change turns


def in_the_course(found: Health, path, solver, noisy: bool, quotient: float, step: int, before: Callable) -> Health:
    """What was found at both ends, and with them at one training step between them.

    That is `step`, where the quotient of the stages of a run, or of steps that have none, is the largest, if it is beyond
    the solver's limit though no end shows why. Before that comes the step of the largest learning rate, if there the ends
    would have noise that is not small, or leapfrog steps or Euler's would be unstable. `before(path, step)` is the state,
    by a second run.
    """
    leaping, blind = Steps(solver).leap(path.dynamics), Steps(solver).blind(path.dynamics)
    growth = growth_of(path, solver)
    if not found.ok:
        return found
    stiff = blind or quotient > limit(growth)
    if found.suspect is not None:
        step = found.suspect
    elif not quotient > limit(growth):
        return found
    elif blind:
        step = max(step - 1, 1)  # where the move began that the next one outdid
    count = jnp.asarray(step - 1, jnp.int32)
    one = _there(path, count, before(path, step))
    state = jax.tree.map(lambda leaf: leaf[0], one.states)
    stiffness, substeps, pace = 0.0, 1, 0.0
    if stiff:
        how = Steps(solver).apart, leaping, is_misleading(path, Fresh(path.dynamics.params(state)))
        steps = int(path.steps) * path.substeps
        table = jacobians(one, *how)[0]
        stiffness, substeps = stiffest(table, float(one.dt), growth, steps, leaping)
        pace = float(one.dt) * fastest(table)
        if not stiffness and quotient > limit(growth):  # steep in between, where a step leaps over a narrow valley
            table = jacobians(_halfway(one, *how), *how)[0]
            stiffness, substeps = stiffest(table, float(one.dt), growth, steps, leaping)
    strength, softer = strengths(path, solver, noisy and not stiffness, state, pace, lambda: one)
    return Health(
        (*found.stiffness, stiffness),
        (*found.strength, strength[-1]),
        (*found.substeps, min(MOST, path.substeps * max(substeps, softer[-1]))),
        step,
    )


@quick_jit(level=0)
def _there(path, count, state) -> Pair:
    """The same of one place alone, where what is counted is that of a training step."""
    time = (count.astype(jax.tree.leaves(state)[0].dtype) * path.dt)[None]
    states = jax.tree.map(lambda leaf: leaf[None], state)
    return Pair(path.dynamics.held(count), path.signal, time, states, path.dt / path.substeps)


def _halfway(pair: Pair, *how: bool) -> Pair:
    """A pair of one place, moved within a step along the rate of change: to where that turns against it, or halfway."""
    compiled = along_program(pair)
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: np.asarray(leaf)[0], pair.states))
    flat, still = np.asarray(flat), np.zeros(flat.shape, flat.dtype)

    def there(share):
        states = unravel(jnp.asarray(flat + share * np.asarray(pair.dt, flat.dtype) * first))
        return dataclasses.replace(pair, states=jax.tree.map(lambda leaf: np.asarray(leaf)[None], states))

    def along(share):
        return float(first @ np.asarray(compiled(there(share), np.int32(0), still, *how)[0]))

    first = np.asarray(compiled(pair, np.int32(0), still, *how)[0])
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS if along(1.0) < 0 else 0):
        low, high = (low, (low + high) / 2) if along((low + high) / 2) < 0 else ((low + high) / 2, high)
    return there((low + high) / 2)

"""What is unstable only in the course of a run, though both ends are stable."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from equations.internal import quick_jit

from .._paths.progress import Fresh
from .._paths.strang import Steps
from .health import Health, growth_of, is_misleading, jacobians
from .pair import Pair
from .stability import MOST, limit, stiffest


def in_the_course(found: Health, path, solver, quotient: float, step: int, before: Callable) -> Health:
    """What was found at both ends, and with them at one training step between them.

    That is `step`, where the quotient of the stages of a run, or of steps that have none, is the largest, if it is beyond
    the solver's limit though no end shows why. Of leapfrog steps and Euler's it is the step of the largest learning rate,
    if the ends would be unstable there. `before(path, step)` is the state, by a second run.
    """
    leaping = Steps(solver).leap(path.dynamics)
    growth = growth_of(path, solver)
    if any(found.stiffness):
        return found
    if found.suspect is not None:
        step = found.suspect
    elif not quotient > limit(growth):
        return found
    elif Steps(solver).blind(path.dynamics):
        step = max(step - 1, 1)  # where the move began that the next one outdid
    count = jnp.asarray(step - 1, jnp.int32)
    one = _there(path, count, before(path, step))
    params = path.dynamics.params(jax.tree.map(lambda leaf: leaf[0], one.states))
    table = jacobians(one, Steps(solver).apart, leaping, is_misleading(path, Fresh(params)))[0]
    stiffness, substeps = stiffest(table, float(one.dt), growth, int(path.steps) * path.substeps, leaping)
    return Health(
        (*found.stiffness, stiffness),
        (*found.strength, 0.0),
        (*found.substeps, min(MOST, path.substeps * substeps)),
        step,
    )


@quick_jit(level=0)
def _there(path, count, state) -> Pair:
    """The same of one place alone, where what is counted is that of a training step."""
    time = (count.astype(jax.tree.leaves(state)[0].dtype) * path.dt)[None]
    states = jax.tree.map(lambda leaf: leaf[None], state)
    return Pair(path.dynamics.held(count), path.signal, time, states, path.dt / path.substeps)

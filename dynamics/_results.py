"""Results of a run as a trajectory."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp

from ._arguments.frozen import on_all_paths
from ._arguments.handed_out import hand_out
from ._arguments.partly import wholly
from ._checkpoint import Checkpoint
from ._paths.record import cut, for_all_paths
from ._problem import Problem
from ._states import kept_states
from ._times import recorded
from ._trajectory import Trajectory


def trajectory_of(problem: Problem, results: tuple, apart: bool, checkpoint: Checkpoint | None, **how) -> Trajectory:
    """The result of a run.

    **Arguments:** `results`: observables and states, with room for more, last parameters `(paths, ...)` and the
    training steps of failure, of one path unless they lie `apart`; `how`: what else a `Trajectory` says.
    """
    saves, states, last, failed_at = results
    count = problem.steps // problem.save_every
    if checkpoint is not None and any(leaf.shape[1] > count + 1 for leaf in jax.tree.leaves((saves, states))):
        saves, states = cut((saves, states), count)
    if not apart:
        saves, states, last, failed_at = for_all_paths((saves, states, last, failed_at), problem.paths)
    hand_out(problem.objective, problem.params, last, states, saves)
    begin = None if problem.start is None else problem.start.time
    first, end = (round(problem.stride * step) for step in (problem.first, problem.first + problem.steps))
    every = round(problem.stride * problem.save_every)
    length = problem.dt if problem.stride == 1 else problem.dt / problem.stride
    steps, times = recorded(problem.rates, first, end, every, length, begin)
    if problem.stride != 1:
        ends = jnp.ceil(problem.stride * failed_at.astype(float)).astype(failed_at.dtype)
        failed_at = jnp.where(failed_at < 0, failed_at, ends)
        checkpoint = None  # which counts training steps
    return Trajectory(
        steps=steps,
        times=times,
        observables=saves,
        final=eqx.combine(last, on_all_paths(problem.stays, problem.paths), problem.static),
        ok=failed_at < 0,
        failed_at=failed_at,
        equation=wholly(problem.equation),
        **kept_states(problem.equation, how["kind"], states),
        checkpoint=None if checkpoint is None else dataclasses.replace(checkpoint, time=times[-1]),
        **how,
    )

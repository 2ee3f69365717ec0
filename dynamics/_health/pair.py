"""The two ends of a path, at which its health is looked at."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import abstract_value, filled_value, quick_jit, split, zeros_of

from .reach import begins_regular, is_empty, memory_of


class Pair(eqx.Module):
    """The start and the last record of a path, leaves `(2, ...)`, each with its time, and the step of the solver.

    Where a training step is taken before the equation begins, the first is the state after it, or the last record again
    where the equation is singular before it, as with an empty second moment. `counts`: the training steps at which what is
    counted is held, one for each place.
    """

    dynamics: AbstractDynamics
    signal: Any
    times: Array | np.ndarray
    states: PyTree
    dt: Array | np.ndarray
    counts: Any = None

    def count(self, place: int) -> Any:
        """That of a place, None where nothing is held."""
        return None if self.counts is None else np.asarray(self.counts[place])


def paired(path, begin, state) -> Pair:
    """The start and the last record where the first training step is the algorithm's and the memory not empty."""
    dynamics, start = path.dynamics, begin.state(path.dynamics)
    at, end = (jnp.asarray(step, jax.tree.leaves(state)[0].dtype) * path.dt for step in (path.first, path.end))
    normals = split(dynamics).noise(start, path.signal, 1)
    normals = zeros_of(normals)
    first = None if begin.resumed else split(dynamics).start(start, path.signal, normals)
    if first is not None:
        regular = begins_regular(dynamics, path.signal, start, first, path.dt)
        at = jnp.where(regular, path.dt, end).astype(end.dtype)
        start = jax.tree.map(lambda one, last: jnp.where(regular, one, last), first, state)
    states = jax.tree.map(lambda a, b: jnp.stack([a, b]), start, state)
    return Pair(dynamics, path.signal, jnp.stack([at, end]), states, path.dt / path.substeps)


_pair = quick_jit(level=0)(paired)


def state_at_start(path, begin) -> PyTree:
    """Of the first path. To compile what fills an empty memory with zeros takes a seventh of what all checks take."""
    found = filled_value(_state_of, path.dynamics, begin)
    return _computed_state(path.dynamics, begin) if found is None else found


def _state_of(dynamics, begin) -> PyTree:
    return begin.state(dynamics)


_computed_state = quick_jit(level=0)(_state_of)


def pair_of(path, begin, state) -> Pair:
    """The start and the last record, `state`, of a run of `path` from `begin`, by NumPy, which compiles nothing.

    From an empty memory it is the end twice: a program that tells whether an equation is regular where it begins takes as
    long to compile as all that is then looked at.
    """
    start, first = state_at_start(path, begin), path.first
    if _opens(path, begin):
        memory = zip(*(map(np.asarray, memory_of(path.dynamics, one)) for one in (start, state)), strict=True)
        # What stays as it is, such as the coefficients of a series, is no memory.
        moved = [before for before, after in memory if not np.array_equal(before, after)]
        if not _all_empty(path, start, moved):
            return _pair(path, begin, state)
        start, first = state, path.end
    states = jax.tree.map(lambda a, b: np.stack([np.asarray(a), np.asarray(b)]), start, state)
    dt: Any = np.asarray(path.dt, jax.tree.leaves(state)[0].dtype)
    times: Any = np.asarray([int(first), int(path.end)], dt.dtype) * dt
    step: Any = np.asarray(dt / path.substeps)
    return Pair(path.dynamics, path.signal, times, states, step)


def begins_singular(path, begin) -> bool:
    """Whether an equation is singular where a run begins, as with an empty second moment: nothing can be told of its steps
    there, of which the algorithm takes the first."""
    if not _opens(path, begin):
        return False
    start = state_at_start(path, begin)
    if _all_empty(path, start, memory_of(path.dynamics, start)):
        return True
    at, end = np.asarray(_pair(path, begin, start).times)
    return bool(at == end)


def _opens(path, begin) -> bool:
    """Whether a run begins with a first step that is the algorithm's."""
    return bool(not begin.resumed and abstract_value(_first_of, path.dynamics, path.signal, begin.given))


def _all_empty(path, start, memory: list) -> bool:
    """Whether there is a memory, and nothing in it yet."""
    params = [np.asarray(leaf) for leaf in jax.tree.leaves(path.dynamics.params(start))]
    return bool(memory) and all(is_empty(np.asarray(leaf), params) for leaf in memory)


def _first_of(dynamics, signal, params):
    """The leaves of the state after a first step that is the algorithm's; none where there is no such step."""
    start = dynamics.init(params)
    return jax.tree.leaves(split(dynamics).start(start, signal, zeros_of(split(dynamics).noise(start, signal, 1))))


def with_top(path, pair: Pair, step: int) -> Pair:
    """Both ends, and both as they were at another training step, with what is counted held; by NumPy, which compiles
    nothing."""
    counts = np.asarray([path.first, path.end - 1, step, step], np.int32)
    times, states = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), (pair.times, pair.states))
    times[2:] = step * float(path.dt)
    return dataclasses.replace(pair, times=jnp.asarray(times), states=states, counts=counts)

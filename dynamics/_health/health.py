"""What is checked of every run of `solve`: that the solver's steps are stable, and their noise small."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import flow_is_misleading, once, quick_jit, split, warn

from .._paths.strang import Steps
from .reach import acts_through_flow, begins_regular, fastest
from .stability import MOST, jacobian, leapfrogged, limit, stability_function, stiffest, suspicious
from .strong_noise import LARGEST, LARGEST_ALONE, LARGEST_THROUGH, bending, changes, through_flow

# Of states and examples: beyond, a program that is compiled in a hurry runs for longer than that takes.
_MANY = 200_000


@dataclasses.dataclass(frozen=True)
class Health:
    """What was found, at the start and at the end of a path, and where else it was looked at.

    - `stiffness`: dt times the modulus of the most unstable mode that the flow damps, 0 where all are stable.
    - `strength`: the relative change of a kick by the one before it where that is too large, else 0.
    - `substeps`: a number that suffices for both.
    - `step`: the training step of the third place, if there is one.
    """

    stiffness: tuple[float, ...]
    strength: tuple[float, ...]
    substeps: tuple[int, ...]
    step: int | None = None

    @property
    def ok(self) -> bool:
        return not any(self.stiffness) and not any(self.strength)


class _Pair(eqx.Module):
    """The start and the last record of a path, leaves `(2, ...)`, each with its time, and the step of the solver.

    Where a training step is taken before the equation begins, the first is the state after it, or the last record again
    where the equation is singular before it, as with an empty second moment.
    """

    dynamics: AbstractDynamics
    signal: Any
    times: Array
    states: PyTree
    dt: Array


def _paired(path, params, state) -> _Pair:
    dynamics, start = path.dynamics, path.dynamics.init(params)
    end = jnp.asarray(path.steps, jax.tree.leaves(state)[0].dtype) * path.dt
    normals = split(dynamics).noise(start, path.signal, 1)
    normals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), normals)
    first = split(dynamics).start(start, path.signal, normals)
    begin = 0 * end
    if first is not None:
        regular = begins_regular(dynamics, path.signal, start, first, path.dt)
        begin = jnp.where(regular, path.dt, end).astype(end.dtype)
        start = jax.tree.map(lambda one, last: jnp.where(regular, one, last), first, state)
    states = jax.tree.map(lambda a, b: jnp.stack([a, b]), start, state)
    return _Pair(dynamics, path.signal, jnp.stack([begin, end]), states, path.dt / path.substeps)


_pair = quick_jit(level=0)(_paired)


def _few(signal: Any, state: PyTree) -> bool:
    """Whether compiling takes longer than running, so that it is better done in a hurry."""
    arrays = [leaf for leaf in jax.tree.leaves(signal) if eqx.is_array(leaf) and leaf.ndim]
    examples = max((len(leaf) for leaf in arrays), default=1)
    return sum(leaf.size for leaf in jax.tree.leaves(state)) * examples <= _MANY


def _jacobians(pair: _Pair, *how: bool) -> Array:
    return (_jacobians_of_few if _few(pair.signal, pair.states) else _jacobians_of_many)(pair, *how)


@quick_jit(level=0)
def _jacobians_of_few(pair: _Pair, *how: bool) -> Array:
    return jax.lax.map(lambda at: _jacobian(pair, *how, t=at[0], state=at[1]), (pair.times, pair.states))


@quick_jit(level=1)
def _jacobians_of_many(pair: _Pair, *how: bool) -> Array:
    return jax.vmap(lambda t, state: _jacobian(pair, *how, t=t, state=state))(pair.times, pair.states)


def _jacobian(pair: _Pair, strang: bool, leaping: bool, differences: bool, t: Array, state: PyTree) -> Array:
    if leaping:
        return jacobian(leapfrogged(pair.dynamics, pair.signal, t, pair.dt), state, differences)
    field = split(pair.dynamics).flow if strang else pair.dynamics.drift
    return jacobian(lambda y: field(t, y, pair.signal), state, differences)


def _changes(path, params, state, kicks: int):
    """Compiled in a third of the time where the numbers are few."""
    return (_changes_of_few if _few(path.signal, state) else _changes_of_many)(path, params, state, kicks)


@quick_jit(level=0)
def _changes_of_few(path, params, state, kicks: int):
    pair = _paired(path, params, state)
    kick = lambda at: changes(pair.dynamics, pair.signal, *at, dt=pair.dt / kicks)  # noqa: E731
    change, sample = jax.lax.map(kick, (pair.times, pair.states))
    return kicks**0.5 * change, sample


@quick_jit(level=1)
def _changes_of_many(path, params, state, kicks: int):
    pair = _paired(path, params, state)
    kick = lambda t, y: changes(pair.dynamics, pair.signal, t, y, pair.dt / kicks)  # noqa: E731
    change, sample = jax.vmap(kick)(pair.times, pair.states)
    return kicks**0.5 * change, sample


@quick_jit(level=0)
def _bending(pair: _Pair, sample):
    return pair.dt * jax.vmap(lambda *at: bending(pair.dynamics, pair.signal, *at))(pair.times, pair.states, sample)


def _through_flow(pair: _Pair):
    """At the last record: noise that a flow turns into growth is seen where it led."""
    return (_through_flow_of_few if _few(pair.signal, pair.states) else _through_flow_of_many)(pair)


def _through_flow_at_last(pair: _Pair):
    t, state = jax.tree.map(lambda leaf: leaf[1], (pair.times, pair.states))
    return through_flow(pair.dynamics, pair.signal, t, state, pair.dt)


_through_flow_of_few, _through_flow_of_many = (quick_jit(level)(_through_flow_at_last) for level in (0, 1))


def is_checked(path, solver, controller) -> bool:
    """Whether a run has steps to check.

    Under a stream and by a controller they are checked elsewhere, and Euler's single step is the algorithm itself.
    """
    return not path.streamed and controller is None and not (isinstance(solver, dfx.Euler) and path.substeps == 1)


def health(path, solver, noisy: bool, params: PyTree, state: PyTree, quotient: float) -> Health:
    """The health of a run of `path` from `params` to `state`.

    `quotient` is the largest of its stages: where it is small no mode has grown by the fault of the solver, and there is
    nothing to compute. A leapfrog step has no such stages, nor has Euler's.
    """
    strang, dt = Steps(solver).split, float(path.dt) / path.substeps
    pair = functools.cache(lambda: _pair(path, params, state))
    leaping = Steps(solver).leap(path.dynamics)
    growth = stability_function(dfx.Euler() if leaping else solver)
    stiffness, counts, strength, softer = (0.0, 0.0), (1, 1), [0.0, 0.0], [1, 1]
    steps, pace = path.steps * path.substeps, 0.0
    if leaping or isinstance(solver, dfx.Euler) or not quotient < suspicious(growth, steps):
        tables = np.asarray(_jacobians(pair(), strang, leaping, _is_misleading(path, params)))
        stiffness, counts = zip(*(stiffest(table, dt, growth, steps, leaping) for table in tables), strict=True)
        pace = dt * fastest(tables[-1])
    through = strang and noisy and acts_through_flow(path.dynamics, state, pace, _few(path.signal, state))
    # A sign flips or stays under one draw: a draw changes by the root of what its chances change by, which says nothing.
    smooth = split(path.dynamics).smooth
    if noisy and smooth and split(path.dynamics).kicks > 1:
        kicks = Steps(solver).kicks(path.dynamics)
        strength, changed = _strengths(_changes(path, params, state, kicks), pair)
        # The square of the change is in proportion to the step.
        softer = [min(MOST, int(np.ceil((s / 0.25) ** 2))) if s else 1 for s in strength]
        through = through and not changed
    if through and (change := float(_through_flow(pair()))) > LARGEST_THROUGH:
        # It falls with the power 3/2 of the step, and is a growth in every one of them.
        strength, softer = [0.0, change], [1, min(MOST, int(np.ceil((change / 0.125) ** (2 / 3))))]
    substeps = [min(MOST, path.substeps * max(one)) for one in zip(counts, softer, strict=True)]
    return Health(stiffness, tuple(strength), tuple(substeps))


def _is_misleading(path, params: PyTree) -> bool:
    """Whether JAX's derivatives of the flow are not those of the flow, so that differences are to be taken."""
    return bool(once(flow_is_misleading, path.dynamics, path.signal, params))


def _strengths(found: tuple[Array, PyTree], pair: Callable[[], _Pair]) -> tuple[list[float], bool]:
    """The largest change of a kick that is too large, at each place, and whether kicks change at all."""
    change, sample = found
    change = np.asarray(change).reshape(2, -1)
    bad = change > LARGEST
    between = (change > LARGEST_ALONE) & ~bad
    if between.any():
        bad |= between & (change**2 > 2 * np.asarray(_bending(pair(), sample)))
    return [float(value) for value in np.max(np.where(bad, change, 0), axis=1)], bool(np.any(change))


def in_the_course(found: Health, path, solver, quotient: float, step: int, before: Callable) -> Health:
    """What was found at both ends, and with them at training step `step`, where the quotient of a run is the largest.

    Where that is beyond the solver's limit, though no end shows why, the mode that is damped or grows there is looked at:
    `before(path)` is the state, by a second run.
    """
    growth = stability_function(solver)
    if any(found.stiffness) or Steps(solver).leap(path.dynamics) or not quotient > limit(growth):
        return found
    count = jnp.asarray(step - 1, jnp.int32)
    one = _there(path, count, before(path))
    params = path.dynamics.params(jax.tree.map(lambda leaf: leaf[0], one.states))
    table = np.asarray(_jacobians(one, Steps(solver).split, False, _is_misleading(path, params)))[0]
    stiffness, substeps = stiffest(table, float(one.dt), growth, path.steps * path.substeps)
    return Health(
        (*found.stiffness, stiffness),
        (*found.strength, 0.0),
        (*found.substeps, min(MOST, path.substeps * substeps)),
        step,
    )


@quick_jit(level=0)
def _there(path, count, state) -> _Pair:
    """The same of one place alone, where what is counted is that of a training step."""
    time = (count.astype(jax.tree.leaves(state)[0].dtype) * path.dt)[None]
    states = jax.tree.map(lambda leaf: leaf[None], state)
    return _Pair(path.dynamics.held(count), path.signal, time, states, path.dt / path.substeps)


def told(found: Health, path, solver, failed: bool) -> tuple[tuple[str, str], ...]:
    """Warns of what is wrong, each thing once, and returns it for the details of a `Trajectory`."""
    rows = []
    if any(found.stiffness):
        place = max(place for place, value in enumerate(found.stiffness) if value)
        leaping = Steps(solver).leap(path.dynamics)
        edge = limit(stability_function(dfx.Euler() if leaping else solver))
        name = "a leapfrog step" if leaping else repr(Steps(solver).flow)
        message = (
            f"The solver is unstable {_where(found, place, failed)}: dt times the stiffest rate is "
            f"{_size(found.stiffness[place])}, and {name} {_stable(found.stiffness[place], edge, path)}. What comes of "
            f"that is no property of the equation. {_advice(found, place, path.substeps, solver)}"
        )
        rows.append(("stability", message))
    if any(found.strength):
        place = max(place for place, value in enumerate(found.strength) if value)
        message = (
            f"The noise of a solver's step is not small {_where(found, place, failed)}: a kick changes the next one by "
            f"{found.strength[place]:.0%}, and typical paths are then not those of the equation. "
            f"{_advice(found, place, path.substeps, solver)}"
        )
        rows.append(("strong_noise", message))
    for _, message in rows:
        warn(message)
    return tuple(rows)


def _size(stiffness: float) -> str:
    return f"{stiffness:.3g}" if stiffness < 1000 else "beyond 1000"  # of a state that is no longer one


def _where(found: Health, place: int, failed: bool) -> str:
    if place == 2:
        return f"in the course of the run (step {found.step})"
    if not place:
        return "at the start"
    return "in the last good record of a path that failed" if failed else "at the end of the run"


def _stable(stiffness: float, edge: float, path) -> str:
    if stiffness * 1.05 > edge:
        return f"is stable up to {edge:.3g}"
    return (
        f"lets an oscillation grow that the flow damps, over {path.steps} training steps by more than a factor of two"
    )


def _advice(found: Health, place: int, substeps: int, solver) -> str:
    count = found.substeps[place]
    if count >= MOST:
        return f"Argument `substeps` is {substeps}; even {MOST}, the most there are, may not suffice."
    auto = "." if isinstance(solver, dfx.Euler) else ", and 'auto' finds a number for the whole run."
    return f"Argument `substeps` is {substeps}: {count} suffice there{auto}"

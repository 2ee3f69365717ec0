"""What is checked of every run of `solve`: that the solver's steps are stable, and their noise small."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations.internal import flow_is_misleading, once, quick_jit, split, warn

from .._paths.strang import Steps
from .pair import Pair, pair_of, with_top
from .rates import top
from .reach import acts_through_flow, fastest
from .stability import MOST, derivative, krylov, leapfrogged, limit, stability_function, stiffest, suspicious
from .strong_noise import LARGEST, LARGEST_ALONE, LARGEST_THROUGH, bending, changes, held_at, is_quick, through_flow
from .typical import ALLOWED, ALLOWED_IN_DECAY, law_of, may_be_off, times_allowed


@dataclasses.dataclass(frozen=True)
class Health:
    """What was found, at the start and at the end of a path, and where else it was looked at.

    - `stiffness`: dt times the modulus of the most unstable mode that the flow damps, 0 where all are stable.
    - `strength`: the relative change of a kick by the one before it where that is too large, else 0.
    - `substeps`: a number that suffices for both.
    - `step`: the training step, from 1, of the third place, if there is one.
    - `suspect`: a training step that is unstable, or its noise not small, if the state is there what it is at the start or
        at the end.
    """

    stiffness: tuple[float, ...]
    strength: tuple[float, ...]
    substeps: tuple[int, ...]
    step: int | None = None
    suspect: int | None = None

    @property
    def ok(self) -> bool:
        return not any(self.stiffness) and not any(self.strength)


SOUND = Health((0.0, 0.0), (0.0, 0.0), (1, 1))


def jacobians(pair: Pair, *how: bool) -> np.ndarray:
    """The Jacobian at each place on a Krylov space of its own, `(places, vectors, vectors)`."""
    compiled = along_program(pair)

    def one(place):
        state = jax.tree.map(lambda leaf: leaf[place], jax.tree.map(np.asarray, pair.states))
        return krylov(lambda direction: compiled(pair, np.int32(place), direction, *how), state)

    return np.stack([one(place) for place in range(len(pair.times))])


def _along(pair: Pair, place: Array, direction: Array, strang: bool, leaping: bool, differences: bool):
    """The rate of change at a place, and its derivative along a direction."""
    t, state = jax.tree.map(lambda leaf: leaf[place], (pair.times, pair.states))
    dynamics = held_at(pair.dynamics, None if pair.counts is None else pair.counts[place])
    if leaping:
        field = leapfrogged(dynamics, pair.signal, t, pair.dt)
    else:
        rates = split(dynamics).flow if strang else dynamics.drift
        field = lambda y: rates(t, y, pair.signal)  # noqa: E731
    return derivative(field, state, direction, differences)


_along_for_few, _along_for_many = quick_jit(level=0)(_along), quick_jit(level=1)(_along)


def along_program(pair: Pair) -> Callable:
    """`_along` as a program, compiled in a hurry where that pays."""
    return _along_for_few if is_quick(pair.signal, pair.states) else _along_for_many


def _changes(pair: Pair, kicks: int) -> tuple[np.ndarray, np.ndarray, list[PyTree]]:
    """Those of all kicks of a step together, in all and along the kick before, and some kicks, at each place."""
    times, states = jax.tree.map(np.asarray, (pair.times, pair.states))
    dt = np.asarray(np.asarray(pair.dt, times.dtype) / kicks)

    @functools.cache
    def at(place):
        t, state = jax.tree.map(lambda leaf: np.asarray(leaf[place]), (times, states))
        return changes(pair.dynamics, pair.signal, t, state, dt, pair.count(place))

    ends = 1 if len(times) > 1 and times[0] == times[1] else 0  # where a start is singular it is the end
    found = [at(max(place, ends)) for place in range(len(times))]
    whole, along, samples = zip(*found, strict=True)
    return kicks**0.5 * np.stack(whole), kicks**0.5 * np.stack(along), list(samples)


@quick_jit(level=0)
def _bending(pair: Pair, samples: list[PyTree]):
    sample = jax.tree.map(lambda *leaves: jnp.stack(leaves), *samples)
    at = lambda count, *at: bending(held_at(pair.dynamics, count), pair.signal, *at)  # noqa: E731
    size, along = jax.vmap(at)(pair.counts, pair.times, pair.states, sample)
    return pair.dt * size, pair.dt * along


def _through_flow(pair: Pair, place: int):
    """Noise that a flow turns into growth is seen where it led."""
    compiled = _through_flow_of_few if is_quick(pair.signal, pair.states) else _through_flow_of_many
    t, state = jax.tree.map(lambda leaf: np.asarray(np.asarray(leaf)[place]), (pair.times, pair.states))
    return compiled(pair.dynamics, pair.signal, t, state, np.asarray(pair.dt, t.dtype), pair.count(place))


def _through_flow_at(dynamics, signal, t, state, dt, count):
    return through_flow(held_at(dynamics, count), signal, t, state, dt)


_through_flow_of_few, _through_flow_of_many = (quick_jit(level)(_through_flow_at) for level in (0, 1))


def is_checked(path, solver, controller) -> bool:
    """Whether a run has steps to check.

    Under a stream and by a controller they are checked elsewhere, and Euler's single step is the algorithm itself. Of a
    field with kinks a derivative tells nothing.
    """
    if Steps(solver).on_batches or split(path.dynamics).first_order:
        return False  # the former would take all examples
    return not path.streamed and controller is None and not (isinstance(solver, dfx.Euler) and path.substeps == 1)


def growth_of(path, solver) -> Callable:
    """By what a step multiplies a mode; a leapfrog step's modes are those of the whole step, as Euler's are."""
    return stability_function(dfx.Euler() if Steps(solver).leap(path.dynamics) else solver)


def harmless(path, solver) -> float:
    """A quotient of stages, or of steps, below which no mode has grown by the fault of the solver."""
    if Steps(solver).blind(path.dynamics):
        return limit(growth_of(path, solver))
    return suspicious(growth_of(path, solver), int(path.steps) * path.substeps)


def health(path, solver, noisy: bool, begin: Any, state: PyTree, quotient: float) -> Health:
    """The health of a run of `path` from `begin`, parameters or how far it had come, to `state`.

    `quotient` is the largest of its stages: where it is small no mode has grown by the fault of the solver, and there is
    nothing to compute. A leapfrog step has no such stages, nor has Euler's: both ends are then looked at in any case, and
    as they would be at the largest learning rate too.
    """
    strang, dt = Steps(solver).apart, float(path.dt) / path.substeps
    pair = functools.cache(lambda: pair_of(path, begin, state))
    leaping = Steps(solver).leap(path.dynamics)
    growth = growth_of(path, solver)
    stiffness, counts, suspects = (0.0, 0.0), (1, 1), []
    steps, pace = int(path.steps) * path.substeps, 0.0
    blind = Steps(solver).blind(path.dynamics)
    largest: Any = functools.cache(lambda: top(path))
    spots = functools.cache(lambda: pair() if largest() is None else with_top(path, pair(), largest().step))
    if (blind and not _rested(path, begin, state, quotient)) or not quotient < harmless(path, solver):
        there = spots() if blind else pair()
        tables = jacobians(there, strang, leaping, is_misleading(path, begin))
        stiffness, counts = zip(*(stiffest(table, dt, growth, steps, leaping) for table in tables[:2]), strict=True)
        pace = dt * fastest(tables[1])
        for table in tables[2:]:
            suspects.append(stiffest(table, dt, growth, largest().near * path.substeps, leaping)[0])
    strength, softer = strengths(path, solver, noisy, state, pace, spots)
    suspects += strength[2:]
    suspect = largest().step + 1 if any(suspects) else None
    substeps = [min(MOST, path.substeps * max(one)) for one in zip(counts, softer[:2], strict=True)]
    return Health(stiffness, tuple(strength[:2]), tuple(substeps), suspect=suspect)


def _rested(path, begin: Any, state: PyTree, quotient: float) -> bool:
    """Whether nothing moved in the whole run, as where every single example is fitted: nothing can have grown there."""
    ends = (begin.params(path.dynamics), path.dynamics.params(state))
    return quotient == 0 and all(map(np.array_equal, *map(jax.tree.leaves, ends)))


def strengths(path, solver, noisy: bool, state: PyTree, pace: float, spots: Callable[[], Pair]):
    """At each of some places the relative change of a kick by the one before it, where that is too large, else 0, and by
    what number substeps are to be multiplied. `pace` is dt times the fastest rate of a leapfrog step."""
    dynamics = path.dynamics
    through = Steps(solver).apart and noisy and acts_through_flow(dynamics, state, pace, is_quick(path.signal, state))
    strength, softer = [0.0, 0.0], [1, 1]
    # A sign flips or stays under one draw: a draw changes by the root of what its chances change by, which says nothing.
    if noisy and split(dynamics).smooth and split(dynamics).kicks > 1:
        found = _changes(spots(), Steps(solver).kicks(dynamics))
        strength, softer, changed = _strengths(found, spots, law_of(solver, dynamics))
        through = through and not changed
    if through:
        # At the last record, also at the largest rate. The change falls with the power 3/2 of the step, and is a growth in
        # every one of them.
        number = len(spots().times)
        strength = [0.0] * number
        for place in range(number - 1, -1, -2):
            change = float(_through_flow(spots(), place))
            strength[place] = change if change > LARGEST_THROUGH else 0.0
        softer = [min(MOST, int(np.ceil((s / 0.125) ** (2 / 3)))) if s else 1 for s in strength]
    return strength, softer


def is_misleading(path, begin: PyTree) -> bool:
    """Whether JAX's derivatives of the flow are not those of the flow, so that differences are to be taken."""
    return bool(once(flow_is_misleading, path.dynamics, path.signal, begin.params(path.dynamics)))


def _strengths(found: tuple, pair: Callable[[], Pair], law: tuple) -> tuple[list[float], list[int], bool]:
    """The largest change of a kick that is too large, at each place, by what number substeps are to be multiplied, and
    whether kicks change at all."""
    change, along, sample = found
    change, along = (np.asarray(one).reshape(len(one), -1) for one in (change, along))
    bad = change > LARGEST
    between, off = (change > LARGEST_ALONE) & ~bad, may_be_off(along**2, law)
    times, factor = np.zeros(along.shape), np.ones(along.shape)
    if between.any() or off.any():
        size, drift = map(np.asarray, _bending(pair(), sample))
        bad |= between & (change**2 > 2 * size)
        times, factor = times_allowed(along**2, drift, law)
    strength = np.maximum(_most(np.where(bad, change, 0)), _most(np.where(times > 0, along, 0)))
    # The square of the change is in proportion to the step.
    factor = np.maximum(_most(factor), _most(np.where(bad, (change / 0.25) ** 2, 1)))
    softer = np.ceil(np.minimum(factor, MOST)).astype(int)
    return strength.tolist(), softer.tolist(), bool(np.any(change))


def _most(values: np.ndarray) -> np.ndarray:
    return np.max(values, axis=1)


def told(found: Health, path, solver, failed: bool) -> tuple[tuple[str, str], ...]:
    """Warns of what is wrong, each thing once, and returns it for the details of a `Trajectory`."""
    rows = []
    if any(found.stiffness):
        place = max(place for place, value in enumerate(found.stiffness) if value)
        leaping = Steps(solver).leap(path.dynamics)
        edge = limit(growth_of(path, solver))
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
            f"{found.strength[place]:.0%}, and typical paths are then not those of the equation: the rate at which they "
            f"grow is to be right to {ALLOWED:.0%}, to {ALLOWED_IN_DECAY:.0%} where the mean square decays too. "
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

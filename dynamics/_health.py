"""What is checked of every run of `solve`: that the solver's steps are stable, and their noise small."""

import dataclasses
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations import AbstractDynamics, AbstractEquation
from equations._derivatives import flow_is_misleading
from equations._once import once, quick_jit, warn

from ._stability import MOST, jacobian, leapfrogged, limit, stability_function, stiffest
from ._strang import Strang
from ._strong_noise import LARGEST, LARGEST_ALONE, LARGEST_THROUGH, bending, changes, through_flow

# Of the limit of stability: a quotient of stages below says that no mode has grown.
_SUSPICIOUS = 0.5


@dataclasses.dataclass(frozen=True)
class Health:
    """What was found, at the start and at the end of a path.

    - `stiffness`: dt times the modulus of the most unstable mode that the flow damps, 0 where all are stable.
    - `strength`: the relative change of a kick by the one before it where that is too large, else 0.
    - `substeps`: a number that suffices for both.
    """

    stiffness: tuple[float, float]
    strength: tuple[float, float]
    substeps: tuple[int, int]

    @property
    def good(self) -> bool:
        return not any(self.stiffness) and not any(self.strength)


class _Pair(eqx.Module):
    """The start and the last record of a path, leaves `(2, ...)`, each with its time, and the step of the solver.

    Where the dynamics is singular at the start, as with an empty second moment, both are the last record.
    """

    dynamics: AbstractDynamics
    signal: Any
    times: Array
    states: PyTree
    dt: Array


@quick_jit(level=1)
def _pair(path, params, state) -> _Pair:
    dynamics, start = path.dynamics, path.dynamics.init(params)
    end = jnp.asarray(path.steps, jax.tree.leaves(state)[0].dtype) * path.dt
    normals = dynamics.noise(start, path.signal, 1)
    normals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), normals)
    singular = dynamics.start(start, path.signal, normals) is not None
    begin, start = (end, state) if singular else (0 * end, start)
    states = jax.tree.map(lambda a, b: jnp.stack([a, b]), start, state)
    return _Pair(dynamics, path.signal, jnp.stack([begin, end]), states, path.dt / path.substeps)


@quick_jit(level=1)
def _jacobians(pair: _Pair, split: bool, leaps: bool, differences: bool) -> Array:
    def at(t, state):
        if leaps:
            return jacobian(leapfrogged(pair.dynamics, pair.signal, t, pair.dt), state, differences)
        field = pair.dynamics.flow if split else pair.dynamics.drift
        return jacobian(lambda y: field(t, y, pair.signal), state, differences)

    return jax.vmap(at)(pair.times, pair.states)


@quick_jit(level=1)
def _changes(pair: _Pair, kicks: int):
    kick = lambda t, y: changes(pair.dynamics, pair.signal, t, y, pair.dt / kicks)  # noqa: E731
    change, sample = jax.vmap(kick)(pair.times, pair.states)
    return kicks**0.5 * change, sample


@quick_jit(level=1)
def _bending(pair: _Pair, sample):
    return pair.dt * jax.vmap(lambda *at: bending(pair.dynamics, pair.signal, *at))(pair.times, pair.states, sample)


@quick_jit(level=1)
def _through_flow(pair: _Pair):
    """At the last record: noise that a flow turns into growth is seen where it led."""
    t, state = jax.tree.map(lambda leaf: leaf[1], (pair.times, pair.states))
    return through_flow(pair.dynamics, pair.signal, t, state, pair.dt)


def _acts_through_flow(dynamics, state) -> bool:
    """Whether kicks may move what no noise depends on: velocities, known by a leapfrog step or, if need be, unknown."""
    if isinstance(dynamics, AbstractEquation):
        return dynamics.leapfrog and dynamics.is_affine(state)
    return True


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
    split, pair, dt = isinstance(solver, Strang), _pair(path, params, state), float(path.dt) / path.substeps
    leaps = _leaps(path.dynamics, solver)
    growth = stability_function(dfx.Euler() if leaps else solver)
    stiffness, counts, strength, softer = (0.0, 0.0), (1, 1), [0.0, 0.0], [1, 1]
    if leaps or isinstance(solver, dfx.Euler) or not quotient < _SUSPICIOUS * limit(growth):
        differences = bool(once(flow_is_misleading, path.dynamics, path.signal, params))
        tables = np.asarray(_jacobians(pair, split, leaps, differences))
        stiffness, counts = zip(*(stiffest(table, dt, growth, leaps) for table in tables), strict=True)
    leaping = split and noisy and _acts_through_flow(path.dynamics, state)
    # A sign flips or stays under one draw: a draw changes by the root of what its chances change by, which says nothing.
    smooth = getattr(path.dynamics, "has_series", True)
    if split and noisy and smooth and path.dynamics.kicks > 1:
        change, sample = _changes(pair, solver.kicks or path.dynamics.kicks)
        strength = [float(value) for value in change]
        if LARGEST_ALONE < max(strength) <= LARGEST:
            alone = np.asarray(change) ** 2 > 2 * np.asarray(_bending(pair, sample))
            strength = [
                s if s > LARGEST or (s > LARGEST_ALONE and a) else 0.0 for s, a in zip(strength, alone, strict=True)
            ]
        else:
            strength = [s if s > LARGEST else 0.0 for s in strength]
        # The square of the change is in proportion to the step.
        softer = [min(MOST, int(np.ceil((s / 0.25) ** 2))) if s else 1 for s in strength]
        leaping = leaping and not np.any(np.asarray(change))
    if leaping and (change := float(_through_flow(pair))) > LARGEST_THROUGH:
        # It falls with the power 3/2 of the step, and is a growth in every one of them.
        strength, softer = [0.0, change], [1, min(MOST, int(np.ceil((change / 0.125) ** (2 / 3))))]
    substeps = [min(MOST, path.substeps * max(one)) for one in zip(counts, softer, strict=True)]
    return Health(stiffness, tuple(strength), tuple(substeps))


def _leaps(dynamics, solver) -> bool:
    return isinstance(solver, Strang) and getattr(dynamics, "leapfrog", False)


def told(found: Health, path, solver, failed: bool) -> tuple[tuple[str, str], ...]:
    """Warns of what is wrong, each thing once, and returns it for the details of a `Trajectory`."""
    rows = []
    if any(found.stiffness):
        place = 1 if found.stiffness[1] else 0
        leaps = _leaps(path.dynamics, solver)
        edge = limit(stability_function(dfx.Euler() if leaps else solver))
        name = "a leapfrog step" if leaps else repr(solver.flow if isinstance(solver, Strang) else solver)
        message = (
            f"The solver is unstable {_where(place, failed)}: dt times the stiffest rate is "
            f"{_size(found.stiffness[place])}, and {name} is stable up to {edge:.3g}. What comes of that is no property "
            f"of the equation. {_advice(found, place, path.substeps)}"
        )
        rows.append(("stability", message))
    if any(found.strength):
        place = 1 if found.strength[1] else 0
        message = (
            f"The noise of a solver's step is not small {_where(place, failed)}: a kick changes the next one by "
            f"{found.strength[place]:.0%}, and typical paths are then not those of the equation. "
            f"{_advice(found, place, path.substeps)}"
        )
        rows.append(("strong_noise", message))
    for _, message in rows:
        warn(message)
    return tuple(rows)


def _size(stiffness: float) -> str:
    return f"{stiffness:.3g}" if stiffness < 1000 else "beyond 1000"  # of a state that is no longer one


def _where(place: int, failed: bool) -> str:
    if not place:
        return "at the start"
    return "in the last good record of a path that failed" if failed else "at the end of the run"


def _advice(found: Health, place: int, substeps: int) -> str:
    count = found.substeps[place]
    if count >= MOST:
        return f"Argument `substeps` is {substeps}; even {MOST}, the most there are, may not suffice."
    return f"Argument `substeps` is {substeps}: {count} suffice there, and 'auto' finds a number for the whole run."

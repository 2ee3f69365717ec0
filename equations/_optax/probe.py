"""Whether the increment field of an Optax optimizer is an equation of it: measured on a few parameters.

An algorithm has an equation if its step is a map near the identity, so that the field (Phi_eta - 1)/eta followed over a
step arrives where the step does, up to an error that falls with eta. A memory that forgets a fixed part of itself in a
step is no such map, but the parameters follow it all the same. What this cannot be told from is told by running both.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from .._checks.once import once, quick_jit, warn
from .._counts import schedule_counts
from .._modified.increment import AbstractIncrement
from .._tree import add_scaled
from .few import corner, in_jax, in_python

_COARSE, _FINE = 32, 16  # steps at the learning rate, and how many times as many where they are that much shorter
_WRONG, _FALLS = 0.1, 0.4  # what part of the way both may be apart, unless that falls so much from coarse to fine
_FAR = 1.0  # what part of the way they may be apart however that falls: there standing still would do as well
_SAME = 1e-4  # what part of the way is no more than rounding, in any precision
_SEEN = 64  # units in the last place of the parameters, that the change by a step is known to a few percent
_ROUNDED = 4  # units in the last place of the parameters, that a step must be larger than to be seen
_LONG = 4096  # steps, where a leaf has not moved in fewer
_TINY = float(np.finfo(float).tiny)
_FIRST = 8  # steps, before a memory that grows by a factor in each has hidden what they are
_SMALLER = 1e-3  # times the learning rate: what does not vanish there never does
_STAGES = ((0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6))  # of Runge and Kutta


def check_nearness(equation: AbstractIncrement, params: PyTree) -> None:
    """A ValueError, or a warning, where the measurement says that there is no equation; made once, silent under a trace."""
    refused, message = once(fault, equation, params) or (False, None)
    if refused:
        raise ValueError(message)
    if message is not None:
        warn(message)


def fault(equation: AbstractIncrement, params: PyTree) -> tuple[bool, str] | None:
    """Whether the algorithm is refused, and what is to be said of it; None where it comes near its equation."""
    params = corner(params)
    try:
        far, moves = _measured(equation, params)
        gathers = _gathers(equation, params, moves, far)
    except Exception:  # what depends on the shapes of the parameters is not measured
        return None
    if gathers is not None:
        return gathers
    wrong = [_is_wrong(*pair) for pair in far]
    if not any(wrong):
        return None
    here, there = (np.max(lengths(equation, params, factor)[:_FIRST], axis=0) for factor in (1.0, _SMALLER))
    if np.any(there > 5 * _SMALLER * here):
        here, there = max(zip(here, there, strict=True), key=lambda pair: pair[1] / max(pair[0], _TINY))
        return True, (
            "Argument `factory` must make steps that vanish with the learning rate, but on a probe a step moves the "
            f"parameters by {here:.2g}, and by {there:.2g} at {_SMALLER:g} times the learning rate, as in the ascent of a "
            "sharpness-aware optimizer or where a learning rate is found along the way: there is no equation. `train` "
            "runs the algorithm; give the equation of the optimizer inside, for SAM equations.SAM."
        )
    coarse, fine = _worst(far)
    opening, also = "is far from its algorithm at this learning rate", ""
    if not np.isnan(fine):
        also = f", and by {fine:.2g} at a learning rate that makes {_FINE} steps of one"
        if fine > _FALLS * np.nan_to_num(coarse):
            opening = "does not come nearer to its algorithm as the learning rate falls"
    return False, (
        f"The equation of `factory` {opening}: on a probe they part by {coarse:.2g} of the way{also}. What `solve` gives "
        "is not what `train` does: compare them, and trust `train`."
    )


def _is_wrong(coarse: float, fine: float) -> bool:
    """Not so for a leaf that does not move, whose distances are NaN."""
    return bool(coarse > _FAR or fine > max(_WRONG, np.nan_to_num(_FALLS * coarse)))


def _worst(far: np.ndarray) -> tuple[float, float]:
    """The distances of the leaf of which there is most to say."""
    return max(((float(a), float(b)) for a, b in far), key=lambda pair: (_is_wrong(*pair), np.nan_to_num(max(pair))))


def apart(equation: AbstractIncrement, params: PyTree) -> tuple[float, float] | None:
    """How far the equation and its algorithm part, over the way they go, at the learning rate and at a finer one.

    Both see the same gradients, which vary smoothly in natural time and are held within a training step, as counts are.
    Of the leaves the one where they part most; None where nothing moves.
    """
    far, _ = _measured(equation, params)
    return None if np.all(np.isnan(far)) else _worst(far)


def _measured(equation: AbstractIncrement, params: PyTree) -> tuple[np.ndarray, np.ndarray]:
    """The distances of `apart` for every leaf, `(leaves, 2)`, and in which steps it moves, `(steps, leaves)`.

    NaN for a leaf that does not move, or whose steps vanish in rounding, or where the algorithm itself diverges on these
    gradients.
    """
    limit: Any = in_python(equation).scaling_limit()
    quarter: Any = limit.rescaled(0.25).scaling_limit()
    power = np.log(float(quarter.time_per_step()) / float(limit.time_per_step())) / np.log(0.25)
    fine = in_jax(limit.rescaled(float(_FINE) ** (-1 / power)), equation)
    leaves = jax.tree.leaves(params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    eps = jnp.finfo(leaves[0].dtype).eps
    far = []
    for member, steps in ((equation, _COARSE), (fine, _COARSE * _FINE)):
        both, moves = (np.asarray(out) for out in _runs(member, params, np.asarray(steps), np.ones(())))
        column = []
        for leaf, runs in zip(leaves, np.split(both.astype(float)[:, :steps], ends, axis=2), strict=True):
            start = np.ravel(leaf).astype(float)
            way = np.max(np.linalg.norm(runs[0] - start, axis=1), initial=0.0)
            lost = _ROUNDED * steps * eps * np.linalg.norm(start)
            distance = np.max(np.linalg.norm(runs[0] - runs[1], axis=1), initial=0.0)
            seen = np.isfinite(way) and way > lost
            column.append((distance / way if np.isfinite(distance) else np.inf) if seen else np.nan)
        far.append(column)
    return np.array(far).T, moves[0]


def first_steps(equation: AbstractIncrement, params: PyTree, factor: float, size: float) -> list[tuple | None]:
    """When, of the first 8 steps, and by what each leaf moves first, at multiples of learning rate and gradients.

    `(step, change)`; None for a leaf that does not move, or by little more than rounding. By the program of `apart`, which
    is compiled already.
    """
    slower = eqx.tree_at(lambda e: e.learning_rate, equation, in_python(equation).learning_rate * factor)
    given = in_jax(slower, equation), params, np.asarray(_FIRST), size * np.ones(())
    both, moves = (np.asarray(out) for out in _runs(*given))
    leaves = jax.tree.leaves(params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    found = []
    for leaf, run, moved_in in zip(leaves, np.split(both[0], ends, axis=1), moves[0].T, strict=True):
        start, steps = np.ravel(leaf), np.flatnonzero(moved_in[:_FIRST])
        change = np.asarray(run[steps[0]] - start, float) if steps.size else np.zeros(1)
        seen = np.linalg.norm(change) > _SEEN * jnp.finfo(leaf.dtype).eps * np.linalg.norm(start)
        found.append((int(steps[0]), change) if seen and np.all(np.isfinite(change)) else None)
    return found


def _gradient(params: PyTree, phase: Array) -> PyTree:
    """Gradients of order one, some of which change their sign from phase 0 to 1."""

    def one(place, leaf):
        index = jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape) + 0.7 * place
        return (jnp.cos(1.3 * index) + 0.8 * jnp.cos(2 * jnp.pi * phase + 2.1 * index)).astype(leaf.dtype)

    leaves, treedef = jax.tree.flatten(params)
    return jax.tree.unflatten(treedef, [one(*pair) for pair in enumerate(leaves)])


@quick_jit(level=0)
def _runs(equation: AbstractIncrement, params: PyTree, steps: Array, size: Array) -> tuple[Array, Array]:
    """Parameters after every step of the algorithm and of its equation, shape `(2, _COARSE * _FINE, parameters)`.

    `size` scales the gradients. Beside them, whether each leaf moves in it, `(2, _COARSE * _FINE, leaves)`.

    One loop over stages serves both, so that the algorithm is compiled once: its step is a stage of weight 1.
    """
    dtype = jax.tree.leaves(params)[0].dtype
    ahead, weights = (jnp.asarray(row, dtype) for row in _STAGES)
    begin, eta = equation.init(params), equation.learning_rate
    # As `start` has it: a second moment begins with the algorithm's own step.
    own = 1 if any(jax.tree.leaves(equation.squares(begin))) else 0
    flat = lambda state: jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state.params)])  # noqa: E731

    def run(as_algorithm):
        def step(k, carry):
            state, saved, moves = carry
            at_once = as_algorithm | (k < own)  # the step of the algorithm, not the stages of its equation
            gradient = jax.tree.map(lambda g: size.astype(g.dtype) * g, _gradient(params, (k / steps).astype(dtype)))
            averages, counts = equation.split(state)

            def stage(j, carry):
                total, last, later, moves = carry
                here = add_scaled(averages, (eta * jnp.where(at_once, 0, ahead[j]), last))
                rate = equation.velocity(jnp.zeros((), dtype), eqx.combine(here, counts), gradient)
                counted = equation.split(add_scaled(state, (eta, rate)))[1]
                # Counts are held: whole numbers, whatever rounding makes of the learning rate times a rate.
                later = jax.tree.map(lambda new, old: jnp.where(j == 0, jnp.round(new), old), counted, later)
                moves = jnp.where(j == 0, _any(rate.params), moves)
                rate = eqx.filter(rate, equation.averages(state.params))
                return add_scaled(total, (eta * jnp.where(at_once, 1, weights[j]), rate)), rate, later, moves

            still = jax.tree.map(jnp.zeros_like, averages)
            carry = averages, still, counts, moves[k]
            averages, _, counts, now = jax.lax.fori_loop(0, jnp.where(at_once, 1, 4), stage, carry)
            state = eqx.combine(averages, counts)
            return state, saved.at[k].set(flat(state)), moves.at[k].set(now)

        room = jnp.zeros((_COARSE * _FINE, flat(begin).size), dtype)
        moves = jnp.zeros((_COARSE * _FINE, len(jax.tree.leaves(params))), bool)
        return jax.lax.fori_loop(0, steps, step, (begin, room, moves))[1:]

    return jax.lax.map(run, jnp.array([True, False]))


def _any(tree: PyTree) -> Array:
    return jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(tree)])


@quick_jit(level=0)
def _lengths(equation: AbstractIncrement, params: PyTree, steps: int) -> Array:
    twin, gradient = equation.twin(), _gradient(params, jnp.zeros(()))

    def step(carry, _):
        params, memory = carry
        updates, after = twin.update(gradient, memory, params)
        after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, memory)
        length = jnp.stack([jnp.sqrt(jnp.sum(jnp.square(leaf))) for leaf in jax.tree.leaves(updates)])
        return (optax.apply_updates(params, updates), after), length

    with jax.numpy_dtype_promotion("standard"):
        memory = jax.tree.map(jnp.asarray, twin.init(params))
        return jax.lax.scan(step, (params, memory), None, length=steps)[1]


def lengths(equation: AbstractIncrement, params: PyTree, factor: float = 1.0, steps: int = 64) -> np.ndarray:
    """How far each leaf moves in each step under one gradient, `(steps, leaves)`, at `factor` times the learning rate."""
    slower = eqx.tree_at(lambda e: e.learning_rate, equation, equation.learning_rate * factor)
    return np.asarray(_lengths(slower, params, steps), float)


def accumulated(equation: AbstractIncrement, params: PyTree) -> int | None:
    """The number of steps of which a leaf moves in one only, where it does so periodically."""
    return _period(lengths(equation, params, steps=_LONG) > 0)


def _period(moves: np.ndarray) -> int | None:
    """The longest time between two moves of a leaf, of those that move in one of so many steps; None where none does."""
    periods = []
    for leaf in moves.T:
        times = np.flatnonzero(leaf)
        gaps = set(np.diff(times).tolist())
        if len(gaps) == 1 and gaps != {1}:
            periods.append(gaps.pop())
    return max(periods, default=None)


def gathering_states(memory: PyTree) -> bool:
    """Whether a memory holds a state of Optax's that gathers gradients."""
    known = (optax.MultiStepsState, optax.ApplyEvery)
    return any(
        isinstance(node, known) for node in jax.tree.leaves(memory, is_leaf=lambda node: isinstance(node, known))
    )


def _gathers(equation, params, moves: np.ndarray, far: np.ndarray) -> tuple[bool, str] | None:
    """What is to be said where leaves rest in some of the steps, and not because a schedule is zero there."""
    if np.all(moves):
        return None
    every = _period(moves)
    # A leaf that has hardly moved may do so later, or be frozen.
    if every is None and np.any(np.sum(moves, axis=0) < 2):
        longer = lengths(equation, params, steps=_LONG) > 0
        every, moves = _period(longer), longer
    memory = equation.init(params).memory
    scheduled = any(jax.tree.leaves(schedule_counts(memory)))
    if gathering_states(memory) and not np.all(moves):
        return True, accumulation(every, equation.batch_size)
    # What leaves steps out has an equation all the same, where a schedule is zero in them or nothing is gathered.
    rests = far[np.any(moves, axis=0) & ~np.all(moves, axis=0)]
    near = not any(_is_wrong(*pair) for pair in rests) if scheduled else np.all(np.fmax.reduce(rests, axis=1) < _SAME)
    if every is not None and not near:
        return True, accumulation(every, equation.batch_size)
    if not np.any(moves) and not scheduled:
        return False, (
            f"The optimizer of `factory` does not move in {_LONG} steps on a probe, so that nothing can be said of how "
            "near its equation comes to it: compare `solve` with `train`, and trust `train`."
        )
    return None


def accumulation(every: int | None, batch_size: int | None) -> str:
    """What there is instead of an equation of gradients gathered over `every` steps, None: of a number not known."""
    times = "k" if every is None else every
    batch = f"{times} times the batch" if every is None or batch_size is None else f"batch_size={every * batch_size}"
    return (
        f"Argument `factory` must move in every step, but its optimizer gathers gradients and moves in one of {times}. "
        f"With replacement that is exactly the optimizer inside with {batch}: at the same learning rate where they are "
        f"averaged, as in optax.MultiSteps, which equations.accumulated(..., every={times}) gives, at {times} times the "
        f"learning rate where they are summed, as in optax.apply_every; a step then stands for {times}."
    )

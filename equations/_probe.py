"""Whether the increment field of an Optax optimizer is an equation of it: measured on a few parameters.

An algorithm has an equation if its step is a map near the identity, so that the field (Phi_eta - 1)/eta followed over a
step arrives where the step does, up to an error that falls with eta. A memory that forgets a fixed part of itself in a
step is no such map, but the parameters follow it all the same. What this cannot be told from is told by running both.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ._increment import AbstractIncrement
from ._once import once, quick_jit, warn
from ._series import moved

_COARSE, _FINE = 32, 16  # steps at the learning rate, and how many times as many where they are that much shorter
_LARGEST = 2  # along every axis of a leaf, of which the probe takes a corner
_WRONG, _FALLS = 0.1, 0.4  # what part of the way both may be apart, unless that falls so much from coarse to fine
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
        far = apart(equation, params)
    except Exception:  # what depends on the shapes of the parameters is not measured
        return None
    if far is None or not _is_wrong(*far):
        return None
    every = accumulated(equation, params)
    if every is not None:
        return True, accumulation(every, equation.batch_size)
    here, there = (np.max(lengths(equation, params, factor)[:_FIRST]) for factor in (1.0, _SMALLER))
    if there > 5 * _SMALLER * here:
        return True, (
            "Argument `factory` must make steps that vanish with the learning rate, but on a probe a step moves the "
            f"parameters by {here:.2g}, and by {there:.2g} at {_SMALLER:g} times the learning rate, as in the ascent of a "
            "sharpness-aware optimizer or where a learning rate is found along the way: there is no equation. `train` "
            "runs the algorithm; give the equation of the optimizer inside."
        )
    return False, (
        "The equation of `factory` does not come nearer to its algorithm as the learning rate falls: on a probe they "
        f"part by {far[0]:.2g} of the way, and by {far[1]:.2g} at a learning rate that makes {_FINE} steps of one. What "
        "`solve` gives is not what `train` does: compare them, and trust `train`."
    )


def _is_wrong(coarse: float, fine: float) -> bool:
    return not fine <= max(_WRONG, _FALLS * coarse)


def corner(params: PyTree) -> PyTree:
    """The parameters in their structure, but few of them."""
    return jax.tree.map(lambda leaf: leaf[tuple(slice(_LARGEST) for _ in leaf.shape)], params)


def apart(equation: AbstractIncrement, params: PyTree) -> tuple[float, float] | None:
    """How far the equation and its algorithm part, over the way they go, at the learning rate and at a finer one.

    Both see the same gradients, which vary smoothly in natural time and are held within a training step, as counts are.
    None where nothing moves or the scaling cannot be followed so far.
    """
    quarter = equation.rescaled(0.25)
    power = np.log(float(quarter.time_per_step() / equation.time_per_step())) / np.log(0.25)
    fine = equation.rescaled(float(_FINE) ** (-1 / power))
    start = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
    distances = []
    for member, steps in ((equation, _COARSE), (fine, _COARSE * _FINE)):
        both = np.asarray(_runs(member, params, jnp.asarray(steps)), float)[:, :steps]
        way = np.max(np.linalg.norm(both[0] - start, axis=1))
        if not way > 0:
            return None
        if not np.isfinite(way):  # the algorithm itself diverges on these gradients
            return None
        distance = np.max(np.linalg.norm(both[0] - both[1], axis=1)) / way
        distances.append(distance if np.isfinite(distance) else np.inf)
    return distances[0], distances[1]


def _gradient(params: PyTree, phase: Array) -> PyTree:
    """Gradients of order one, some of which change their sign from phase 0 to 1."""

    def one(place, leaf):
        index = jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape) + 0.7 * place
        return (jnp.cos(1.3 * index) + 0.8 * jnp.cos(2 * jnp.pi * phase + 2.1 * index)).astype(leaf.dtype)

    leaves, treedef = jax.tree.flatten(params)
    return jax.tree.unflatten(treedef, [one(*pair) for pair in enumerate(leaves)])


@quick_jit(level=0)
def _runs(equation: AbstractIncrement, params: PyTree, steps: Array) -> Array:
    """Parameters after every step of the algorithm and of its equation, shape `(2, _COARSE * _FINE, parameters)`.

    One loop over stages serves both, so that the algorithm is compiled once: its step is a stage of weight 1.
    """
    dtype = jax.tree.leaves(params)[0].dtype
    ahead, weights = (jnp.asarray(row, dtype) for row in _STAGES)
    begin, eta = equation.init(params), equation.learning_rate
    # As `start` has it: a second moment begins with the algorithm's own step.
    own = 1 if any(jax.tree.leaves(equation.squares(begin))) else 0
    flat = lambda state: jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state.params)])  # noqa: E731

    def run(plain):
        def step(k, carry):
            state, saved = carry
            whole = plain | (k < own)
            gradient = _gradient(params, (k / steps).astype(dtype))
            averages, counts = equation.split(state)

            def stage(j, carry):
                total, last, later = carry
                here = moved(averages, (eta * jnp.where(whole, 0, ahead[j]), last))
                rate = equation.velocity(jnp.zeros((), dtype), eqx.combine(here, counts), gradient)
                counted = equation.split(moved(state, (eta, rate)))[1]
                later = jax.tree.map(lambda new, old: jnp.where(j == 0, new, old), counted, later)
                rate = eqx.filter(rate, equation.averages(state.params))
                return moved(total, (eta * jnp.where(whole, 1, weights[j]), rate)), rate, later

            still = jax.tree.map(jnp.zeros_like, averages)
            averages, _, counts = jax.lax.fori_loop(0, jnp.where(whole, 1, 4), stage, (averages, still, counts))
            state = eqx.combine(averages, counts)
            return state, saved.at[k].set(flat(state))

        room = jnp.zeros((_COARSE * _FINE, flat(begin).size), dtype)
        return jax.lax.fori_loop(0, steps, step, (begin, room))[1]

    return jax.lax.map(run, jnp.array([True, False]))


@quick_jit(level=0)
def _lengths(equation: AbstractIncrement, params: PyTree) -> Array:
    twin, gradient = equation.twin(), _gradient(params, jnp.zeros(()))

    def step(carry, _):
        params, memory = carry
        updates, after = twin.update(gradient, memory, params)
        after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, memory)
        length = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(updates)))
        return (optax.apply_updates(params, updates), after), length

    with jax.numpy_dtype_promotion("standard"):
        memory = jax.tree.map(jnp.asarray, twin.init(params))
        return jax.lax.scan(step, (params, memory), None, length=64)[1]


def lengths(equation: AbstractIncrement, params: PyTree, factor: float = 1.0) -> np.ndarray:
    """How far the algorithm moves in each of 64 steps under one gradient, at `factor` times the learning rate alone."""
    slower = eqx.tree_at(lambda e: e.learning_rate, equation, equation.learning_rate * factor)
    return np.asarray(_lengths(slower, params), float)


def accumulated(equation: AbstractIncrement, params: PyTree) -> int | None:
    """The number of steps of which the algorithm moves in one only, where it does so periodically."""
    moving = np.flatnonzero(lengths(equation, params) > 0)
    gaps = set(np.diff(moving).tolist())
    return gaps.pop() if len(moving) >= 3 and len(gaps) == 1 and gaps != {1} else None


def accumulation(every: int, batch_size: int | None) -> str:
    """What there is instead of an equation of gradients gathered over `every` steps."""
    batch = f"batch_size={every * batch_size}" if batch_size is not None else f"{every} times the batch"
    return (
        f"Argument `factory` must move in every step, but its optimizer gathers gradients and moves in one of {every}. "
        f"With replacement that is exactly the optimizer inside with {batch}: at the same learning rate where they are "
        f"averaged, as in optax.MultiSteps, at {every} times the learning rate where they are summed, as in "
        f"optax.apply_every; a step then stands for {every}."
    )

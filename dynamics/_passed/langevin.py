r"""Underdamped Langevin equations in the form of Diffrax's solvers for them.

    dx = V dt,    dV = -(gamma V + u grad f(x)) dt + sqrt(2 gamma u) dW,

read off drift and diffusion of a dynamics whose state is a pair (x, v) with dx = a v dt, dv = (F(x) - gamma v) dt + s dW:
V = a v, u = (a s)^2/(2 gamma), grad f = -a F/u; a, gamma and s are constants of each coordinate. In the time of steps of
length h that is a h in place of a, gamma h, u h^2, and the same grad f.
"""

from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations import AbstractDynamics
from equations.internal import abstract_value, quick_jit, silent, zeros_of

_OFF = 1e-3
_REASONS = (
    "whose positions move with their velocities alone, dx = a v dt",
    "whose friction is a positive constant of each coordinate, dv = (F(x) - gamma v) dt, at all times",
    "whose noise is constant and acts on the velocities, each with a number of its own, at a temperature above zero",
)


class Reduced(NamedTuple):
    """A Langevin equation in the time of steps of length `dt`: `ratio` a h, `friction` gamma h, `damping` u h^2, like the
    positions, and how a state is made of halves."""

    ratio: PyTree
    friction: PyTree
    damping: PyTree
    dt: Array
    treedef: Any

    def encode(self, state: PyTree) -> tuple[PyTree, PyTree]:
        """(x, V) of a state."""
        x, v = halves(state)[0]
        return x, jax.tree.map(jnp.multiply, self.ratio, v)

    def decode(self, pair: tuple[PyTree, PyTree]) -> PyTree:
        """The state of (x, V)."""
        x, velocity = pair
        return self.treedef.unflatten((x, jax.tree.map(jnp.divide, velocity, self.ratio)))

    def terms(self, dynamics: AbstractDynamics, signal: Any, path: Any) -> dfx.MultiTerm:
        """Diffrax's terms."""

        def grad_f(x, args):
            state = self.treedef.unflatten((x, jax.tree.map(jnp.zeros_like, x)))
            force = halves(dynamics.drift(jnp.zeros_like(self.dt), state, signal))[0][1]

            def leaf(f, a, u, y):
                return (-a * self.dt * f / u).astype(y.dtype)

            return jax.tree.map(leaf, force, self.ratio, self.damping, x)

        return dfx.MultiTerm(
            dfx.UnderdampedLangevinDriftTerm(self.friction, self.damping, grad_f),
            dfx.UnderdampedLangevinDiffusionTerm(self.friction, self.damping, path),
        )


def halves(state: PyTree) -> tuple[list, Any]:
    """The parts of a state, and how it is made of them."""
    return jax.tree.flatten(state, is_leaf=lambda node: node is not state)


def reduced(dynamics: AbstractDynamics, signal: Any, state: PyTree, dt: Array) -> Reduced:
    """The constants of a Langevin equation, from its drift and diffusion at a state, for steps of length dt."""
    (x, v), treedef = halves(state)
    time = jnp.zeros((), jnp.result_type(*jax.tree.leaves(state)))
    ones = jax.tree.map(jnp.ones_like, v)

    def drift(velocities):
        return tuple(halves(dynamics.drift(time, treedef.unflatten((x, velocities)), signal))[0])

    ratio, friction = jax.jvp(drift, (jax.tree.map(jnp.zeros_like, v),), (ones,))[1]
    friction = jax.tree.map(jnp.negative, friction)
    operator: Any = dynamics.diffusion(time, state, signal)
    root = halves(operator.mv(jax.tree.map(jnp.ones_like, zeros_of(operator.in_structure()))))[0][1]
    damping = jax.tree.map(lambda a, s, g: (a * s) ** 2 / (2 * g), ratio, root, friction)

    def scaled(factor, part):
        return jax.tree.map(lambda leaf, y: (factor * leaf).astype(y.dtype), part, x)

    return Reduced(scaled(dt, ratio), scaled(dt, friction), scaled(dt**2, damping), dt, treedef)


def obstacle(dynamics: AbstractDynamics, signal: Any, params: PyTree, time: Array) -> str | None:
    """What keeps a dynamics from being an underdamped Langevin equation; None: nothing, or nothing that a trace shows."""
    shapes, normals = abstract_value(_state_and_normals, dynamics, signal, params)
    parts, _ = halves(shapes)
    if len(parts) != 2 or _shapes(parts[0]) != _shapes(parts[1]):
        return "whose state is a pair of positions and velocities, alike in structure"
    if _leaves(normals) not in (_leaves(parts[1]), _leaves(shapes)):
        return _REASONS[2]
    if silent((dynamics, signal, params, time)):
        return None
    off = [float(number) for number in _off(dynamics, signal, params, time)]  # whose answer is one of values
    return next((reason for reason, number in zip(_REASONS, off, strict=True) if not number <= _OFF), None)


def _state_and_normals(dynamics, signal, params):
    state = dynamics.init(params)
    time = jnp.zeros((), jnp.result_type(*jax.tree.leaves(state)))
    return state, zeros_of(dynamics.diffusion(time, state, signal).in_structure())


def _shapes(part):
    return jax.tree.structure(part), _leaves(part)


def _leaves(part):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(part)]


@quick_jit(0)
def _off(dynamics, signal, params, time) -> Array:
    """By how much, relative to its size, each of `_REASONS` is not so; infinite where a constant has no value."""
    begin = dynamics.init(params)
    found = reduced(dynamics, signal, begin, jnp.ones_like(time))
    (x, v), treedef = halves(begin)
    structure = dynamics.diffusion(time, begin, signal).in_structure()
    root = halves(dynamics.diffusion(time, begin, signal).mv(jax.tree.map(jnp.ones_like, zeros_of(structure))))[0][1]

    def one(item):
        key, t = item
        keys = jax.random.split(key, 3)
        place = jax.tree.map(jnp.add, x, _normals(x, keys[0]))
        speed = _normals(v, keys[1])
        state = treedef.unflatten((place, speed))
        moves, forces = halves(dynamics.drift(t, state, signal))[0]
        still = treedef.unflatten((place, jax.tree.map(jnp.zeros_like, speed)))
        force = halves(dynamics.drift(time * 0, still, signal))[0][1]
        normals = _normals(structure, keys[2])
        drawn = halves(dynamics.diffusion(t, state, signal).mv(normals))[0]
        own = jax.tree.leaves(normals)[-len(jax.tree.leaves(v)) :]
        own = jax.tree.unflatten(jax.tree.structure(v), own)
        wanted = jax.tree.map(jnp.multiply, found.ratio, speed)
        slowed = jax.tree.map(lambda f, g, s: f - g * s, force, found.friction, speed)
        kicked = jax.tree.map(jnp.multiply, root, own)
        return jnp.stack(
            [_relative(moves, wanted), _relative(forces, slowed), _relative(drawn[1], kicked) + _size(drawn[0])]
        )

    times = time * jnp.arange(1.0, 4.0, dtype=time.dtype)
    off = jnp.max(jax.lax.map(one, (jax.random.split(jax.random.key(13), 3), times)), axis=0)
    sound = jnp.stack([_all(found.ratio, nonzero=True), _all(found.friction), _all(found.damping)])
    return jnp.where(sound & jnp.isfinite(off), off, jnp.inf)


def _normals(structure, key) -> PyTree:
    leaves, treedef = jax.tree.flatten(structure)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        treedef, [jax.random.normal(k, y.shape, y.dtype) for k, y in zip(keys, leaves, strict=True)]
    )


def _size(tree) -> Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def _relative(given, wanted) -> Array:
    size = _size(given) + _size(wanted)
    return _size(jax.tree.map(jnp.subtract, given, wanted)) / jnp.where(size > 0, size, 1)


def _all(tree, nonzero: bool = False) -> Array:
    """Whether all numbers are positive, or none is zero."""
    test = (lambda leaf: leaf != 0) if nonzero else (lambda leaf: (leaf > 0) & jnp.isfinite(leaf))
    return jnp.all(jnp.stack([jnp.all(test(leaf)) for leaf in jax.tree.leaves(tree)]))

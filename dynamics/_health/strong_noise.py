"""Whether the noise of a solver's step is small: how much a kick changes the next one, at once or through the flow."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, PyTree

from equations.internal import quick_jit, split

# A pair of kicks is right in the moments to second order, but typical paths need smaller kicks, as `typical.py` says.
# Single examples at eta lambda = .25 have a change of .31 to .46, with a covariance right to .05 of the model error.
LARGEST = 0.6
# Where the noise outweighs the flow, the mean square follows a few paths, and the typical one is of interest.
LARGEST_ALONE = 0.3
# Through the flow. Momentum on single examples at eta lambda = .25 has .35, of batches of 16 at 2 it has 1.1, and the mean
# square is then wrong by a factor of 100 after 60 steps.
LARGEST_THROUGH = 0.45
# Draws where the state has more numbers than `_SMALL`, and where it has not; and more of them, where numbers times examples
# are few.
_FEW, _MANY, _SMALL = 2, 32, 64
_MORE = ((2_000, 256), (1_000_000, 8))
_ROUNDED = 4  # units in the last place of the parameters, of which kicks are rounding
# Of states and examples: beyond, a program that is compiled in a hurry runs for longer than that takes.
_HURRY = 5_000_000
# Of the mean square of a coordinate's changes: more than this share is by its own kicks, where these matter. Of a batch all
# of it, for one coordinate may have next to no noise by chance.
_OWN, _ALL = 0.5, 0.95


def changes(dynamics, signal, t: ArrayLike, state: PyTree, dt: ArrayLike, count=None) -> tuple[Any, Any, PyTree]:
    """The relative change of a kick by the kick before it, that along the kick before, and some kicks, leaves
    `(draws, ...)`.

    For dX = s X dW the change is s sqrt(dt): a root of a ratio of mean squares, over all coordinates; where the state is
    small also that of each coordinate by itself, `(1 + numbers,)`, for a noise of one's own (`_apart`), which another's
    large noise does not hide. Along the kick before it is what decides how typical paths grow (`typical.py`), again with
    each coordinate of a small state: what turns a kick aside, as in a network, is no loss of its size.

    Signs stand in for normals, so that few draws do; where a state is small there are more of them, for there are fewer
    numbers in it to average over. One kick is compiled, and all else done by NumPy. `count`: the training step at which
    what is counted is held.
    """
    draws = _draws(signal, state)
    kicked = _kicked_few if is_quick(signal, state) else _kicked_many
    begin = jax.tree.map(lambda y: np.zeros((draws, *y.shape), y.dtype), state)
    kicks, sizes, here = kicked(dynamics, signal, t, state, begin, dt, count)  # every kick from the state
    _, again, _ = kicked(dynamics, signal, t, state, kicks, dt, count)  # and each from where its neighbor leads
    sizes, changed, here = np.asarray(sizes), np.asarray(again) - np.asarray(sizes), np.asarray(here)
    # Parameters that are kicked through their memory only have kicks of a few units in the last place.
    lost = (_ROUNDED * np.finfo(here.dtype).eps) ** 2 * np.sum(here**2)
    total = along = np.zeros(1)
    if np.mean(np.sum(sizes**2, 1)) > lost:
        total = np.sqrt(_share(np.sum(changed**2), np.sum(sizes**2)))[None]
        along = _along(changed, sizes)
    if not _is_small(state):
        return total, along, kicks
    apart = _apart(dynamics, state)
    own = _own(changed, sizes, _OWN if apart else _ALL)
    return np.append(total, own) if apart else total, np.append(along, own), kicks


def _is_small(state: PyTree) -> bool:
    return sum(leaf.size for leaf in jax.tree.leaves(state)) <= _SMALL


def _draws(signal: Any, state: PyTree) -> int:
    """How many kicks are looked at."""
    more = [draws for most, draws in _MORE if _work(signal, state) <= most]
    return max(_MANY if _is_small(state) else _FEW, *more, 0)


def _along(changed: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The relative change of kicks along the kick before, `(1,)`, from kicks and their differences `(draws, numbers)`."""
    before = np.roll(sizes, 1, axis=0)
    part = _share(np.sum(changed * before, 1) ** 2, np.sum(before**2, 1))
    return np.sqrt(_share(np.sum(part), np.sum(sizes**2)))[None]


def is_quick(signal: Any, state: PyTree) -> bool:
    """Whether compiling takes longer than running, so that it is better done in a hurry."""
    return _work(signal, state) <= _HURRY


def _work(signal: Any, state: PyTree) -> int:
    """The numbers of a state times the examples."""
    arrays = [leaf for leaf in jax.tree.leaves(signal) if eqx.is_array(leaf) and leaf.ndim]
    examples = max((len(leaf) for leaf in arrays), default=1)
    return sum(leaf.size for leaf in jax.tree.leaves(state)) * examples


def held_at(dynamics, count):
    """What is counted held at a training step, unless that is None."""
    return dynamics if count is None else dynamics.held(count)


def _kicked(one_by_one: bool):
    """A program for kicks with signs of their own, each after its neighbor's kick `before`, leaves `(draws, ...)`.

    It returns them, and as rows those of the parameters, `(draws, numbers)`, and the parameters themselves, `(1, numbers)`.
    """

    def kicked(dynamics, signal, t, state, before, dt, count):
        dynamics = held_at(dynamics, count)
        structure = split(dynamics).noise(state, signal, 2)

        def kick(row, before):
            at = jax.tree.map(jnp.add, state, before)
            kick = split(dynamics).kick(t, at, signal, _signs(structure, row), dt)
            return jax.tree.map(lambda k, y: k.astype(y.dtype), kick, state)

        draws = jax.tree.leaves(before)[0].shape[0]
        rows = jnp.arange(draws), jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), before)
        kicks = jax.lax.map(lambda row: kick(*row), rows) if one_by_one else jax.vmap(kick)(*rows)
        return kicks, _flat(dynamics, kicks), _flat(dynamics, jax.tree.map(lambda leaf: leaf[None], state))

    return kicked


_kicked_few, _kicked_many = quick_jit(level=0)(_kicked(True)), quick_jit(level=1)(_kicked(False))


def _apart(dynamics, state: PyTree) -> bool:
    """Whether coordinates are looked at by themselves: one of a batch may have next to no noise by chance."""
    return _is_small(state) and not split(dynamics).noise_is_of_a_gradient


def _own(changed: np.ndarray, sizes: np.ndarray, enough: float) -> np.ndarray:
    """The changes of coordinates by their own kicks, `(numbers,)`, from kicks and their differences `(draws, numbers)`.

    A change by its own kick is in proportion to the product of both kicks; what is not, is another coordinate's doing, and
    of no concern where the typical size of this one is asked for, unless its own is more than `enough` of the whole.
    """
    product = np.roll(sizes, 1, axis=0) * sizes  # of a kick and the one before it
    both, squares, own = np.sum(changed * product, 0), np.sum(product**2, 0), np.sum(changed**2, 0)
    explained = both**2 > enough * squares * own
    return np.where(explained, np.abs(_share(both, squares)) * np.sqrt(np.mean(sizes**2, 0)), 0)


def _share(a: Any, b: Any) -> np.ndarray:
    return np.where(b > 0, a / np.where(b > 0, b, 1), 0)


def through_flow(dynamics, signal, t: Array, state: PyTree, dt: Array) -> Array:
    """The relative change of a kick by the kick of the step before, whole steps of the splitting lying between the two.

    Of noise in velocities that depends on positions alone: for dx = v dt, dv = s x dW it is s dt^(3/2). What such a step
    adds in error to the growth of the mean square, per step of the solver, is a tenth to a quarter of its square
    (momentum on one weight with Gaussian inputs, against the matrix exponential of its second moments). A mean over the
    states of a path of the ratio at each: of sums over them the few largest would decide.
    """
    structure = split(dynamics).noise(state, signal, 2)
    begin, unravel = ravel_pytree(state)  # of one vector there are fewer operations to compile than of many leaves
    draws, dt = 1 if begin.size > _SMALL else 4 * _MANY, dt.astype(begin.dtype)
    ravel = lambda tree: ravel_pytree(jax.tree.map(lambda k, y: k.astype(y.dtype), tree, state))[0]  # noqa: E731

    def kick(y, normals):
        return ravel(split(dynamics).kick(t, unravel(y), signal, normals, dt))

    def flow(y):  # by the midpoint; one flow is compiled, as one kick is
        def stage(at, share):
            return y + share * dt * ravel(split(dynamics).flow(t, unravel(at), signal)), None

        return jax.lax.scan(stage, y, jnp.asarray([0.5, 1.0], dt.dtype))[0]

    def body(carry, place):
        # A pair of states, of which the first alone is kicked by noise in the even rounds; the odd ones compare kicks. The
        # first goes on: of one state alone the ratio is anything from half to twice that of the states of a path.
        pair, total, count = carry
        pair = jnp.where(place % 2 == 0, pair[0], pair)
        signs = jax.tree.map(lambda sign: jnp.stack([sign, -sign, sign, -sign]), _signs(structure, place))
        # A loop is compiled in less time than an axis.
        kicks = jax.lax.map(lambda at: kick(*at), (jnp.repeat(pair, 2, axis=0), signs))
        mean, noise = (kicks[::2] + kicks[1::2]) / 2, (kicks[::2] - kicks[1::2]) / 2
        after = (pair + mean).at[0].add(noise[0])
        ratio = _root(jnp.sum(jnp.square(noise[0] - noise[1])), jnp.sum(jnp.square(noise[1])))
        taken = (place % 2 == 1) & jnp.isfinite(ratio)  # the path may diverge
        return (jax.lax.map(flow, after), total + jnp.where(taken, ratio, 0), count + taken.astype(total.dtype)), None

    zero = jnp.zeros((), begin.dtype)
    (_, total, count), _ = jax.lax.scan(body, (jnp.stack([begin, begin]), zero, zero), jnp.arange(2 * draws))
    return total / jnp.maximum(count, 1)


def bending(dynamics, signal, t: Array, state: PyTree, kicks: PyTree) -> tuple[Array, Array]:
    """The change of the flow by a kick, over the kick, and its part along the kick: for dX = a X dt + s X dW they are |a|
    and a; each as many as of `changes`."""
    before = split(dynamics).flow(t, state, signal)

    def one(kick):
        after = split(dynamics).flow(t, jax.tree.map(jnp.add, state, kick), signal)
        return jax.tree.map(jnp.subtract, after, before)

    changed, sizes = (_flat(dynamics, tree) for tree in (jax.lax.map(one, kicks), kicks))
    squares, product = sizes**2, changed * sizes
    total, along = _root(jnp.sum(changed**2), jnp.sum(squares))[None], _ratio(jnp.sum(product), jnp.sum(squares))[None]
    if not _is_small(state):
        return total, along
    along = jnp.append(along, _ratio(jnp.sum(product, 0), jnp.sum(squares, 0)))
    if not _apart(dynamics, state):
        return total, along
    return jnp.append(total, _root(jnp.sum(changed**2, 0), jnp.sum(squares, 0))), along


def _signs(structure: PyTree, draw: Array) -> PyTree:
    """Random signs of draw number `draw`: of a hash, for a generator takes as long to compile as many a kick."""
    leaves, treedef = jax.tree.flatten(structure)

    def one(place, leaf):
        index = jax.lax.iota(jnp.uint32, leaf.size) + jnp.uint32(0x632BE5AB * (place + 1) % 2**32)
        bits = index * jnp.uint32(0x9E3779B1) ^ (draw.astype(jnp.uint32) + 1) * jnp.uint32(0x85EBCA6B)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
        return jnp.where(bits >> 31, -1, 1).astype(leaf.dtype).reshape(leaf.shape)

    return jax.tree.unflatten(treedef, [one(*pair) for pair in enumerate(leaves)])


def _flat(dynamics, trees) -> Array:
    """The parameters of some states, `(draws, numbers)`."""
    leaves = jax.tree.leaves(jax.vmap(dynamics.params)(trees))
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def _root(a: Array, b: Array) -> Array:
    return jnp.sqrt(_ratio(a, b))


def _ratio(a: Array, b: Array) -> Array:
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)

"""Whether the noise of a solver's step is small: how much a kick changes the next one, at once or through the flow."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from equations.internal import split

# A pair of kicks is right in the moments to second order, but typical paths need small kicks: for dX = s X dW the exponent
# -s^2/2 comes out 8 % too large at s^2 dt = .1 and 25 % at .25 (4e6 draws). Single examples at eta lambda = .25 have a
# change of .31 to .46, with a covariance right to .05 of the model error.
LARGEST = 0.6
# Where the noise outweighs the flow, the mean square follows a few paths, and the typical one is of interest.
LARGEST_ALONE = 0.3
# Through the flow. Momentum on single examples at eta lambda = .25 has .35, of batches of 16 at 2 it has 1.1, and the mean
# square is then wrong by a factor of 100 after 60 steps.
LARGEST_THROUGH = 0.45
# Draws where the state has more numbers than `_SMALL`, and where it has not.
_FEW, _MANY, _SMALL = 2, 32, 64
_ROUNDED = 4  # units in the last place of the parameters, of which kicks are rounding
# Of the mean square of a coordinate's changes: more than this share is by its own kicks, where these matter.
_OWN = 0.5


def changes(dynamics, signal, t: Array, state: PyTree, dt: Array) -> tuple[Array, PyTree]:
    """The relative change of a kick by the kick before it, and some kicks, leaves `(draws, ...)`.

    For dX = s X dW the change is s sqrt(dt): a root of a ratio of mean squares, over all coordinates; where the state is
    small also that of each coordinate by itself, `(1 + numbers,)`, for a noise of one's own (`_apart`), which another's
    large noise does not hide. Signs stand in for normals, so that few draws do; where a state is small there are more of
    them, for there are fewer numbers in it to average over.
    """
    structure = split(dynamics).noise(state, signal, 2)
    draws = _FEW if sum(leaf.size for leaf in jax.tree.leaves(state)) > _SMALL else _MANY

    def kick(row, before):
        at = jax.tree.map(jnp.add, state, before)
        kick = split(dynamics).kick(t, at, signal, _signs(structure, row), dt)
        return jax.tree.map(lambda k, y: k.astype(y.dtype), kick, state)

    def body(before, _):
        # First every kick from the state, then each again from where its neighbor leads: one kick is compiled.
        kicks = jax.lax.map(lambda row: kick(*row), (jnp.arange(draws), before))
        return jax.tree.map(lambda k: jnp.roll(k, 1, axis=0), kicks), kicks

    empty = jax.tree.map(lambda y: jnp.zeros((draws, *y.shape), y.dtype), state)
    _, both = jax.lax.scan(body, empty, None, length=2)
    kicks, differences = (jax.tree.map(part, both) for part in (lambda k: k[0], lambda k: k[1] - k[0]))
    changed, sizes = _flat(dynamics, differences), _flat(dynamics, kicks)
    # Parameters that are kicked through their memory only have kicks of a few units in the last place.
    here = _flat(dynamics, jax.tree.map(lambda leaf: leaf[None], state))
    lost = (_ROUNDED * jnp.finfo(here.dtype).eps) ** 2 * jnp.sum(here**2)
    total = jnp.where(jnp.mean(jnp.sum(sizes**2, 1)) > lost, _root(jnp.sum(changed**2), jnp.sum(sizes**2)), 0)[None]
    return (jnp.append(total, _own(changed, sizes)) if _apart(dynamics, draws) else total), kicks


def _apart(dynamics, draws: int) -> bool:
    """Whether coordinates are looked at by themselves: one of a batch may have next to no noise by chance."""
    return draws == _MANY and not split(dynamics).noise_is_of_a_gradient


def _own(changed: Array, sizes: Array) -> Array:
    """The changes of coordinates by their own kicks, `(numbers,)`, from kicks and their differences `(draws, numbers)`.

    A change by its own kick is in proportion to the product of both kicks; what is not, is another coordinate's doing, and
    of no concern where the typical size of this one is asked for.
    """
    product = jnp.roll(sizes, 1, axis=0) * sizes  # of a kick and the one before it
    both, squares, own = jnp.sum(changed * product, 0), jnp.sum(product**2, 0), jnp.sum(changed**2, 0)
    explained = both**2 > _OWN * squares * own
    return jnp.where(explained, jnp.abs(_ratio(both, squares)) * jnp.sqrt(jnp.mean(sizes**2, 0)), 0)


def through_flow(dynamics, signal, t: Array, state: PyTree, dt: Array) -> Array:
    """The relative change of a kick by the kick of the step before, whole steps of the splitting lying between the two.

    Of noise in velocities that depends on positions alone: for dx = v dt, dv = s x dW it is s dt^(3/2). What such a step
    adds in error to the growth of the mean square, per step of the solver, is a tenth to a quarter of its square
    (momentum on one weight with Gaussian inputs, against the matrix exponential of its second moments). A mean over the
    states of a path of the ratio at each: of sums over them the few largest would decide.
    """
    structure = split(dynamics).noise(state, signal, 2)
    draws = 1 if sum(leaf.size for leaf in jax.tree.leaves(state)) > _SMALL else 4 * _MANY

    def kick(y, normals):
        kick = split(dynamics).kick(t, y, signal, normals, dt)
        return jax.tree.map(lambda k, y: k.astype(y.dtype), kick, y)

    def flow(y):  # by the midpoint; one flow is compiled, as one kick is
        def stage(at, share):
            rate = split(dynamics).flow(t, at, signal)
            return jax.tree.map(lambda y, f: (y + (share * dt).astype(f.dtype) * f).astype(y.dtype), y, rate), None

        return jax.lax.scan(stage, y, jnp.asarray([0.5, 1.0], dt.dtype))[0]

    def body(carry, place):
        # A pair of states, of which the first alone is kicked by noise in the even rounds; the odd ones compare kicks. The
        # first goes on: of one state alone the ratio is anything from half to twice that of the states of a path.
        pair, total, count = carry
        pair = jax.tree.map(lambda p: jnp.where(place % 2 == 0, jnp.stack([p[0], p[0]]), p), pair)
        both = jax.tree.map(lambda sign: jnp.stack([sign, -sign]), _signs(structure, place))
        grid = jax.vmap(jax.vmap(kick, (None, 0)), (0, None))(pair, both)
        mean, noise = (jax.tree.map(lambda k, s=s: (k[:, 0] + s * k[:, 1]) / 2, grid) for s in (1, -1))
        off = [jnp.sum(jnp.square(leaf[0] - leaf[1])) for leaf in jax.tree.leaves(noise)]
        whole = [jnp.sum(jnp.square(leaf[1])) for leaf in jax.tree.leaves(noise)]
        after = jax.tree.map(lambda y, m, n: (y + m).at[0].add(n[0]), pair, mean, noise)
        ratio = _root(jnp.sum(jnp.stack(off)), jnp.sum(jnp.stack(whole)))
        taken = (place % 2 == 1) & jnp.isfinite(ratio)  # the path may diverge
        return (jax.vmap(flow)(after), total + jnp.where(taken, ratio, 0), count + taken.astype(total.dtype)), None

    begin = jax.tree.map(lambda y: jnp.stack([y, y]), state)
    zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(state)))
    (_, total, count), _ = jax.lax.scan(body, (begin, zero, zero), jnp.arange(2 * draws))
    return total / jnp.maximum(count, 1)


def bending(dynamics, signal, t: Array, state: PyTree, kicks: PyTree) -> Array:
    """The change of the flow by a kick, over the kick: for dX = a X dt + s X dW it is |a|; as many as of `changes`."""
    before = split(dynamics).flow(t, state, signal)

    def one(kick):
        after = split(dynamics).flow(t, jax.tree.map(jnp.add, state, kick), signal)
        return jax.tree.map(jnp.subtract, after, before)

    changed, sizes = (_flat(dynamics, tree) ** 2 for tree in (jax.lax.map(one, kicks), kicks))
    total = _root(jnp.sum(changed), jnp.sum(sizes))[None]
    own = _root(jnp.sum(changed, 0), jnp.sum(sizes, 0))
    return jnp.append(total, own) if _apart(dynamics, sizes.shape[0]) else total


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

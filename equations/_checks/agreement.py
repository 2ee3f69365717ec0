"""Whether a splitting of the user's is one of his drift and his diffusion, tried on numbers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._jaxpr.structure import is_affine
from .._splitting import Splitting, split
from .._tree import normals_of, zeros_of
from .declared import moved_state
from .facts import root, told_by
from .lineage import definer, is_ours, ours, within
from .once import once, quick_jit, silent

_PARTS = 32  # of a training step is a time in which only what is of leading order is left
_DRAWS = 256
_OFF = 0.02  # relative to the larger side; half of it to the changes of a kick by another one
_ERRORS = 6.0  # standard errors


def check_agreement(dynamics: Any, signal: Any, params: PyTree, dt: Any) -> None:
    """Raises a ValueError where flow and kick of a user's splitting are together another equation than drift and diffusion.

    To leading order in the time of a kick: flow dt + mean of the kick = drift dt, covariance of the kick = that of the
    diffusion, and the same of `euler`; and that a kick does not change the next one where one is enough. Where the kick is
    linear in its normal numbers, exactly; else over fixed draws, in standard errors. Of a dynamics without a diffusion the
    noise is what the kick says. Silent under a trace; made once.

    **Arguments:** `params`, what is trained; `dt`, the time of a training step.
    """
    for inner in within(dynamics):
        kind = type(inner)
        if told_by(kind).reads == "twin":
            return  # what is inside is the twin alone
        if not is_ours(definer(kind, "splitting")) and not silent((inner, signal, params, dt)):
            once(_refuse, inner, signal, params, dt)


def _refuse(dynamics, signal, params, dt) -> None:
    found = _found(dynamics, signal, params, dt)
    kind, part = type(dynamics), type(split(dynamics))
    wording = "Argument `equation` must have a splitting"
    for off, what, members in (
        (found.mean, "whose flow and mean of the kick are together its drift", ("flow", "kick", "noise")),
        (found.spread, "whose kick has the covariance of its diffusion", ("kick", "noise", "clip_noise")),
        (found.euler, "whose Euler step has the moments of its drift and its diffusion", ("euler",)),
        (found.change, "in which no kick changes the next one where `kicks` is 1, as by `leapfrog`", ("kicks",)),
    ):
        if float(off) > 1:
            own = [name for name in members if name in dir(part) and not is_ours(definer(part, name))]
            mine = [f"{part.__name__}.{name}" for name in own]
            named = " and ".join(mine) or f"{kind.__name__}.splitting"
            raise ValueError(
                f"{wording} {what}, to leading order in the time of a kick, but {named} gives another one."
            )


class _Found(NamedTuple):
    """By how much each is off, in what it may be."""

    mean: Array | float
    spread: Array | float
    euler: Array | float
    change: Array | float


class _Sides(NamedTuple):
    """What is compared with what, known of the class: whether drift and diffusion tell moments that are exact."""

    drift: bool
    diffusion: bool
    silent: bool  # whether nobody but the kick tells of the noise
    euler: bool


def _sides(dynamics, state) -> _Sides:
    kind, part = type(dynamics), type(split(dynamics))
    algorithm = dynamics.series().discrete
    exact = not algorithm or dynamics.is_affine(state)
    diffusion = definer(kind, "diffusion")
    return _Sides(
        drift=exact or not is_ours(definer(kind, "drift")),
        diffusion=exact or not is_ours(diffusion),
        silent=diffusion is root(kind) and definer(part, "kick") is not Splitting,
        euler=not is_ours(definer(part, "euler")),
    )


@quick_jit(0)
def _found(dynamics, signal, params, dt) -> _Found:
    state = moved_state(dynamics, dynamics.init(params), jax.random.key(2), jnp.asarray(0.1), jnp.asarray(True))
    state = jax.lax.stop_gradient(state)
    dtype = jnp.result_type(*jax.tree.leaves(state))
    time = dt.astype(dtype)
    sides, splitting = _sides(dynamics, state), split(dynamics)
    structure = splitting.noise(state, signal, _PARTS)
    t = 4 * time

    def kick(normals, h, state=state):
        try:
            return splitting.kick(t, state, signal, normals, h)
        except Exception:
            if structure is not None or splitting.kicks_have_a_mean(state):
                raise
            return jax.tree.map(jnp.zeros_like, state)  # without noise none is asked for, but by a splitting solver

    zeros = zeros_of(structure)
    try:
        linear = is_affine(lambda n: kick(n, time), zeros) and sides.drift and (sides.diffusion or structure is None)
    except Exception:  # its trace fails on numbers that it is not made for
        linear = False
    change = _change(kick, state, structure, time) if splitting.kicks == 1 and linear else 0.0
    if not linear:
        return _drawn(dynamics, signal, state, t, time, sides)._replace(change=change)
    flow, drift = splitting.flow(t, state, signal), dynamics.drift(t, state, signal)
    operator = dynamics.diffusion(t, state, signal)
    root = None if operator is None else (lambda n: operator.mv(n), zeros_of(operator.in_structure()))
    mean, spread = _compared(kick, zeros, flow, drift, root, state, time)
    euler = 0.0
    if sides.euler:
        none = jax.tree.map(jnp.zeros_like, state)
        euler = jnp.maximum(
            *_compared(lambda n, h: splitting.euler(t, state, signal, n, h), zeros, none, drift, root, state, time)
        )
    if sides.silent:
        spread = 0.0
        euler = euler if root is not None else 0.0
    return _Found(mean, spread, euler, change)


def _sizes(tree) -> Array:
    """The norm of each leaf."""
    return jnp.stack([jnp.linalg.norm(leaf.ravel()) for leaf in jax.tree.leaves(tree)])


def _extrapolated(function, time) -> Any:
    """What a function of a short time becomes at none."""
    both = jax.lax.map(function, time / jnp.array([_PARTS, 2 * _PARTS], time.dtype))  # so it is traced once
    return jax.tree.map(lambda leaf: 2 * leaf[1] - leaf[0], both)


def _compared(kick, zeros, flow, drift, root, state, time) -> tuple[Array, Array]:
    """Mean and covariance of flow + kick against drift and diffusion, of a kick that is linear in its normals."""

    def mean(h):
        return jax.tree.map(lambda leaf: leaf / h, kick(zeros, h))

    first = _extrapolated(mean, time)
    off = jax.tree.map(lambda f, k, d: f + k - d, flow, first, drift)
    scale = jnp.maximum(_sizes(flow) + _sizes(first), _sizes(drift))
    rounding = 100 * jnp.finfo(scale.dtype).eps * _sizes(state) / (time / (2 * _PARTS))
    leaves, treedef = jax.tree.flatten(state)
    random = normals_of(state, jax.random.key(3))

    def squares(number):
        """|J' v|^2 of both roots, v on one leaf or, after the last, on all."""
        parts = [
            jnp.where((number == i) | (number == len(leaves)), leaf, 0)
            for i, leaf in enumerate(jax.tree.leaves(random))
        ]
        v = jax.tree.unflatten(treedef, parts)

        def square(function, at, h=1.0):
            (back,) = jax.vjp(function, at)[1](v)
            return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(back)), jnp.zeros((), scale.dtype)) / h

        mine = _extrapolated(lambda h: square(lambda n: _like(kick(n, h), state), zeros, h), time)
        theirs = jnp.zeros_like(mine) if root is None else square(lambda n: _like(root[0](n), state), root[1])
        return mine, theirs

    mine, theirs = jax.lax.map(squares, jnp.arange(len(leaves) + 1))
    larger = jnp.maximum(jnp.abs(mine), theirs)
    floor = jnp.finfo(scale.dtype).eps * jnp.max(larger)
    return _worst(_sizes(off), _OFF * scale + rounding), _worst(jnp.abs(mine - theirs), 2 * _OFF * larger + floor)


def _like(tree, state) -> PyTree:
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), tree, state)


def _worst(off, allowed) -> Array:
    """The largest ratio; a state where nothing is defined says nothing."""
    ratio = off / jnp.where(allowed > 0, allowed, jnp.finfo(off.dtype).tiny)
    return jnp.max(jnp.where(jnp.isfinite(off) & jnp.isfinite(allowed) & (off > 0), ratio, 0))


def _change(kick, state, structure, time) -> Array:
    """By how much a kick changes one that follows, relative to it, for a kick as large as the state."""
    first, second = (normals_of(structure, jax.random.key(seed)) for seed in (4, 5))
    h = time / _PARTS
    move = kick(first, h)
    size = jnp.linalg.norm(_sizes(state)) / jnp.maximum(jnp.linalg.norm(_sizes(move)), jnp.finfo(h.dtype).tiny)
    direction = jax.tree.map(lambda leaf: (size * leaf).astype(leaf.dtype), move)
    value, changed = jax.jvp(lambda y: _like(kick(second, h, y), y), (state,), (_like(direction, state),))
    return _worst(jnp.linalg.norm(_sizes(changed))[None], 1e-3 * jnp.linalg.norm(_sizes(value))[None])


def _drawn(dynamics, signal, state, t, time, sides) -> _Found:
    """The same of a kick that is not linear in its normals, over a training step against that of our own splitting."""
    kind, splitting = type(dynamics), split(dynamics)
    reference = ours(kind, "splitting")(dynamics)
    directions = jax.vmap(lambda key: normals_of(state, key))(jax.random.split(jax.random.key(6), 4))

    def along(tree):
        parts = jax.tree.map(lambda v, leaf: jnp.sum((v * leaf).reshape(4, -1), axis=1), directions, tree)
        return sum(jax.tree.leaves(parts))

    def steps(part, by_euler=False):
        structure = part.noise(state, signal, 1)
        flow = 0.0 if by_euler else along(part.flow(t, state, signal))

        def one(key):
            normals = normals_of(structure, key)
            if by_euler:
                return along(part.euler(t, state, signal, normals, time)) / time
            return flow + along(part.kick(t, state, signal, normals, time)) / time

        return jax.lax.map(one, jax.random.split(jax.random.key(7), _DRAWS))  # (draws, directions)

    def compared(mine, theirs):
        known = not is_ours(definer(kind, "drift")) or not dynamics.series().discrete
        wanted = along(dynamics.drift(t, state, signal)) if known else theirs
        off, scale = mine - wanted, jnp.abs(mine).mean(0) + jnp.abs(wanted if known else theirs.mean(0))
        mean = _worst(jnp.abs(off.mean(0)), _ERRORS * off.std(0) / _DRAWS**0.5 + 2 * _OFF * scale)
        squares, others = ((x - x.mean(0)) ** 2 for x in (mine, theirs))
        changed = squares - others
        allowed = _ERRORS * changed.std(0) / _DRAWS**0.5 + 2 * _OFF * (squares.mean(0) + others.mean(0))
        rounding = (1e3 * jnp.finfo(mine.dtype).eps * jnp.abs(mine).max(0)) ** 2
        return mean, _worst(jnp.abs(changed.mean(0)), allowed + rounding)

    theirs = steps(reference)
    mean, spread = compared(steps(splitting), theirs)
    if sides.silent:
        spread = 0.0
    euler = jnp.maximum(*compared(steps(splitting, True), theirs)) if sides.euler else 0.0
    return _Found(mean, spread, euler, 0.0)

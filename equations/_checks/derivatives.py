"""Whether the derivatives that JAX takes of a signal are those of the signal.

`stop_gradient` and custom derivatives change what a derivative is. A learning rule may well want that of its surrogate, but
what differentiates the rule once more (a series, a Jacobian, a curl) would then see another rule than the one that is run.
"""

import functools
import hashlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._base import AbstractDynamics
from .._jaxpr.suspects import suspects
from .._signals.base import AbstractSignal, is_parameter
from .._splitting import split
from .._tree import add_scaled
from .arguments import leaf_name
from .frozen import without_gradient
from .once import once, quick_jit
from .quotients import STEPS, offs

_GROUPS = (2, 8)  # of examples, weighted at random, each with two directions of its own: fewer of large networks
_NUMBERS = 500_000  # that are looked at in a probe of all groups
_MOST = 256  # examples
_SHOWN = 2  # of the probes that must show it: one may stand at a kink
_AWAY = (1.0, 0.1, 0.5, 0.2)  # from the parameters, in their size: a loss may be no number far from them
_FEW = 1000  # parameters times examples: in a millisecond or two


def check_derivatives(signal: Any, params: PyTree, needed: str, found: bool = False) -> None:
    """Raises a ValueError where the derivative of a signal's gradient, which `needed` takes, is not that of the gradient.

    Silent under a trace. A signal without `stop_gradient` and custom derivatives is not tried; others are, at
    up to some hundreds of examples, on directions of what is trained, in double precision where the signal has it. They are
    tried at points around the parameters, once: what vanishes at a symmetric start shows there, and what is found is no
    matter of values. Then at the parameters, and again where these or the examples have other values and are few, or where
    the point was `found` from others.
    """
    wrong = _false_derivative(signal, params, found)
    if wrong is None:
        return
    raise ValueError(
        f"Argument `{signal.argument}` must have a gradient with right "
        f"derivatives for {needed}, but {wrong}: write the rule as an equations.AbstractSignal, whose surrogate(active, "
        "frozen, example) takes from `frozen` what is not to be differentiated."
    )


def flow_is_misleading(dynamics: AbstractDynamics, signal: Any, params: PyTree) -> bool:
    """Whether derivatives of the flow may be others than those of its values: where those of the signal's gradient are, or
    where `stop_gradient` or a custom derivative is in the dynamics itself."""
    if _suspects_of(signal, params):
        return _false_derivative(signal, params) is not None
    state = jax.eval_shape(dynamics.init, params)
    time = jnp.zeros((), jax.tree.leaves(state)[0].dtype)
    return bool(suspects(jax.make_jaxpr(lambda y: split(dynamics).flow(time, y, signal))(state).jaxpr))


def _suspects_of(signal: Any, params: PyTree) -> set[str]:
    """What in a signal may have a derivative of its own; nothing where a dynamics takes something else."""
    if not isinstance(signal, AbstractSignal):
        return set()
    active, static = eqx.partition(params, is_parameter)
    first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), signal.examples)

    def value(active, example):
        model = eqx.combine(active, static)
        return signal.surrogate(model, model, example)

    return suspects(jax.make_jaxpr(value)(active, first).jaxpr)


def _false_derivative(signal: Any, params: PyTree, found: bool = False) -> str | None:
    """What is wrong with the derivative of the gradient, in words; None: all is well."""
    held = once(_suspects_of, signal, params)
    if not held:
        return None
    held, few = " and ".join(sorted(held)), min(signal.size, _MOST) * _numbers(params) <= _FEW
    wrong = once(_wrong, signal, params, held, _AWAY if few else (*_AWAY[:-1], 0.0))
    if wrong is None and (few or found):
        return once(_wrong_at, signal, params, held, _digest(signal, params))
    return wrong


def _numbers(params: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(params, is_parameter)))


def _digest(signal: Any, params: PyTree) -> bytes:
    """Of the values that are looked at."""
    few = _sample(signal)
    leaves = [np.asarray(leaf)[few] for leaf in jax.tree.leaves(signal.examples)]
    leaves += map(np.asarray, jax.tree.leaves(eqx.filter(params, eqx.is_array)))
    return hashlib.blake2b(b"".join(leaf.tobytes() for leaf in leaves), digest_size=16).digest()


def _sample(signal: Any) -> np.ndarray:
    return np.linspace(0, signal.size - 1, min(signal.size, _MOST)).round().astype(int)


def _wrong_at(signal: Any, params: PyTree, held: str, digest: bytes) -> str | None:
    return _wrong(signal, params, held, (0.0,))


def _wrong(signal: Any, params: PyTree, held: str, away: tuple[float, ...]) -> str | None:
    """What is wrong at points so far `away`."""
    active, static = eqx.partition(params, is_parameter)
    frozen = once(without_gradient, signal, params)
    few = _sample(signal)
    given = signal if len(few) == signal.size else signal.take(jnp.asarray(few))
    number = int(np.clip(_NUMBERS // _numbers(params), *_GROUPS))
    members, weights = _groups(len(few), number)
    places = [_directions(active, frozen, seed) for seed in (0, 1)]
    probes: Any = (members, weights, away)
    given = given, active, static, places
    try:
        with jax.enable_x64(True):
            doubled: Any = _double(given)
            errors = _errors(*doubled, *probes)
    except Exception:  # single precision may be written into the signal
        try:
            errors = _errors(*given, *probes)
        except TypeError as error:
            return f"it holds {held}, and JAX takes no derivative of the gradient: {str(error).splitlines()[0]}"
    if np.count_nonzero(errors.any(axis=1)) < _SHOWN:
        return None
    worst = np.argmax(errors.max(axis=0))
    path = jax.tree_util.tree_leaves_with_path(active)[worst][0]
    near = "at parameters near those given, " if any(away) else ""
    return (
        f"it holds {held}, and {near}along {leaf_name('params', path)} the derivative that JAX takes of the gradient is "
        f"off a central difference by {errors[:, worst].max():.0%}"
    )


@functools.cache
def _groups(examples: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The examples of so many groups, all of which are in one, and their weights."""
    random = np.random.default_rng(1)
    members = np.resize(random.permutation(examples), (number, -(-examples // number)))
    return members, random.choice([-1.0, 1.0], members.shape) * random.uniform(0.5, 1.5, members.shape)


def _double(tree: PyTree) -> PyTree:
    def leaf(x):
        single = eqx.is_array(x) and x.dtype == jnp.float32
        return jnp.asarray(np.asarray(x), jnp.float64) if single else x

    return jax.tree.map(leaf, tree)


@quick_jit(level=0)
def _derivatives(signal, active, static, shifts, directions, members, weights, steps):
    """By probe, the gradient of some examples at each of the steps along a direction from a shifted point, its derivative
    there, and the size of the values over the length of the direction, of which gradients are that do not cancel."""

    def probe(given):
        shift, direction, members, weights = given
        examples = jax.tree.map(lambda leaf: leaf[members], signal.examples)
        point = add_scaled(active, (1.0, shift))

        def values(a, frozen):
            frozen = eqx.combine(frozen, static)
            values = jax.vmap(lambda example: signal.surrogate(eqx.combine(a, static), frozen, example))(examples)
            return values * weights.astype(values.dtype)

        def gradient(active):
            return jax.grad(lambda a: jnp.sum(values(a, active)))(active)

        one = lambda step: jax.jvp(gradient, (add_scaled(point, (step, direction)),), (direction,))  # noqa: E731
        there, along = jax.lax.map(one, steps)
        length = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(direction)))
        size = jnp.sum(jnp.abs(values(point, point))).astype(length.dtype)
        return there, jax.tree.map(lambda leaf: leaf[0], along), size / length

    return jax.lax.map(probe, (shifts, directions, members, weights))


def _errors(signal, active, static, places, members, weights, away) -> np.ndarray:
    """By probe and leaf, how far the derivative of the gradient is off its difference, over both, `(probes, leaves)`.

    Where some are, they are tried again on directions without the numbers whose gradient is zero at all probes and all
    steps, as where part of a leaf is behind `stop_gradient`: no flow goes there.
    """
    dtype = jax.tree.leaves(active)[0].dtype
    steps = np.asarray([0.0, *(sign * step for step in STEPS for sign in (1, -1))], dtype)
    probes = np.arange(2 * len(members))
    chunk = len(probes) if _numbers(active) * len(probes) <= _NUMBERS else 1

    def turned(angles, pair, sizes: Any = 1.0):
        def leaf(u, w):
            turn = [np.reshape(f(angles) * sizes, (-1, *[1] * u.ndim)) for f in (np.cos, np.sin)]
            return (turn[0] * u + turn[1] * w).astype(u.dtype)

        return jax.tree.map(leaf, *pair)

    def errors_along(places):
        errors, alive = [], jax.tree.map(lambda u: np.zeros(u.shape, bool), places[0][0])
        for ks in np.split(probes, len(probes) // chunk):
            given = turned(2 * ks, places[1], np.resize(away, len(probes))[ks]), turned(ks, places[0])
            group = members[ks // 2], weights[ks // 2].astype(dtype)
            found = jax.device_get(_derivatives(signal, active, static, *given, *group, steps))
            pairs = zip(*map(jax.tree.leaves, found[:2]), strict=True)
            errors += zip(*(offs(there, along, found[2]) for there, along in pairs), strict=True)
            alive = jax.tree.map(lambda seen, g: seen | np.any(g != 0, axis=(0, 1)), alive, found[0])
        return np.array(errors), alive

    errors, alive = errors_along(places)
    if np.any(errors) and not all(map(np.all, jax.tree.leaves(alive))):
        masked = lambda tree: jax.tree.map(lambda u, seen: np.where(seen, u, 0 * u), tree, alive)  # noqa: E731
        errors, _ = errors_along([tuple(map(masked, pair)) for pair in places])
    return errors


def _directions(active: PyTree, frozen: PyTree, seed: int) -> tuple[PyTree, PyTree]:
    """Two random directions of the size of the parameters, at least of length one or so in every leaf, zero in leaves that
    are not trained."""
    random = np.random.default_rng(seed)

    def leaf(p, frozen):
        size = max(np.sqrt(np.mean(np.square(p, dtype=float))) or 1.0, p.size**-0.5)
        return np.asarray(np.zeros(p.shape) if frozen else size * random.standard_normal(p.shape), p.dtype)

    return jax.tree.map(leaf, active, frozen), jax.tree.map(leaf, active, frozen)

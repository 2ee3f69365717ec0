"""Whether the derivatives that JAX takes of a signal are those of the signal.

`stop_gradient` and custom derivatives change what a derivative is. A learning rule may well want that of its surrogate, but
what differentiates the rule once more (a series, a Jacobian, a curl) would then see another rule than the one that is run.
"""

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

_GROUPS = (2, 8)  # of examples, weighted at random, each with two directions of its own: fewer of large networks
_NUMBERS = 500_000  # that are looked at in a probe of all groups
_MOST = 256  # examples
_SHOWN = 2  # of the probes that must show it: one may stand at a kink
_STEPS = (1e-6, 3e-4)  # relative to the size of the parameters, for double and for single precision
_TOLERANCE, _ROUGH = 1e-3, 1e-2  # of double and of single precision


def check_derivatives(signal: Any, params: PyTree, needed: str) -> None:
    """Raises a ValueError where the derivative of a signal's gradient, which `needed` takes, is not that of the gradient.

    Silent under a trace. A signal without `stop_gradient` and custom derivatives is not tried; others are, at
    up to some hundreds of examples, on directions of what is trained, in double precision where the signal has it.
    """
    found = once(_false_derivative, signal, params)
    if found is None:
        return
    raise ValueError(
        f"Argument `{signal.argument}` must have a gradient with right "
        f"derivatives for {needed}, but {found}: write the rule as an equations.AbstractSignal, whose surrogate(active, "
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


def _false_derivative(signal: Any, params: PyTree) -> str | None:
    """What is wrong with the derivative of the gradient, in words; None: all is well."""
    active, static = eqx.partition(params, is_parameter)
    held = " and ".join(sorted(_suspects_of(signal, params)))
    if not held:
        return None
    base = _directions(active, without_gradient(signal, params))
    random, count = np.random.default_rng(1), min(signal.size, _MOST)
    few = signal.take(jnp.linspace(0, signal.size - 1, count).round().astype(int))
    numbers = sum(leaf.size for leaf in jax.tree.leaves(active))
    number = int(np.clip(_NUMBERS // numbers, *_GROUPS))
    members = np.resize(random.permutation(count), (number, -(-count // number)))
    weights = random.choice([-1.0, 1.0], members.shape) * random.uniform(0.5, 1.5, members.shape)
    try:
        with jax.enable_x64(True):
            errors = _errors(*_double((few, active, static, base)), members=members, weights=weights)
    except Exception:  # single precision may be written into the signal
        try:
            errors = _errors(few, active, static, base, members, weights)
        except TypeError as error:
            return f"it holds {held}, and JAX takes no derivative of the gradient: {str(error).splitlines()[0]}"
    if np.count_nonzero(errors.any(axis=1)) < _SHOWN:
        return None
    worst = np.argmax(errors.max(axis=0))
    path = jax.tree_util.tree_leaves_with_path(active)[worst][0]
    return (
        f"it holds {held}, and along {leaf_name('params', path)} the derivative that JAX takes of the gradient is off "
        f"a central difference by {errors[:, worst].max():.0%}"
    )


def _double(tree: PyTree) -> PyTree:
    def leaf(x):
        single = eqx.is_array(x) and x.dtype == jnp.float32
        return jnp.asarray(np.asarray(x), jnp.float64) if single else x

    return jax.tree.map(leaf, tree)


@quick_jit(level=0)
def _derivatives(signal, active, static, direction, members, weights, steps):
    """The gradient of some examples at each of the steps along `direction`, and its derivative there."""
    examples = jax.tree.map(lambda leaf: leaf[members], signal.examples)

    def gradient(active):
        frozen = eqx.combine(active, static)

        def value(a):
            values = jax.vmap(lambda example: signal.surrogate(eqx.combine(a, static), frozen, example))(examples)
            return jnp.dot(values, weights.astype(values.dtype))

        return jax.grad(value)(active)

    one = lambda step: jax.jvp(gradient, (add_scaled(active, (step, direction)),), (direction,))  # noqa: E731
    there, along = jax.lax.map(one, steps)
    return there, jax.tree.map(lambda leaf: leaf[0], along)


def _errors(signal, active, static, base, members, weights) -> np.ndarray:
    """By probe and leaf, how far the derivative of the gradient is off its difference, over both, `(probes, leaves)`.

    Where some are, they are tried again on directions without the numbers whose gradient is zero at all probes and all
    steps, as where part of a leaf is behind `stop_gradient`: no flow goes there.
    """
    steps = [0.0, *(sign * step for step in _STEPS for sign in (1, -1))]
    steps = jnp.asarray(steps, jax.tree.leaves(active)[0].dtype)

    def errors_along(base):
        errors, alive = [], jax.tree.map(lambda u: np.zeros(u.shape, bool), base[0])
        for k in range(2 * len(members)):  # all in one program would take longer to compile than to run
            direction = jax.tree.map(lambda u, w, k=k: (np.cos(k) * u + np.sin(k) * w).astype(u.dtype), *base)
            group = jnp.asarray(members[k // 2]), jnp.asarray(weights[k // 2], steps.dtype)
            found = jax.device_get(_derivatives(signal, active, static, direction, *group, steps))
            errors.append([_off(*leaves) for leaves in zip(*map(jax.tree.leaves, found), strict=True)])
            alive = jax.tree.map(lambda seen, g: seen | np.any(g != 0, axis=0), alive, found[0])
        return np.array(errors), alive

    errors, alive = errors_along(base)
    if np.any(errors) and not all(map(np.all, jax.tree.leaves(alive))):
        errors, _ = errors_along(tuple(jax.tree.map(lambda u, seen: np.where(seen, u, 0 * u), u, alive) for u in base))
    return errors


def _directions(active: PyTree, frozen: PyTree) -> tuple[PyTree, PyTree]:
    """Two random directions of the size of the parameters, zero in leaves that are not trained."""
    random = np.random.default_rng(0)

    def leaf(p, frozen):
        size = np.sqrt(np.mean(np.square(p, dtype=float))) or 1.0
        return np.asarray(np.zeros(p.shape) if frozen else size * random.standard_normal(p.shape), p.dtype)

    return jax.tree.map(leaf, active, frozen), jax.tree.map(leaf, active, frozen)


def _off(there: np.ndarray, along: np.ndarray) -> float:
    """Of one leaf, by the step whose forward and backward differences agree best; 0 where the difference itself is in
    doubt by a tenth of that, as at a kink, or where another step says otherwise, as by luck of rounding."""
    (here, *around), derivative = there.astype(float), along.astype(float)
    tries = []
    for place, step in enumerate(_STEPS):
        forward, backward = (around[2 * place] - here) / step, (here - around[2 * place + 1]) / step
        difference = (forward + backward) / 2
        size = np.linalg.norm(difference) + np.linalg.norm(derivative)
        lengths = np.linalg.norm(forward - backward), np.linalg.norm(difference - derivative)
        if size > 0 and np.isfinite(size):
            tries.append(tuple(float(length / size) for length in lengths))
    if not tries:
        return 0.0
    doubt, off = min(tries)
    agreed = all(error > off / 3 for unsure, error in tries if unsure < 0.1)
    # Of single precision the finer step is no longer one.
    tolerance = _TOLERANCE if tries[0][0] < _TOLERANCE else _ROUGH
    return off if off > max(10 * doubt, tolerance) and agreed else 0.0

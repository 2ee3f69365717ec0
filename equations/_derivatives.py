"""Whether the derivatives that JAX takes of a signal are those of the signal.

`stop_gradient` and custom derivatives change what a derivative is. A learning rule may well want that of its surrogate, but
what differentiates the rule once more (a series, a Jacobian, a curl) would then see another rule than the one that is run.
"""

from typing import Any

import equinox as eqx
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ._checks import leaf_name
from ._frozen import without_gradient
from ._objective import Objective
from ._once import once, quick_jit
from ._series import moved
from ._signal import AbstractSignal, is_parameter

_PROBES = 16  # examples, each with a direction of its own
_SHOWN = 2  # of the probes that must show it: one may stand at a kink
_STEPS = (1e-6, 3e-4)  # relative to the size of the parameters, for double and for single precision
_TOLERANCE = 1e-3


def check_derivatives(signal: Any, params: PyTree, needed: str) -> None:
    """Raises a ValueError where the derivative of a signal's gradient, which `needed` takes, is not that of the gradient.

    Silent under a trace. A signal without `stop_gradient` and custom derivatives is not tried; others are at a few
    examples, on directions of the leaves that are trained, in double precision where the signal can be had in it.
    """
    found = once(_false_derivative, signal, params) if isinstance(signal, AbstractSignal) else None
    if found is None:
        return
    raise ValueError(
        f"Argument `{'loss' if isinstance(signal, Objective) else 'objective'}` must have a gradient with right "
        f"derivatives for {needed}, but {found}: write the rule as an equations.AbstractSignal, whose surrogate(active, "
        "frozen, example) takes from `frozen` what is not to be differentiated."
    )


def _false_derivative(signal: AbstractSignal, params: PyTree) -> str | None:
    """What is wrong with the derivative of the gradient, in words; None: all is well."""
    active, static = eqx.partition(params, is_parameter)
    first = jax.tree.map(lambda leaf: leaf[0], signal.data)

    def value(active, example):
        model = eqx.combine(active, static)
        return signal.surrogate(model, model, example)

    suspects = " and ".join(sorted(_suspects(jax.make_jaxpr(value)(active, first).jaxpr)))
    if not suspects:
        return None
    base = _directions(active, without_gradient(signal, params))
    few = signal.take(jnp.linspace(0, signal.size - 1, _PROBES).round().astype(int))
    try:
        with jax.enable_x64(True):
            errors = _errors(*_double((few, active, static, base)))
    except Exception:  # single precision may be written into the signal
        try:
            errors = _errors(few, active, static, base)
        except TypeError as error:
            return f"it holds {suspects}, and JAX takes no derivative of the gradient: {str(error).splitlines()[0]}"
    shown = np.where(errors > _TOLERANCE, errors, 0.0)
    if np.count_nonzero(shown.any(axis=1)) < _SHOWN:
        return None
    worst = np.argmax(shown.max(axis=0))
    path = jax.tree_util.tree_leaves_with_path(active)[worst][0]
    return (
        f"it holds {suspects}, and along {leaf_name('params', path)} the derivative that JAX takes of the gradient is off "
        f"a central difference by {shown[:, worst].max():.0%}"
    )


def _suspects(jaxpr) -> set[str]:
    """What of a jaxpr may change derivatives, in words."""
    found = set()
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "stop_gradient":
            found.add("`stop_gradient`")
        elif name.startswith("custom_"):
            found.add("a custom derivative")
        for inner in jax.extend.core.jaxprs_in_params(eqn.params):
            found |= _suspects(inner)
    return found


def _double(tree: PyTree) -> PyTree:
    def leaf(x):
        single = eqx.is_array(x) and x.dtype == jnp.float32
        return jnp.asarray(np.asarray(x), jnp.float64) if single else x

    return jax.tree.map(leaf, tree)


@quick_jit(level=0)
def _derivatives(signal, active, static, direction, place, steps):
    """The gradient of an example at each of the steps along `direction`, and its derivative there."""
    example = jax.tree.map(lambda leaf: leaf[place], signal.data)

    def gradient(active):
        frozen = eqx.combine(active, static)
        value = lambda a: signal.surrogate(eqx.combine(a, static), frozen, example)  # noqa: E731
        return jax.grad(value)(active)

    return jax.lax.map(lambda step: jax.jvp(gradient, (moved(active, (step, direction)),), (direction,)), steps)


def _errors(signal, active, static, base) -> np.ndarray:
    """By probe and leaf, how far the derivative of the gradient is off its difference, over both, `(probes, leaves)`."""
    steps = [0.0, *(sign * step for step in _STEPS for sign in (1, -1))]
    steps = jnp.asarray(steps, jax.tree.leaves(active)[0].dtype)
    errors = []
    for place in range(signal.size):  # all in one program would take longer to compile than to run
        direction = jax.tree.map(lambda u, w, k=place: (np.cos(k) * u + np.sin(k) * w).astype(u.dtype), *base)
        found = jax.device_get(_derivatives(signal, active, static, direction, jnp.asarray(place), steps))
        errors.append([_off(*leaves) for leaves in zip(*map(jax.tree.leaves, found), strict=True)])
    return np.array(errors)


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
    (here, *around), derivative = there.astype(float), along[0].astype(float)
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
    return off if off > 10 * doubt and agreed else 0.0

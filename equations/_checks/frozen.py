"""Leaves of the parameters that a signal leaves alone, whole or in part: their gradient is zero whatever the numbers."""

from typing import Any

import equinox as eqx
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._base import AbstractDynamics
from .._jaxpr.interpreter import inner_jaxpr
from .._jaxpr.structure import is_free
from .._scaling import learning_rate_of
from .._signals.base import AbstractSignal, is_parameter, parameter_dtype
from .._splitting import split
from .._tree import add_scaled
from .arguments import leaf_name
from .frozen_parts import stopped_entries
from .once import once, quick_jit, warn

# In steps, where what reads the time is looked at: noise or decay may begin late.
_TIMES = (1.0, 0.5, 2.5, 4.5, 16.5, 64.5, 256.5, 1024.5, 4096.5)

# What moves a part of a leaf without noise: a rule that is none of single numbers may as well.
_OF_PARTS = "decay, a penalty or the gradient of others"

# What is zero where its first argument is, or any, or where all are that are not mere places or conditions.
_FIRST = {
    "neg", "copy", "copy_p", "convert_element_type", "reshape", "broadcast_in_dim", "transpose", "squeeze", "expand_dims",
    "reduce_sum", "slice", "rev", "cumsum", "real", "imag", "div", "dynamic_slice", "gather", "reduce_precision", "abs",
    "sign", "square", "integer_pow", "sqrt", "tanh", "sin", "stop_gradient", "sharding_constraint", "optimization_barrier",
}  # fmt: skip
_ANY = {"mul", "dot_general", "conv_general_dilated"}
_ALL = {"add", "sub", "add_any", "concatenate", "pad", "max", "min"}
_FIRST_TWO = {"dynamic_update_slice"}


def zeros(jaxpr, inputs: list[bool]) -> list[bool]:
    """Which outputs of a jaxpr are zero by its structure, given which inputs are; False where that cannot be seen."""
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(atom) -> bool:
        if isinstance(atom, jax.extend.core.Literal):
            return bool(np.all(np.equal(np.asarray(atom.val), 0)))
        return known.get(atom, False)

    for eqn in jaxpr.eqns:
        marks = [of(atom) for atom in eqn.invars]
        known.update(zip(eqn.outvars, _outputs(eqn, marks), strict=True))
    return [of(atom) for atom in jaxpr.outvars]


def _outputs(eqn, marks: list[bool]) -> list[bool]:
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        return _of_scan(params, marks)
    if name == "cond":
        branches = [zeros(branch.jaxpr, marks[1:]) for branch in params["branches"]]
        return [all(marks) for marks in zip(*branches, strict=True)]
    inner = inner_jaxpr(eqn)
    if inner is not None and len(inner[0].invars) == len(marks):
        return zeros(inner[0], marks)
    if name in _FIRST:
        zero = marks[0]
    elif name in _ANY:
        zero = any(marks)
    elif name in _ALL:
        zero = all(marks)
    elif name in _FIRST_TWO or name in ("scatter", "scatter-add"):
        zero = marks[0] and marks[1 if name in _FIRST_TWO else 2]
    elif name == "select_n":
        zero = all(marks[1:])
    else:
        zero = False
    return [zero] * len(eqn.outvars)


def _of_scan(params, marks: list[bool]) -> list[bool]:
    """A carry is zero if it begins so and every pass leaves it so."""
    constants, carries = params["num_consts"], params["num_carry"]
    carry = marks[constants : constants + carries]
    while True:
        found = zeros(params["jaxpr"].jaxpr, [*marks[:constants], *carry, *marks[constants + carries :]])
        kept = [before and after for before, after in zip(carry, found[:carries], strict=True)]
        if kept == carry:
            return [*carry, *found[carries:]]
        carry = kept


def without_gradient(signal: AbstractSignal, params: PyTree) -> PyTree[bool]:
    """Like the gradient: True for a leaf that no example can move, as one behind `stop_gradient` or one that is not used.

    By structure, not by value: a unit that is dead on these examples has a gradient.
    """
    active, static = eqx.partition(params, is_parameter)

    def gradient(active, frozen, example):
        value = lambda active: signal.surrogate(eqx.combine(active, static), eqx.combine(frozen, static), example)  # noqa: E731
        return jax.grad(value)(active)

    first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), signal.examples)
    jaxpr = jax.make_jaxpr(gradient)(active, active, first).jaxpr
    return jax.tree.unflatten(jax.tree.structure(active), zeros(jaxpr, [False] * len(jaxpr.invars)))


def frozen_entries(signal: AbstractSignal, params: PyTree) -> PyTree[bool | np.ndarray] | None:
    """Like the gradient: True for a leaf that the signal, penalties apart, leaves alone, and for others an array where it
    leaves a part of them alone, else False; None where all is moved, or nothing is, as where there is no force."""
    inner, given, back = signal.without_penalty(params)
    whole = without_gradient(inner, given)
    parts = stopped_entries(inner, given, whole)
    marks = back(whole if parts is None else jax.tree.map(lambda mark, part: mark or part, whole, parts))
    leaves = jax.tree.leaves(marks)
    return marks if any(map(np.any, leaves)) and not all(map(np.all, leaves)) else None


def frozen_leaves(signal: AbstractSignal, params: PyTree) -> tuple[str, ...]:
    """The names of the leaves that the signal, penalties apart, leaves alone altogether."""
    marks = once(frozen_entries, signal, params)
    named = [] if marks is None else jax.tree_util.tree_leaves_with_path(marks)
    return tuple(leaf_name("params", path) for path, mark in named if mark is True)


def warn_frozen(equation: AbstractDynamics, signal: Any, params: PyTree) -> None:
    """Warns where a step moves leaves that have no gradient, or parts of them, by noise that it injects, by decay or by a
    penalty."""
    marks = once(frozen_entries, signal, params)
    if marks is None:
        return
    dynamic, static = eqx.partition(params, is_parameter)
    bound = signal.bind(static)
    times = _TIMES if once(_depends_on_time, equation, bound, dynamic) else _TIMES[:1]
    masks = jax.tree.map(lambda mark, leaf: np.broadcast_to(mark, leaf.shape), marks, dynamic)
    quiet, noisy = _moved(equation, bound, dynamic, jnp.asarray(times), jax.tree.map(jnp.asarray, masks))
    walking, causes, several = [], set(), False
    named = jax.tree_util.tree_leaves_with_path(masks)
    for (path, mask), drift, noise in zip(named, quiet, noisy, strict=True):
        if drift or noise:
            count = int(np.sum(mask))
            part = "" if count == mask.size else f"{count} of the {mask.size} numbers of "
            walking.append(part + leaf_name("params", path))
            causes.add("noise" if not drift else _OF_PARTS if part else "decay or a penalty")
            several |= bool(part) and count > 1
    if walking:
        has, is_ = ("have", "are") if several or len(walking) > 1 else ("has", "is")
        warn(
            f"Argument `params`: {', '.join(walking)} must have a gradient in the loss to be trained, but {has} none, and "
            f"{is_} moved by {' and '.join(sorted(causes))} alone; what is to stay as it is goes by `frozen` of a run, or "
            "into the loss, which may close over it."
        )


def _depends_on_time(equation, signal, params) -> bool:
    """Whether the flow or the kick reads the time, as under a schedule."""
    state = jax.eval_shape(equation.init, params)

    def step(t, state):
        structure = split(equation).noise(state, signal, 1)
        noise = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), structure)
        kick = None if structure is None else split(equation).kick(t, state, signal, noise, jnp.ones_like(t))
        return split(equation).flow(t, state, signal), kick

    state = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), state)
    return not is_free(lambda t: step(t, state), jnp.ones((), parameter_dtype(params)))


@quick_jit(level=0)
def _moved(equation, signal, params, times, masks):
    """By leaf, whether two steps move what is in its mask, without noise and with noise, at any of some times in steps."""
    rate = learning_rate_of(equation)
    begin, dt = equation.init(params), jnp.asarray(1e-3 if rate is None else rate)

    def step(t, state, structure):
        leaves, treedef = jax.tree.flatten(structure)
        normals = [0.5 * jnp.ones(leaf.shape, leaf.dtype) for leaf in leaves]  # any will do, if it is not zero
        noise = jax.tree.unflatten(treedef, normals)
        state = add_scaled(state, (dt, split(equation).flow(t, state, signal)))
        return (
            state if structure is None else add_scaled(state, (1.0, split(equation).kick(t, state, signal, noise, dt)))
        )

    def differs(t, structure):
        state = begin
        for _ in range(2):  # noise may enter the memory first
            state = step(t, state, structure)
        pairs = zip(jax.tree.leaves(equation.params(state)), jax.tree.leaves(params), strict=True)
        return [jnp.abs(after - before) > 0 for after, before in pairs]

    def at(time):
        t = (time * dt).astype(dt.dtype)
        return differs(t, None), differs(t, split(equation).noise(begin, signal, 1))

    moved = jax.tree.map(lambda leaf: jnp.any(leaf, 0), jax.lax.map(at, times))
    return tuple(
        [jnp.any(leaf & mask) for leaf, mask in zip(one, jax.tree.leaves(masks), strict=True)] for one in moved
    )

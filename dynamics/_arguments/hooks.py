"""What the methods of a user's class return: structure, shapes and dtypes, checked in one place before compilation."""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import PyTree

from equations import AbstractDynamics, AbstractEquation
from equations.internal import (
    abstract_value,
    definer,
    fixed_gradient,
    inside,
    is_contract,
    is_given_as,
    is_ours,
    learning_rate_of,
    once,
    split,
    twin_update,
    velocity_of,
    zeros_of,
)

# Where to look first for the fault of a method that is made of others.
_MADE_OF = {
    "flow": ("velocity",),
    "drift": ("velocity",),
    "kick": ("diffusion", "velocity"),
    "euler": ("velocity", "flow", "kick"),
    "start": ("velocity",),
}


def check_hooks(
    dynamics: AbstractDynamics, signal: Any, params: PyTree, hooks: tuple[str, ...], kicks: int = 1
) -> None:
    """Raises unless what the methods `hooks` of a dynamics return is like the state, and `init` and `params` fit.

    A number of another shape would be added all the same, by broadcasting. A floating-point number of another precision is
    cast to that of the state; complex numbers and integers are refused. Only shapes are needed, so that it works under jit
    and vmap too, and what was found right once is remembered.

    **Arguments:** `params`, the parameters without what is no parameter.

    **Raises:** ValueError for a structure or a shape, TypeError for a dtype, naming class and method.
    """
    abstract_value(_check, dynamics, signal, params, _apart(dynamics, hooks))


def _apart(dynamics: AbstractDynamics, hooks: tuple[str, ...]) -> tuple[str, ...]:
    """Those of which each runs code of its own: flow and kick of ours, of several gradients, are one velocity."""
    if not {"flow", "kick"} <= set(hooks) or learning_rate_of(dynamics) is None or not dynamics.several_gradients:
        return hooks
    ours = is_ours(type(split(dynamics))) and is_ours(definer(type(dynamics), "drift"))
    return tuple(hook for hook in hooks if hook != "flow") if ours else hooks


def check_start(dynamics: Any, params: PyTree) -> None:
    """Raises a ValueError unless the parameters of the state that a dynamics begins with are those that it is given."""
    if once(_begins_elsewhere, dynamics, params):
        name = type(dynamics).__name__
        raise ValueError(
            f"Argument `equation` must begin where it is told to, but {name}.params gives other parameters than those of "
            f"which {name}.init makes a state: the two disagree where in the state these are."
        )


def _begins_elsewhere(dynamics, params) -> bool:
    def begun(params):
        return dynamics.params(dynamics.init(params))

    jaxpr = jax.make_jaxpr(begun)(params).jaxpr
    if len(jaxpr.outvars) == len(jaxpr.invars) and all(map(operator.is_, jaxpr.outvars, jaxpr.invars)):
        return False  # the very parameters
    found = jax.jit(begun)(params)
    if jax.tree.map(jnp.shape, found) != jax.tree.map(jnp.shape, params):
        return False  # which is told of the hook itself
    pairs = zip(*map(jax.tree.leaves, (found, params)), strict=True)
    return not all(np.allclose(*map(np.asarray, pair), rtol=1e-5, atol=1e-30) for pair in pairs)


def checked_noise(dynamics: AbstractDynamics, signal: Any, params: PyTree) -> PyTree[jax.ShapeDtypeStruct] | None:
    """The structure of the normal numbers of a kick, checked, as are `init` and `params`."""
    return abstract_value(_checked_noise, dynamics, signal, params)


def check_noise_models(equation: Any, problem: Any) -> None:
    """The same for what a user's models of noise make of normal numbers, which is added to a gradient."""
    for model in _models(equation.gradient_noise) if problem.has_examples else ():
        if not is_ours(type(model)):
            abstract_value(_check_noise_model, model, equation, problem.objective, problem.dynamic)


def _models(model):
    """A model of noise and those inside, on top of which it comes."""
    yield model
    for field in dataclasses.fields(model):
        inner = getattr(model, field.name)
        if is_given_as(type(inner), "noise_model"):
            yield from _models(inner)


def _check_noise_model(model, equation, signal, params):
    batches = equation.batches(signal)
    normals = zeros_of(model.structure(batches, params))
    for hook, draws in (("delta", model.delta), ("draw", model.draw)):
        _same(model, hook, draws(batches, params, normals), params, "the parameters", argument="noise_model")


def check_twin(equation: AbstractEquation, params: PyTree) -> None:
    """The same for the updates of the parameters by an equation's twin, and for its memory."""
    abstract_value(_check_twin, equation, params)


def _check(dynamics, signal, params, hooks):
    state = dynamics.init(params)
    if learning_rate_of(dynamics) is not None:  # those of circuits never come into these loops
        _check_no_empty_tuple(state, params)
    _same(dynamics, "init", state, None)
    _same(dynamics, "params", dynamics.params(state), params)
    for hook in hooks:
        _check_one(dynamics, signal, state, hook)


def _check_no_empty_tuple(state, params):
    """Equinox's loops, in which Diffrax steps, take an empty tuple for an array. (One with names, as of Optax, is none.)"""

    def find(tree):
        pairs = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda part: type(part) is tuple and not part)
        return next((path for path, part in pairs if type(part) is tuple), None)

    for argument, tree, where in (("params", params, "they have"), ("equation", state, "its state has")):
        path = find(tree)
        if path is not None:
            raise ValueError(
                f"Argument `{argument}` must be without empty tuples, which the loops of Diffrax's solvers cannot carry, "
                f"but {where} one{_at(path)}: an empty list, or for a memory optax.EmptyState(), may stand in its place."
            )


def _checked_noise(dynamics, signal, params):
    _check(dynamics, signal, params, ())
    return _value(dynamics, signal, dynamics.init(params), "noise")


def _check_one(dynamics, signal, state, hook: str):
    returned = False
    try:
        value = _value(dynamics, signal, state, hook)
        returned = True
        if hook in ("noise", "diffusion") or (hook == "start" and value is None):
            return
        _same(dynamics, hook, value, state)
    except Exception:  # also what a method of ours makes of a wrong part: that is looked for first
        if returned and not is_ours(definer(_kind(dynamics, hook), hook)):  # the user's own is of a wrong shape
            raise
        part = inside(dynamics)  # of a wrapper or a series; the state of an increment field is not that of its equation
        if part is not None and jax.tree.structure(part.init(dynamics.params(state))) == jax.tree.structure(state):
            _check_one(part, signal, state, hook)
        for part in _MADE_OF.get(hook, ()):
            if part == "velocity" and not dynamics.series().discrete:
                continue
            _check_one(dynamics, signal, state, part)
        raise


def _value(dynamics, signal, state, hook):
    """What a method returns."""
    t = jnp.zeros((), jax.tree.leaves(state)[0].dtype)
    if hook == "drift":
        return dynamics.drift(t, state, signal)
    splitting = split(dynamics)
    if hook == "flow":
        return splitting.flow(t, state, signal)
    if hook == "velocity":
        return velocity_of(dynamics, t, state, dynamics.gradient(dynamics.params(state), signal, None))
    if hook == "diffusion":
        return _diffusion(dynamics, signal, state, t)
    noise = _noise(dynamics, signal, state, t)
    if hook == "noise":
        return noise
    if hook == "start":
        return splitting.start(state, signal, noise)
    if hook == "kick" and noise is None:
        return state
    step = splitting.kick if hook == "kick" else splitting.euler
    return step(t, state, signal, noise, jnp.asarray(1.0))


def _diffusion(dynamics, signal, state, t):
    """The operator, with the state's structure as its output."""
    operator = dynamics.diffusion(t, state, signal)
    if operator is None:
        return None
    if not isinstance(operator, lx.AbstractLinearOperator):
        raise TypeError(
            f"Argument `equation` must have a Lineax operator or None as its diffusion, but "
            f"{type(dynamics).__name__}.diffusion gives {operator!r}."
        )
    _same(dynamics, "diffusion", operator.out_structure(), state)
    return operator


def _noise(dynamics, signal, state, t):
    """Normal numbers of the structure that `noise` gives, None where there are none."""
    splitting = split(dynamics)
    made = is_contract(definer(type(splitting), "kick"))  # whether the kick is the diffusion's
    operator = _diffusion(dynamics, signal, state, t) if made else None
    structure = splitting.noise(state, signal, 1)
    for leaf in jax.tree.leaves(structure):
        if not (isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.floating)):
            raise TypeError(
                "Argument `equation` must give its noise as a PyTree of jax.ShapeDtypeStruct of floating-point numbers, "
                f"but {_named(dynamics, 'noise')} gives {leaf!r}."
            )
    if structure is not None and operator is not None:
        _same(dynamics, "noise", structure, operator.in_structure(), "what its diffusion takes")
    return zeros_of(structure)


def _check_twin(equation, params):
    twin = equation.twin()
    # Several transformations of Optax mix an int32 count with floats, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        memory = jax.tree.map(jnp.asarray, twin.init(params))
        gradient = fixed_gradient(equation, jax.tree.map(jnp.zeros_like, params))
        updates, after = twin_update(equation, gradient, memory, params)
    _same(equation, "twin", updates, params, "the parameters in its updates")
    _same(equation, "twin", after, memory, "what its `init` gives in its memory", _number)


def _floating(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _number(leaf) -> bool:
    return not jnp.issubdtype(leaf.dtype, jnp.complexfloating)


def _same(
    dynamics,
    hook: str,
    value,
    model,
    like: str | None = None,
    allowed: Callable | None = None,
    argument: str = "equation",
) -> None:
    """Raises unless `value`, which the method `hook` gave, has structure, shapes and kind of dtype of `model`."""
    value = jax.tree.map(_struct, value)
    place = _named(dynamics, hook)
    like = like or ("`params`" if hook == "params" else "its state")
    what = "a velocity or drift" if hook in ("velocity", "drift", "flow") else f"a `{hook}`"
    if model is None:
        wording = f"Argument `{argument}` must have {what} of floating-point numbers"
    else:
        model = jax.tree.map(_struct, model)
        wording = f"Argument `{argument}` must have {what} like {like}"
        if jax.tree.structure(value) != jax.tree.structure(model):
            given, wanted = (eqx.tree_pformat(tree) for tree in (value, model))
            raise ValueError(f"{wording}, {wanted}, but {place} gives {given}.")
        pairs = zip(jax.tree_util.tree_leaves_with_path(value), jax.tree.leaves(model), strict=True)
        for (path, given), wanted in pairs:
            if given.shape != wanted.shape:
                raise ValueError(
                    f"{wording}, of shape {wanted.shape}{_at(path)}, but {place} gives an array of shape {given.shape}."
                )
    for path, given in jax.tree_util.tree_leaves_with_path(value):
        if not (allowed or _floating)(given):
            raise TypeError(f"{wording}, but {place} gives {given.dtype}{_at(path)}.")


def _kind(dynamics, hook: str) -> type:
    """Whose method it is: the class of the dynamics, or of its splitting."""
    return type(dynamics) if hasattr(type(dynamics), hook) else type(split(dynamics))


def _named(dynamics, hook: str) -> str:
    """Class and method as the user knows them: a splitting of ours says what his equation does."""
    kind = _kind(dynamics, hook)
    return f"{(type(dynamics) if is_ours(definer(kind, hook)) else kind).__name__}.{hook}"


def _struct(leaf):
    """Shape and dtype of what may be an array or a plain number."""
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        leaf = jnp.asarray(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _at(path) -> str:
    return f" at `{jax.tree_util.keystr(path)}`" if path else ""

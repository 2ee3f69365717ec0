"""Why an Optax transformation is no algorithm that an equation can be made of: one reason, the true one."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from .._modified.increment import AbstractIncrement
from .._shapes import abstract_value
from .._velocity import velocity_of
from .few import corner
from .probe import accumulated, accumulation, gathering_states

_MORE = "Argument `factory` must make a transformation that needs no more than the gradient and the parameters, but"


def check_step(equation: AbstractIncrement, params: PyTree, invented: bool = False) -> None:
    """A ValueError unless the optimizer makes a step on these parameters; only shapes and dtypes matter.

    On `invented` parameters it says nothing of a failure that may be theirs.
    """
    try:
        abstract_value(_step, equation, params)
    except Exception as error:
        reason, theirs = _reason(equation, params, error)
        if not (invented and theirs):
            raise ValueError(reason) from error


def _step(equation, params):
    return velocity_of(equation, jnp.zeros(()), equation.init(params), params)


def _own_step(equation, params):
    """A step in the optimizer's own dtypes."""
    twin = equation.twin()
    with jax.numpy_dtype_promotion("standard"):
        memory = jax.tree.map(jnp.asarray, twin.init(params))
        return twin.update(params, memory, params)


def _memory(equation, params):
    with jax.numpy_dtype_promotion("standard"):
        return jax.tree.map(jnp.asarray, equation.twin().init(params))


def _reason(equation, params, error: Exception) -> tuple[str, bool]:
    """What is wrong, and whether that may be the parameters' fault."""
    try:
        memory = abstract_value(_memory, equation, params)
    except Exception as failure:
        return _failure(failure)
    if _holds(memory, optax.LookaheadState):
        return (
            "Argument `factory` must make a transformation of the parameters, but that of optax.lookahead is one of pairs "
            "of them, fast and slow. equations.averaged keeps a slow average beside the parameters.", False,
        )  # fmt: skip
    for path, leaf in jax.tree_util.tree_leaves_with_path(memory):
        name = jax.tree_util.keystr(path)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or (
            "key" in name and jnp.issubdtype(leaf.dtype, jnp.uint32)
        ):
            return (
                f"Argument `factory` must draw no random numbers, but its memory holds a random key, {name}. Leave the "
                "noise out and give it to the equation, as noise_model=Isotropic(scale); gradients that are clipped one "
                "by one, as in dpsgd, are those of equations.clipped(SGD(...), norm, noise).", False,
            )  # fmt: skip
        if not (jnp.issubdtype(leaf.dtype, jnp.integer) or jnp.issubdtype(leaf.dtype, jnp.floating)):
            return (
                f"Argument `factory` must make a transformation that remembers real numbers, but {name} of its memory is "
                f"{leaf.dtype}, a flag, which has no rate of change. {_instead(memory)}", False,
            )  # fmt: skip
    try:
        abstract_value(_own_step, equation, params)
    except Exception as failure:
        return _failure(failure)
    try:
        every = accumulated(equation, corner(jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), params)))
    except Exception:
        every = None
    if every is not None or gathering_states(memory):
        return accumulation(every, equation.batch_size), False
    return (
        "Argument `factory` must make a transformation that can count in real numbers, in which an equation's time runs, "
        f"but it does not: {type(error).__name__}: {error}", False,
    )  # fmt: skip


def _instead(memory: PyTree) -> str:
    """What to do about a flag in a memory."""
    guards = {"apply_if_finite": optax.ApplyIfFiniteState, "zero_nans": optax.ZeroNansState}
    for name, state in guards.items():
        if _holds(memory, state):
            return f"Leave optax.{name} out: paths that are no longer finite are marked in `ok`."
    if _holds(memory, type(optax.scale_by_optimistic_gradient().init(jnp.zeros(())))):
        return "Optimistic gradients: equations.OptimisticGradient is gradient descent by them."
    return "Optax alone runs the algorithm."


def _holds(memory: PyTree, state: type) -> bool:
    """Whether a memory has a state of this class in it."""
    nodes = jax.tree.leaves(memory, is_leaf=lambda node: isinstance(node, state))
    return any(isinstance(node, state) for node in nodes)


def instead_of(factory: Any) -> str:
    """What to give in place of a factory that is none: an equation that is known, or a function."""
    if _is_sam(factory):
        return " SAM: use equations.SAM."
    if isinstance(factory, optax.GradientTransformation):
        return " It is a transformation already: give the function of `learning_rate` that makes it."
    return ""


def _is_sam(factory: Any) -> bool:
    """Whether this is `optax.contrib.sam` or what it makes, of which the functions tell where they are from."""
    made = factory.update if isinstance(factory, optax.GradientTransformation) else factory
    made = made.func if isinstance(made, functools.partial) else made
    sam = optax.contrib.sam
    return inspect.isfunction(made) and (made.__module__, made.__qualname__.split(".")[0]) == (sam.__module__, "sam")


def _failure(error: Exception) -> tuple[str, bool]:
    told = f"{type(error).__name__}: {error}"
    if isinstance(error, jax.errors.ConcretizationTypeError):
        return f"Argument `factory` must make a transformation that can be traced in its numbers, but {told}", False
    missing = isinstance(error, TypeError) and "required" in str(error) and "argument" in str(error)
    if missing or (isinstance(error, ValueError) and "must be provided" in str(error)):
        known = " equations.SAM takes a second gradient of the batch." if "grad_fn" in str(error) else ""
        return f"{_MORE} {told}{known}", False
    return f"Argument `factory` must make a transformation of the parameters, but on these it fails: {told}", True


def check_made(twin) -> None:
    """A TypeError unless a factory made a transformation."""
    if isinstance(twin, optax.MultiSteps):
        raise ValueError(
            "Argument `factory` must make an optax.GradientTransformation that moves in every step, but it made an "
            "optax.MultiSteps. With replacement, averaging the gradients of k batches is exactly the optimizer inside with "
            "k times the batch_size at the same learning rate, which equations.accumulated(..., every=k) gives; a step "
            "then stands for k."
        )
    if not isinstance(twin, optax.GradientTransformation):
        raise TypeError(f"Argument `factory` must make an optax.GradientTransformation, but it made {twin!r}.")

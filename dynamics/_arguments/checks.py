"""Checks of the arguments that all runs share."""

import numbers
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations.internal import (
    LARGEST,
    check_class,
    check_contract,
    explicit_axes,
    integer,
    is_parameter,
    is_traced,
    leaf_name,
    learning_rate_of,
    positive,
    silent,
    typed_key,
)

from .handed_out import check_one_model


def check_equation(equation: Any, reads: str = "twin", twin: bool = True) -> None:
    """Raises a TypeError unless `equation` is that of an algorithm with a twin, or any dynamics where none is needed, of a
    class whose overrides all act."""
    check_contract(equation, twin)
    check_class(equation, reads)


def dynamic_numbers(equation: Any) -> Any:
    """The equation with its Python floats as arrays, so that a new value does not recompile."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, float) else leaf, equation)


def check_params(params: PyTree) -> PyTree:
    """The parameters with plain floats and NumPy arrays as JAX arrays, checked.

    Leaves of an Equinox module that are no arrays stay what they are.
    """

    def convert(path, leaf):
        array = isinstance(leaf, np.ndarray)
        # Arrays of text, of objects and of dates hold no numbers; V are the types that JAX adds to NumPy's.
        if isinstance(leaf, float | np.floating) or (array and leaf.dtype.kind in "biufcV"):
            return jnp.asarray(leaf)
        # A function in a plain container is no parameter, this is one.
        if array or isinstance(leaf, numbers.Number | np.generic):
            name = leaf_name("params", path)
            raise TypeError(f"Argument `params` must hold floating-point numbers, but {name} is {leaf!r}.")
        return leaf

    params = jax.tree_util.tree_map_with_path(convert, params, is_leaf=lambda leaf: isinstance(leaf, eqx.Module))
    dtypes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not eqx.is_array(leaf):
            continue
        name = leaf_name("params", path)
        if leaf.dtype not in (jnp.float32, jnp.float64):
            raise TypeError(
                f"Argument `params` must hold float32 or float64 arrays, but {name} has dtype {leaf.dtype}."
            )
        if not is_traced(leaf) and not np.all(np.isfinite(leaf)):
            raise ValueError(f"Argument `params` must be finite, but {name} holds NaN or infinity.")
        dtypes.setdefault(leaf.dtype, name)
    if not dtypes:
        raise TypeError(f"Argument `params` must hold at least one floating-point array, but {params!r} was given.")
    check_one_model(params)
    if len(dtypes) > 1:
        given = ", ".join(f"{name} has dtype {dtype}" for dtype, name in dtypes.items())
        raise TypeError(f"Argument `params` must have one dtype in all its arrays, but {given}.")
    return params


def check_mesh(params: PyTree) -> None:
    """Raises a ValueError for parameters laid out along explicit axes of a mesh, where Diffrax's updates have none."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if eqx.is_array(leaf) and (axes := explicit_axes(leaf)):
            raise ValueError(
                f"Argument `params` must be laid out along axes of the type jax.sharding.AxisType.Auto, but "
                f"{leaf_name('params', path)} lies along {', '.join(map(repr, axes))} of the type Explicit."
            )


def check_concrete(where: str, **arguments: PyTree) -> None:
    """Raises a TypeError for traced arguments of a function that works on numbers."""
    for name, value in arguments.items():
        if any(is_traced(leaf) for leaf in jax.tree.leaves(value)):
            raise TypeError(
                f"Argument `{name}` must hold numbers, since `{where}` works on these and cannot be inside of jit, vmap or "
                f"grad, as `solve` and `train` can, but a traced one was given."
            )


def guard_traced(params: PyTree) -> PyTree:
    """The finiteness check for parameters that are traced."""

    def guard(leaf):
        if is_traced(leaf) and is_parameter(leaf) and not silent():
            return eqx.error_if(leaf, ~jnp.all(jnp.isfinite(leaf)), "Argument `params` must be finite.")
        return leaf

    return jax.tree.map(guard, params)


def check_schedule(steps, paths, save_every) -> tuple[int, int, int]:
    """Steps, paths and save_every as integers, with save_every dividing steps."""
    steps, paths = integer("steps", steps, maximum=LARGEST), integer("paths", paths, maximum=LARGEST)
    save_every = integer("save_every", save_every)
    if steps % save_every:
        raise ValueError(f"Argument `save_every` must divide `steps`, {steps}, but {save_every} was given.")
    return steps, paths, save_every


def check_key(key, needed: bool) -> Array:
    """A typed key; a fixed one stands in where nothing is random."""
    if key is None:
        if needed:
            raise ValueError(
                "Argument `key` must be a key such as jax.random.key(0), because the run is random, but None was given."
            )
        return jax.random.key(0)
    return typed_key("key", key)


def step_length(equation, dt) -> Array:
    """The time of a training step: the learning rate, or `dt` for a dynamics that has none."""
    rate = learning_rate_of(equation)
    if rate is None and dt is None:
        raise ValueError(
            f"Argument `dt` must be the time of a training step, since {type(equation).__name__} has no "
            "learning rate, but None was given."
        )
    if rate is not None and dt is not None:
        raise ValueError(
            f"Argument `dt` must be None, since the learning rate of {type(equation).__name__} is its time of "
            f"a training step, but {dt!r} was given."
        )
    return positive("dt" if rate is None else "learning_rate")(dt if rate is None else rate)

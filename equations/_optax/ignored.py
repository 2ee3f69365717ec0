"""What a factory of an Optax optimizer makes of the numbers that it is given: whether its steps go as the learning rate,
and whether it uses its hyperparameters at all."""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks.arguments import leaf_name
from .._checks.once import once, silent, warn
from .._counts import schedule_counts
from .._jaxpr.structure import AFFINE, FREE, dependence, propagate
from .few import corner
from .probe import first_steps

_RATE = "learning_rate"
_HALF = 0.5  # of the learning rate, at which a step is half as long
_SIZES = (
    1.0,
    1e-3,
    1e3,
)  # of the gradients: a bound on a step, or what is added to it, is all of it beside some of them only
_OFF = 0.2  # of a step, that need not go as the rate: Madgrad goes as its power 2/3, and a power 1/2 or 2 is as far off


def check_uses(equation: Any, params: PyTree, rescales: bool = False, measured: bool = True) -> None:
    """Warns where the factory does not use what it is given; made once, silent under a trace.

    A schedule inside that leaves the learning rate out has its own times, and is told of where the learning rate
    `rescales`, as in a sweep. Not `measured`, for the algorithm alone, the learning rate is looked for in the jaxpr.
    """
    if silent(eqx.filter((equation, params), eqx.is_array)):
        return
    ignored = [name for name in once(ignored_numbers, equation, params) or () if name != _RATE or not measured]
    if ignored:
        names = ", ".join(f"`{name}`" for name in ignored)
        warn(
            f"Argument `factory` must use {names}, but what it makes is the same whatever is given there: the algorithm is "
            "not the one that was asked for, and a clock that goes by these numbers is wrong."
        )
    if not measured:
        return
    power = round(np.log2(float(equation.learning_rate)))
    told = once(misused_rate, equation, params, power, rescales)
    if told is not None:
        warn(told)


def misused_rate(equation: Any, params: PyTree, power: int = 0, rescales: bool = False) -> str | None:
    """What is to be said where the parameters' steps do not go as the rate that the times of a run are sums of.

    `power` of 2 is about the learning rate, by which the answer is remembered: a factory may clip what it is given.
    """
    params = corner(params)
    try:
        steps = [first_steps(equation, params, factor, size) for size in _SIZES for factor in (1.0, _HALF)]
    except Exception:  # what depends on the shapes of the parameters is not measured
        return None
    names = [leaf_name("params", path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for name, *leaf in zip(names, *steps, strict=True):
        if any(step is None for step in leaf):
            continue
        pairs = list(zip(leaf[::2], leaf[1::2], strict=True))
        if all(_off(*pair, _HALF) for pair in pairs):
            (at, whole), (_, half) = pairs[0]
            if not rescales and not all(_off(*pair, _expected(equation, at)) for pair in pairs):
                continue
            found = np.linalg.norm(half) / np.linalg.norm(whole)
            return (
                f"Argument `factory` must make steps in proportion to the learning rate, but on a probe those of {name} "
                f"at half of it are {found:.3g} times as long, in place of .5, as of a factory that fixes, squares or "
                "clips its rate: the times of a run, sums of `learning_rate`, and whatever else goes by it are not the "
                "algorithm's. Hand the learning rate on as it is."
            )
    return None


def _off(whole: tuple, half: tuple, ratio: float) -> bool:
    """Whether the second of two steps is not `ratio` times the first."""
    (_, long), (_, short) = whole, half
    return bool(np.linalg.norm(short - ratio * long) > _OFF * np.linalg.norm(long))


def _expected(equation: Any, step: int) -> float:
    """How much the rate of a training step, with what a schedule inside makes of it, falls with half the learning rate."""
    slower = eqx.tree_at(lambda e: e.learning_rate, equation, equation.learning_rate * _HALF)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be read is told of where times are made
        whole, half = (float(e.scaling_limit().learning_rate_at(jnp.asarray(step))) for e in (equation, slower))
    return half / whole if whole else _HALF


def ignored_numbers(equation: Any, params: PyTree) -> tuple[str, ...]:
    """Which of learning rate and hyperparameters, as far as they are real numbers, the algorithm does not depend on.

    Neither memory nor step do, by their jaxpr. What has no part in these parameters alone, such as an average for matrices
    where there is none, is left out, and so is a learning rate beside a schedule, which has one of its own.
    """
    found: set[str] | None = None
    for probe in (params, {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}):
        try:
            unused = _unused(equation, probe)
        except Exception:  # a factory that takes trees like the user's only
            continue
        found = unused if found is None else found & unused
        if not found:
            return ()
    return tuple(sorted(found or ()))


def _unused(equation, params) -> set[str]:
    numbers, rest = eqx.partition(equation.hyperparameters, eqx.is_inexact_array)
    numbers = {_RATE: equation.learning_rate, **numbers}

    def made(numbers, params):
        values = eqx.combine({name: value for name, value in numbers.items() if name != _RATE}, rest)
        slots = lambda e: (e.learning_rate, e.hyperparameters)  # noqa: E731
        twin = eqx.tree_at(slots, equation, (numbers[_RATE], values)).twin()
        memory = jax.tree.map(jnp.asarray, twin.init(params))
        return memory, twin.update(params, memory, params)

    with jax.numpy_dtype_promotion("standard"):
        jaxpr, (memory, _) = jax.make_jaxpr(made, return_shape=True)(numbers, params)
    names = [path[0].key for path, _ in jax.tree_util.tree_leaves_with_path(numbers)]

    def used(name):
        if name == _RATE and any(jax.tree.leaves(schedule_counts(memory))):
            return True
        marks = [AFFINE if name == other else FREE for other in names]
        return any(propagate(dependence, jaxpr.jaxpr, marks + [FREE] * (len(jaxpr.jaxpr.invars) - len(names))))

    return {name for name in names if not used(name)}

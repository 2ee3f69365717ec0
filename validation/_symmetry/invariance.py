"""`invariance`: a reflection, a permutation or a finite rotation of the parameters, held against the loss and phi."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from dynamics.internal import Problem
from equations import AbstractEquation, AbstractSignal
from equations.internal import add_scaled

from .._irreversibility.batches import check_batches_only, potential
from .._irreversibility.one_batch import square
from .results import Invariance


def invariance(
    transform: Callable, equation: AbstractEquation, objective: AbstractSignal, params: PyTree
) -> Invariance:
    """A discrete or continuous transformation of the parameters (a reflection, a permutation, a finite rotation).

    **Arguments:** `transform`, from parameters to parameters, linear where it acts; `equation` gives the minibatches of
    phi.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    if not callable(transform):
        raise TypeError(f"Argument `transform` must map parameters to parameters, but {transform!r} was given.")
    problem = Problem.of(equation, objective, params, algorithm=True)
    check_batches_only(problem.equation)
    theta = problem.dynamic

    shape = lambda tree: jax.tree.map(jnp.shape, tree)  # noqa: E731
    image = jax.eval_shape(transform, theta)
    if jax.tree.structure(image) != jax.tree.structure(theta) or shape(image) != shape(theta):
        raise ValueError(
            f"Argument `transform` must give arrays like the parameters, {shape(theta)}, but it gives {shape(image)}."
        )
    return Invariance(*(float(x) for x in _invariance(transform, problem.equation, problem.signal, theta)))


@eqx.filter_jit
def _invariance(transform, equation, signal, theta):
    image, push = jax.linearize(transform, theta)
    before, after = (jnp.stack(jax.lax.map(lambda i, p=p: _value(signal, p, i), jnp.arange(signal.size)))
                     for p in (theta, image))  # fmt: skip
    here, there = signal.gradient(theta), signal.gradient(image)
    off = add_scaled(there, (-1.0, push(here)))
    ratio = potential(equation, signal, image)[0] / potential(equation, signal, theta)[0]
    return jnp.max(jnp.abs(after - before)), jnp.sqrt(square(off) / square(here)), ratio


def _value(signal, params, index):
    example = jax.tree.map(lambda leaf: leaf[index], signal.examples)
    return signal.surrogate(params, params, example)

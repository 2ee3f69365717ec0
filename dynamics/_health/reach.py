"""Where strong noise is to be looked for: at the start or later on, at once or through the flow."""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from equations.internal import is_traced, split

# Of dt times a rate: below, a velocity whose response to noise is bounded averages over some kicks.
_FAST = 0.3
# By this share the first training step of an equation differs from its own where the equation is singular there.
_SINGULAR = 0.5


def acts_through_flow(dynamics, state: PyTree, pace: float, few: bool) -> bool:
    """Whether kicks may move what no noise depends on: velocities, known by a leapfrog step or, if need be, unknown.

    `pace` is dt times the fastest rate of the leapfrog step, `few` whether a look at kicks costs little.

    A first moment over the root of a second one is a velocity too, and forgets within a step where b1 is small. Where all
    gradients vanish at one minimum and single examples make steps of half the distance to it, typical paths of Adam at
    b1 = 0 end 3 in the logarithm too far out, at b1 = .5 .6. At b1 = .9 it is right to a tenth in the mean square, as Lion
    and SignSGD are to a sixth: their steps are bounded however strong the noise is. At a saddle all three are right to a
    twentieth (60 steps of .01 to .5, 600 to 4000 paths, against 16 substeps).
    There Adam at b1 = 0 has nothing to be told of either: typical paths from .1 are .20(3) in the logarithm too far out
    after 60 steps, .040(7) after 240 and .019(3) after 960: an error of the start, and none of the exponent (steps of .1
    and .5, 2000 and 4000 paths).
    """
    splitting = split(dynamics)
    if not splitting.noise_is_of_a_gradient:
        return True
    if not splitting.leapfrog:
        return False
    return dynamics.is_affine(state) or (pace > _FAST and few)


def fastest(table: np.ndarray) -> float:
    """The largest modulus of the eigenvalues of a Jacobian; infinite where it is not finite."""
    return float(np.max(np.abs(np.linalg.eigvals(table.astype(float))))) if np.all(np.isfinite(table)) else np.inf


def memory_of(dynamics, state: PyTree) -> list[Array]:
    """The arrays of a state that are no parameters."""
    state = jax.tree.map(_other, state)  # an average begins as the very array of the parameters
    own = {id(leaf) for leaf in jax.tree.leaves(dynamics.params(state))}
    return [leaf for leaf in jax.tree.leaves(state) if id(leaf) not in own and jnp.issubdtype(leaf.dtype, jnp.inexact)]


def _other(leaf: Array) -> Array:
    """The same numbers as another object."""
    return leaf + jnp.zeros((), leaf.dtype) if is_traced(leaf) else np.array(leaf)  # pyright: ignore[reportReturnType]


def is_empty(memory: Any, params: list) -> Any:
    """Whether an array of a memory holds nothing yet: zeros, or the parameters, as an average does at first."""
    copies = [(memory == leaf).all() for leaf in params if leaf.shape == memory.shape]
    return functools.reduce(operator.or_, copies, (memory == 0).all())


def begins_regular(dynamics, signal, start: PyTree, first: PyTree, dt: Array) -> Array:
    """Whether an equation whose first training step is taken as the algorithm takes it, from `start` to `first`, is regular
    there: its memory is not empty, and its own step would be nearly the same."""
    memory = memory_of(dynamics, start)
    here = jax.tree.leaves(dynamics.params(start))
    filled = ~jnp.all(jnp.stack([is_empty(leaf, here) for leaf in memory])) if memory else jnp.asarray(True)
    field = jax.tree.map(lambda y: dt * y, dynamics.drift(jnp.zeros_like(dt), start, signal))
    after, ours = (jax.tree.leaves(dynamics.params(tree)) for tree in (first, field))
    taken = [b - a for a, b in zip(here, after, strict=True)]
    off = jnp.sum(jnp.stack([jnp.sum(jnp.square(a - b)) for a, b in zip(taken, ours, strict=True)]))
    return filled & (off <= _SINGULAR**2 * jnp.sum(jnp.stack([jnp.sum(jnp.square(a)) for a in taken])))

"""Syre: decay to a random center, which no symmetry of the loss respects."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._checks.arguments import flag, nonnegative, typed_key
from .base import is_parameter


class Distance(eqx.Module):
    """strength * sum_j weight_j (theta_j - center_j)^2, of parameters like `center`."""

    center: PyTree
    weight: PyTree
    strength: Array

    def __call__(self, params: PyTree) -> Array:
        params = eqx.filter(params, is_parameter)
        given, known = (jax.tree.map(jnp.shape, tree) for tree in (params, self.center))
        if jax.tree.structure(params) != jax.tree.structure(self.center) or given != known:
            raise ValueError(
                f"Argument `params` must be like those that `syre` was given, of shapes {known}, but {given} was given."
            )

        def part(p, center, weight):
            return jnp.sum(weight.astype(p.dtype) * (p - center.astype(p.dtype)) ** 2)

        parts = jax.tree.leaves(jax.tree.map(part, params, self.center, self.weight))
        return self.strength.astype(parts[0].dtype) * sum(parts)


def syre(params: PyTree, key: Array, strength=1e-3, spread=0.01, diagonal: bool = False) -> Distance:
    r"""The penalty strength |theta - theta_0|^2 with a fixed random center theta_0 ~ N(0, spread^2), for `regularized`.

    States that are alike under a symmetry of the loss, such as neurons that do the same, have gradients that are alike, and
    no optimizer tells them apart. A random center does, for reflections and permutations; with `diagonal`, random positive
    weights of the squares, also for continuous symmetries.

    Source: Ziyin, Xu and Chuang 2024, arXiv:2408.15495. The law of the weights, uniform on [1/2, 3/2], is ours.

    **Arguments:**

    - `params`: parameters of the structure that will be trained, a PyTree or an Equinox module.
    - `key`: of the center and the weights.
    - `strength`, `spread`: zero or more; spread 0 without `diagonal` is plain weight decay, 2 strength theta.

    **Raises:** TypeError or ValueError, naming the argument.
    """
    strength, spread = nonnegative("strength")(strength), nonnegative("spread")(spread)
    key = typed_key("key", key)
    leaves, treedef = jax.tree.flatten(eqx.filter(params, is_parameter))
    if not leaves:
        raise TypeError(f"Argument `params` must hold at least one floating-point array, but {params!r} was given.")
    keys = jax.random.split(key, (2, len(leaves)))
    center = [
        spread.astype(p.dtype) * jax.random.normal(k, p.shape, p.dtype) for k, p in zip(keys[0], leaves, strict=True)
    ]
    if flag("diagonal")(diagonal):
        weight = [jax.random.uniform(k, p.shape, p.dtype, 0.5, 1.5) for k, p in zip(keys[1], leaves, strict=True)]
    else:
        weight = [jnp.ones((), p.dtype) for p in leaves]
    return Distance(jax.tree.unflatten(treedef, center), jax.tree.unflatten(treedef, weight), strength)

"""Whether a vector field has a potential, by random probes of its Jacobian."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .one_batch import dot


def curl(fields: Callable[[PyTree], list[PyTree]], params: PyTree, key: Array, probes: int) -> Array:
    r"""|J - J^T|/(2 |J|) in the Frobenius norm for each field: 0 if it has a potential, 1 if it is a pure rotation.

    A field that does not change (J = 0) has a potential.

    With random directions u and w, u . J w - w . J u has the mean square |J - J^T|^2 and u . J w that of |J|^2. The ratio
    of the two sums over `probes` pairs estimates it, without any Jacobian: two Jacobian-vector products each.
    """

    def probe(k):
        leaves, treedef = jax.tree.flatten(params)
        keys = jax.random.split(k, 2 * len(leaves))
        draws = [
            jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, [*leaves, *leaves], strict=True)
        ]
        u, w = (jax.tree.unflatten(treedef, half) for half in (draws[: len(leaves)], draws[len(leaves) :]))
        along_u, along_w = (jax.jvp(fields, (params,), (v,))[1] for v in (u, w))
        return jnp.stack([
            jnp.stack([dot(u, b), dot(w, a)]) for a, b in zip(along_u, along_w, strict=True)
        ])  # fmt: skip

    pairs = jax.lax.map(probe, jax.random.split(key, probes))  # (probes, fields, 2)
    difference = jnp.sum((pairs[..., 0] - pairs[..., 1]) ** 2, axis=0)
    # |J - J^T|^2 <= 2 sum of both squares: the ratio is at most 1.
    both = 2 * jnp.sum(pairs**2, axis=(0, 2))
    return jnp.sqrt(jnp.where(both == 0, 0.0, difference / both))

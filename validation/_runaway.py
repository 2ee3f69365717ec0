"""When a path has diverged, although its numbers are finite."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

RUNAWAY = 1e8  # times the first parameters, or 1: beyond it a path has diverged, whatever overflows


def largest(params: PyTree) -> Array:
    """The largest size of any parameter, a scalar."""
    leaves = [jnp.max(jnp.abs(leaf)).astype(float) for leaf in jax.tree.leaves(params) if leaf.size]
    return jnp.max(jnp.stack(leaves)) if leaves else jnp.zeros(())

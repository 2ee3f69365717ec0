"""The keys of a random loss: fixed ones, by which its mean is known, and fresh ones, made of normal numbers."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

_FIXED = np.uint32(0xD1B54A32)  # a word that no normal number of single precision has


class Keyed(eqx.Module):
    """An example of a random loss: what the user gave, and a key to draw by or the number that fixed keys are made of."""

    example: PyTree
    key: Array


def parts_of(example: Any) -> tuple[PyTree, Array]:
    """What the user gave of an example of a random loss, and what it draws by."""
    if not isinstance(example, Keyed):
        raise TypeError("The surrogate of a random loss takes one of its `examples`, which know their keys.")
    return example.example, example.key


def is_key(key: Array) -> bool:
    """Whether this is a typed key, and no number of an example."""
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def fixed_keys(number: Array, count: int) -> Array:
    """The keys of the example of this number, always the same, shape `(count,)`."""
    place = jnp.arange(count, dtype=jnp.uint32)
    return _keys(jnp.broadcast_to(number.astype(jnp.uint32), place.shape), _FIXED ^ place)


def fresh_keys(normals: Float[Array, " N 2"]) -> tuple[Array, Array]:
    """Two typed keys from each pair of standard normals, shapes `(N,)`: all that a step draws is normal numbers.

    They are made of their bits, 23 that are random in a number of single precision.
    """
    bits: Any = jax.lax.bitcast_convert_type(normals, _UNSIGNED[normals.dtype.itemsize])
    words = bits[..., 0] ^ bits[..., 1] if normals.dtype.itemsize == 8 else bits.astype(jnp.uint32)
    return _keys(words[:, 0], words[:, 1]), _keys(words[:, 0], ~words[:, 1])


def _keys(first: Array, second: Array) -> Array:
    """Keys of two words each. They are not mixed before: what draws by them does that, and it is slow to compile."""
    return jax.random.wrap_key_data(jnp.stack([first, second], axis=-1), impl="threefry2x32")


_UNSIGNED = {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}

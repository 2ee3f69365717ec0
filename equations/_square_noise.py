"""The noise of a second moment, which stays positive."""

import jax.numpy as jnp
from jaxtyping import Array


def clip_square_noise(square: Array, even: Array, odd: Array, dt: Array) -> Array:
    """`odd` of a kick dt (even + odd) of a second moment `square`, cut so that it stays positive, with its mean as it is.

    Over a whole training step the kick of a second moment is a square. Over a part of one the noise may be larger than the
    mean, and while the moment is not yet the sum of many steps, larger than itself: it is cut to three quarters of the mean
    increment and a fifth of the moment. A tighter cut takes away noise that the parameters' variance needs (test_adam.py),
    a looser one lets the moment come near zero, and the parameters leap. It no longer acts once some ten steps are in it.
    """
    bound = 0.75 * jnp.abs(even) + jnp.abs(square) / (5 * dt)
    return jnp.clip(odd, -bound, bound).astype(odd.dtype)

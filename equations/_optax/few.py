"""What a probe takes of an equation and its parameters: few numbers, made without compiling anything."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._modified.increment import AbstractIncrement

_LARGEST = 2  # along every axis of a leaf, of which the probe takes a corner
_OFF = 0.1  # where parameters begin at 0
_COPIED = 2**20  # numbers of a leaf at most, that are copied for its corner


def corner(params: PyTree) -> PyTree:
    """The parameters in their structure, but few of them, and none that is 0.

    Rules that go by the size of a leaf jump where it has none, as LARS does in the first step of a bias.
    """

    def few(leaf):
        corner = tuple(slice(_LARGEST) for _ in leaf.shape)
        # By NumPy, which compiles nothing, unless there is much to copy.
        leaf = np.asarray(leaf)[corner] if leaf.size <= _COPIED else np.asarray(leaf[corner])
        return np.where(leaf == 0, np.asarray(_OFF, leaf.dtype), leaf)

    return jax.tree.map(few, params)


def in_python(equation: AbstractIncrement) -> AbstractIncrement:
    """The equation with Python's numbers where it has arrays of one: arithmetic with those compiles a program for each."""
    real = lambda leaf: eqx.is_inexact_array(leaf) and leaf.ndim == 0  # noqa: E731
    return jax.tree.map(lambda leaf: float(leaf) if real(leaf) else leaf, equation)


def in_jax(equation: AbstractIncrement, like: AbstractIncrement) -> AbstractIncrement:
    """And back, with arrays of the dtypes that `like` has."""

    def one(number, array):
        return (
            jnp.asarray(number, None if jax.typeof(array).weak_type else array.dtype) if eqx.is_array(array) else number
        )

    return jax.tree.map(one, equation, like)

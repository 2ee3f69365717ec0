"""How the columns of a root of the noise change with the state, to first order: what makes noise multiplicative."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .local import Local, late

HELD = 10**7  # numbers: up to so many the derivatives are held as matrices
_ROOT = 2**28  # numbers in the root itself: two gigabytes
_PROBED = 2**27  # numbers in the probes of a rank: a gigabyte
_SPARE = 4  # probes beyond a rank, which they then show
_FLOOR = 1e3  # rounding errors: singular values below are none
_AT_ONCE = 32  # directions of a derivative
_CARRIED = 2**23  # numbers of carried columns at a time


class Columns(NamedTuple):
    """The derivatives of the columns, B_k = common + left_k right_k, of shapes `(d, d)`, `(n, d, r)` and `(n, r, d)`."""

    common: np.ndarray
    left: np.ndarray
    right: np.ndarray

    def growth(self, covariance: np.ndarray) -> np.ndarray:
        """sum_k B_k C B_k^T for a symmetric C, `(d, d)`."""
        count, size, rank = self.left.shape
        beside = (self.right.reshape(-1, size) @ covariance).reshape(count, rank, size)
        inner = self.left @ (beside @ self.right.swapaxes(1, 2))
        flat = lambda parts: parts.swapaxes(0, 1).reshape(size, -1)  # noqa: E731
        total = flat(inner) @ flat(self.left).T
        if np.any(self.common):
            ahead = self.common @ covariance
            cross = ahead @ (flat(self.left) @ self.right.reshape(-1, size)).T
            total = total + count * ahead @ self.common.T + cross + cross.T
        return (total + total.T) / 2

    def within(self, basis: np.ndarray) -> "Columns":
        """In the coordinates of an orthonormal basis `(d, rank)`."""
        return Columns(basis.T @ self.common @ basis, basis.T @ self.left, self.right @ basis)

    def carried(self, new: np.ndarray) -> Iterator[np.ndarray]:
        """Blocks of B_k new, in units of the lengths of the B_k; `new` has the shape `(d, m)`."""
        some = max(1, _CARRIED // max(1, new.size))
        for begin in range(0, len(self.left), some):
            left, right = self.left[begin : begin + some], self.right[begin : begin + some]
            lengths = np.linalg.norm(self.common + left @ right, axis=(1, 2))
            seen = lengths > 0
            blocks = (self.common @ new + left[seen] @ (right[seen] @ new)) / lengths[seen, None, None]
            yield blocks.swapaxes(0, 1).reshape(len(new), -1)


def noise_columns(equation: Any, signal: Any, state: Any, mean: np.ndarray) -> Columns:
    """At the mean; a ValueError where they are too many, and of too high a rank, to be held."""
    count, size = _count(equation, signal, state, mean), mean.size
    arguments = equation, signal, state, mean
    if count * size**2 <= HELD:
        whole = np.asarray(_whole(*arguments), float)
        return Columns(np.zeros((size, size)), whole, np.broadcast_to(np.eye(size), (count, size, size)))
    common = np.asarray(_first(*arguments), float)
    random, probes = np.random.default_rng(0), 8
    while 2 * probes < size and count * size * probes <= _PROBED:
        directions = random.normal(size=(probes, size))
        seen = np.asarray(_along(*arguments, directions.astype(mean.dtype)), float)  # (probes, d, n)
        seen = np.ascontiguousarray(np.moveaxis(seen, (2, 1, 0), (0, 1, 2)))
        floor = _FLOOR * np.finfo(mean.dtype).eps * np.linalg.norm(seen, axis=(1, 2)).max(initial=0.0)
        u, s, _ = np.linalg.svd(seen - common @ directions.T, full_matrices=False)
        rank = int(np.max(np.sum(s > floor, axis=1), initial=0))
        if rank <= probes - _SPARE:
            left = np.ascontiguousarray(u[:, :, : max(rank, 1)])
            across = np.ascontiguousarray(left.swapaxes(1, 2))
            rows = np.asarray(_rows(*arguments, across.astype(mean.dtype)), float)
            return Columns(common, left, rows - (across.reshape(-1, size) @ common).reshape(rows.shape))
        probes *= 2
    raise ValueError(
        f"Argument `multiplicative` must be False for noise of {count} columns in {size} dimensions, whose derivatives are "
        "too many to be held and of no low rank, but True was given."
    )


def check_columns(equation: Any, signal: Any, state: Any, size: int, dtype: Any) -> None:
    """Raises a ValueError where the root of the diffusion is too large to be held."""
    count = _count(equation, signal, state, jax.ShapeDtypeStruct((size,), dtype))
    if count * size > _ROOT:
        raise ValueError(
            f"Argument `objective` must have fewer examples: the noise of {type(equation).__name__} has {count} columns in "
            f"{size} dimensions, {8e-9 * count * size:.1f} GB. (A rule of second degree in the gradient, as Adam, has one "
            "for every pair of examples.)"
        )


def _count(equation, signal, state, mean) -> int:
    root = eqx.filter_eval_shape(lambda y: Local.at(equation, signal, state)[0].root(late(equation, y), y), mean)
    return root.shape[1]


@eqx.filter_jit
def _whole(equation, signal, state, mean):
    """All derivatives, `(n, d, d)`."""
    local, t = Local.at(equation, signal, state)[0], late(equation, mean)
    return jnp.moveaxis(jax.jacfwd(lambda y: local.root(t, y))(mean), 1, 0)


@eqx.filter_jit
def _first(equation, signal, state, mean):
    """That of the first column, `(d, d)`."""
    local, t = Local.at(equation, signal, state)[0], late(equation, mean)
    ways = jnp.eye(mean.size, dtype=mean.dtype)
    column = lambda y: local.column(t, y, 0)  # noqa: E731
    along = lambda way: jax.jvp(column, (mean,), (way,))[1]  # noqa: E731
    return jax.lax.map(along, ways, batch_size=_AT_ONCE).T


@eqx.filter_jit
def _along(equation, signal, state, mean, directions):
    """The derivative of the root along directions `(p, d)`, `(p, d, n)`."""
    local, t = Local.at(equation, signal, state)[0], late(equation, mean)
    return jax.lax.map(lambda way: jax.jvp(lambda y: local.root(t, y), (mean,), (way,))[1], directions)


@eqx.filter_jit
def _rows(equation, signal, state, mean, left):
    """The gradients of left_k . column k, `(n, r, d)`, for `(n, r, d)`."""
    local, t = Local.at(equation, signal, state)[0], late(equation, mean)

    def rows(argument):
        place, vectors = argument
        back = jax.vjp(lambda y: local.column(t, y, place), mean)[1]
        return jax.vmap(lambda vector: back(vector)[0])(vectors)

    size = max(1, 10**8 // left.size)  # numbers of all examples for each at a time
    return jax.lax.map(rows, (jnp.arange(len(left)), left), batch_size=size)

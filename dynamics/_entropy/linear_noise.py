"""The stationary covariance, current and entropy production of a linear process whose noise may be singular; in NumPy."""

from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from .columns import Columns
from .lyapunov import Lyapunov

_SMALL = 64  # dimensions


class Linear(NamedTuple):
    """What `continuous` and `discrete` return; `rank` is the dimension of the space that the noise reaches in time."""

    covariance: np.ndarray
    current: np.ndarray
    rate: float
    rank: int


def reached(matrix: np.ndarray, root: np.ndarray, columns: Columns | None, eps: float) -> np.ndarray:
    """An orthonormal basis `(d, rank)` of what the noise reaches: the range of root, A root, A^2 root, ...

    `columns` carry noise on too, as the derivatives of multiplicative noise do.
    """
    basis = _range(root, eps)[0]
    if basis.shape[1] < len(matrix):
        length = np.linalg.norm(matrix, 2)
        alone = lambda new: [matrix / length @ new] if length else []  # noqa: E731
        basis = _closed(basis, alone, eps)
        if columns is not None:
            basis = _closed(basis, lambda new: chain(alone(new), columns.carried(new)), eps)
    return basis if basis.shape[1] < len(matrix) else np.eye(len(matrix))


def _closed(basis: np.ndarray, carried, eps: float) -> np.ndarray:
    """The basis with all that `carried(columns)`, blocks of columns, leads to from it."""
    new = basis
    while new.shape[1] and basis.shape[1] < len(basis):
        begin = basis.shape[1]
        for further in carried(new):
            for _ in range(2):  # once more, for what rounding left
                further = further - basis @ (basis.T @ further)
            u, s, _ = np.linalg.svd(further, full_matrices=False)
            found = u[:, s > 30 * len(basis) * eps]
            found = np.linalg.qr(found - basis @ (basis.T @ found))[0]
            basis = np.concatenate([basis, found], axis=1)
        new = basis[:, begin:]
    return basis


def continuous(matrix, root, columns, signs, extra, eps, lyapunov) -> Linear:
    """Of dy = A y dt + root dW, with `extra` on the diagonal of S = root root^T; `signs` under time reversal.

    `lyapunov` is the `Lyapunov` of the whole matrix.
    """
    noise = root @ root.T + extra * np.eye(len(root))
    basis = reached(matrix, _with(root, extra), columns, eps)
    covariance, inverse, factor = _covariance(lyapunov, matrix, noise, columns, basis)
    pull = noise @ inverse / 2
    rate = np.nan
    if columns is None:
        irreversible = (matrix + signs[:, None] * matrix * signs) / 2
        rate = 2 * _quadratic([((irreversible + pull) @ factor, (np.abs(irreversible) + np.abs(pull)) @ np.abs(factor))],
                              root, extra, eps)  # fmt: skip
    return Linear(covariance, (matrix + pull) @ basis @ basis.T, rate, basis.shape[1])


def discrete(matrix, root, columns, eta, extra, eps, lyapunov) -> Linear:
    """Of y' = M y + sqrt(eta) root normals, M = 1 + eta A, with `extra` on the diagonal of S."""
    one = np.eye(len(matrix))
    step, noise = one + eta * matrix, root @ root.T + extra * one
    basis = reached(step, _with(root, extra), columns, eps)
    covariance, inverse, factor = _covariance(lyapunov, matrix, noise, columns, basis)
    correlation = step @ covariance
    current = (correlation - correlation.T) / 2 @ inverse
    rate = np.nan
    if columns is None:
        # y - M y' = (1 - M^2) y - M noise must lie in the range of the noise.
        shock = np.sqrt(eta) * _with(root, extra)
        parts = [
            ((one - step @ step) @ factor, (one + np.abs(step) @ np.abs(step)) @ np.abs(factor)),
            (step @ shock, np.abs(step) @ np.abs(shock)),
        ]
        rate = (_quadratic(parts, root, extra, eps) / eta - len(_spectrum(root, extra, eps)[1])) / (2 * eta)
    return Linear(covariance, current, rate, basis.shape[1])


def _with(root, extra):
    """A root of root root^T + extra."""
    return np.concatenate([root, np.sqrt(extra) * np.eye(len(root))], axis=1) if extra else root


def _range(root, eps) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal directions of the range of a root, `(d, k)`, and the root's lengths along them, `(k,)`."""
    longest = max(root.shape)
    if root.shape[1] > len(root) > _SMALL:  # a triangle has the same range and lengths, at less cost
        triangle: Any = np.linalg.qr(root.T, mode="r")
        root = triangle.T
    u, s, _ = np.linalg.svd(root, full_matrices=False)
    seen = s > s.max(initial=0.0) * longest * eps
    return u[:, seen], s[seen]


def _spectrum(root, extra, eps):
    """Directions `(d, k)` and variances `(k,)` of the noise, where it is not zero."""
    directions, lengths = _range(_with(root, extra), eps)
    return directions, lengths**2


def _covariance(lyapunov, matrix, noise, columns, basis):
    """The solution of the Lyapunov equation in the space that is reached, its pseudo-inverse and a factor of it."""
    if basis.shape[1] < len(matrix):
        lyapunov = Lyapunov(basis.T @ matrix @ basis, lyapunov.eta)
        noise = basis.T @ noise @ basis
        columns = columns and columns.within(basis)
    if columns is None:
        covariance = lyapunov.solve(noise)
    else:
        covariance = lyapunov.with_growth(noise, columns.growth)
    inverse = basis @ np.linalg.inv(covariance) @ basis.T
    values, vectors = np.linalg.eigh(covariance)
    return basis @ covariance @ basis.T, inverse, basis @ vectors * np.sqrt(np.maximum(values, 0))


def _quadratic(parts, root, extra, eps) -> float:
    """sum over the parts (G, moduli) of tr[S^+ G G^T]; infinite if a G reaches out of the range of S.

    The moduli are what the terms of G add up to without their signs: what G is compared with to be zero.
    """
    directions, variances = _spectrum(root, extra, eps)
    total = 0.0
    for matrix, moduli in parts:
        inside = directions.T @ matrix
        out = matrix - directions @ inside
        moduli = moduli + np.abs(directions) @ np.abs(inside)
        if np.any(np.linalg.norm(out, axis=1) > 1e3 * len(root) * eps * np.linalg.norm(moduli, axis=1)):
            return np.inf
        total += np.sum(inside**2 / variances[:, None])
    return float(total)

"""The stationary covariance, current and entropy production of a linear process whose noise may be singular; in NumPy."""

from typing import NamedTuple

import numpy as np


class Linear(NamedTuple):
    """What `continuous` and `discrete` return; `rank` is the dimension of the space that the noise reaches in time."""

    covariance: np.ndarray
    current: np.ndarray
    rate: float
    rank: int


def reached(matrix: np.ndarray, root: np.ndarray, columns: list, eps: float) -> np.ndarray:
    """An orthonormal basis `(d, rank)` of what the noise reaches: the range of root, A root, A^2 root, ...

    `columns` are matrices that carry noise on, as the derivatives of multiplicative noise do.
    """
    basis = _range(root, eps)[0]
    carriers = [m / np.linalg.norm(m, 2) for m in (matrix, *columns) if np.any(m)]
    new = basis
    while new.shape[1] and basis.shape[1] < len(matrix):
        further = np.concatenate([m @ new for m in carriers], axis=1) if carriers else new[:, :0]
        for _ in range(2):  # once more, for what rounding left
            further = further - basis @ (basis.T @ further)
        u, s, _ = np.linalg.svd(further, full_matrices=False)
        new = u[:, s > 30 * len(matrix) * eps]
        basis = np.linalg.qr(np.concatenate([basis, new], axis=1))[0]
    return basis


def continuous(matrix, root, columns, signs, extra, eps) -> Linear:
    """Of dy = A y dt + root dW, with `extra` on the diagonal of S = root root^T; `signs` under time reversal."""
    noise = root @ root.T + extra * np.eye(len(root))
    basis = reached(matrix, _with(root, extra), columns or [], eps)
    a, s = basis.T @ matrix @ basis, basis.T @ noise @ basis
    one = np.eye(len(a))
    operator = np.kron(one, a) + np.kron(a, one)
    covariance, inverse, factor = _covariance(operator, s, 1.0, columns, basis)
    pull = noise @ inverse / 2
    irreversible = (matrix + signs[:, None] * matrix * signs) / 2
    rate = 2 * _quadratic([((irreversible + pull) @ factor, (np.abs(irreversible) + np.abs(pull)) @ np.abs(factor))],
                          root, extra, eps)  # fmt: skip
    return Linear(covariance, (matrix + pull) @ basis @ basis.T, rate if columns is None else np.nan, basis.shape[1])


def discrete(matrix, root, columns, eta, extra, eps) -> Linear:
    """Of y' = M y + sqrt(eta) root normals, M = 1 + eta A, with `extra` on the diagonal of S."""
    one = np.eye(len(matrix))
    step, noise = one + eta * matrix, eta * (root @ root.T + extra * one)
    basis = reached(matrix, _with(root, extra), columns or [], eps)
    m = basis.T @ step @ basis
    covariance, inverse, factor = _covariance(
        np.kron(m, m) - np.eye(m.shape[0] ** 2), basis.T @ noise @ basis, eta, columns, basis
    )
    correlation = step @ covariance
    current = (correlation - correlation.T) / 2 @ inverse
    # y - M y' = (1 - M^2) y - M noise must lie in the range of the noise.
    shock = np.sqrt(eta) * _with(root, extra)
    parts = [
        ((one - step @ step) @ factor, (one + np.abs(step) @ np.abs(step)) @ np.abs(factor)),
        (step @ shock, np.abs(step) @ np.abs(shock)),
    ]
    rate = (_quadratic(parts, root, extra, eps) / eta - len(_spectrum(root, extra, eps)[1])) / (2 * eta)
    return Linear(covariance, current, rate if columns is None else np.nan, basis.shape[1])


def _with(root, extra):
    """A root of root root^T + extra."""
    return np.concatenate([root, np.sqrt(extra) * np.eye(len(root))], axis=1) if extra else root


def _range(root, eps) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal directions of the range of a root, `(d, k)`, and the root's lengths along them, `(k,)`."""
    u, s, _ = np.linalg.svd(root, full_matrices=False)
    seen = s > s.max(initial=0.0) * max(root.shape) * eps
    return u[:, seen], s[seen]


def _spectrum(root, extra, eps):
    """Directions `(d, k)` and variances `(k,)` of the noise, where it is not zero."""
    directions, lengths = _range(_with(root, extra), eps)
    return directions, lengths**2


def _covariance(operator, noise, scale, columns, basis):
    """The solution of the Lyapunov equation in the space that is reached, its pseudo-inverse and a factor of it."""
    if columns is not None:
        operator = operator + scale * sum(np.kron(c, c) for c in (basis.T @ c @ basis for c in columns))
        if len(operator) and np.linalg.eigvals(operator).real.max() >= 0:
            raise ValueError(
                "Argument `params` must lead to a finite covariance, but the multiplicative noise has none."
            )
    covariance = -np.linalg.solve(operator, noise.ravel()).reshape(noise.shape)
    covariance = (covariance + covariance.T) / 2
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

"""Lyapunov equations, also with noise that grows with the state."""

from typing import Any

import numpy as np

_ITERATIONS = 60  # directions that an iteration keeps at a time
_ROUNDS = 8
_RESIDUAL = 1e-13  # of an iteration, relative
_FOUND = 1e-9  # beyond which it has found nothing


class Lyapunov:
    """The map from X to C with A C + C A^T + eta A C A^T + X = 0, which is C = M C M^T + eta X with M = 1 + eta A.

    A, `(d, d)`, is decomposed once, by its eigenvectors where it is symmetric up to rounding, else by Schur (Bartels and
    Stewart 1972, Communications of the ACM 15, 820), with Cayley's transform A (1 + eta A/2)^{-1} in place of A.
    """

    def __init__(self, matrix: np.ndarray, eta: float = 0.0):
        self.eta, size = eta, len(matrix)
        off = np.linalg.norm(matrix - matrix.T) if size else 0.0
        self.symmetric = off <= 4 * np.finfo(float).eps * size * np.linalg.norm(matrix) if size else True
        if self.symmetric:
            self.values, self.vectors = np.linalg.eigh((matrix + matrix.T) / 2)
            return
        from scipy.linalg import schur  # here as below, since the import of SciPy takes a while

        self.triangle, self.vectors = schur(matrix)[:2]
        below = np.diagonal(self.triangle, -1)
        first = np.flatnonzero(below)  # of each pair of conjugate eigenvalues
        turn = 1j * np.sqrt(-below[first] * np.diagonal(self.triangle, 1)[first])
        self.values = np.diagonal(self.triangle).astype(complex)
        self.values[first] += turn
        self.values[first + 1] -= turn
        if eta:
            self.half = np.eye(size) + eta / 2 * self.triangle
            full = np.linalg.solve(self.half, self.triangle)
            self.triangle = np.triu(full) + np.diag(np.where(below != 0, np.diagonal(full, -1), 0.0), -1)

    def solve(self, noise: np.ndarray) -> np.ndarray:
        """C of a symmetric X, `(d, d)`."""
        if not len(noise):
            return noise
        from scipy.linalg.lapack import dtrsyl  # pyright: ignore[reportAttributeAccessIssue]  # is made by f2py

        inside = self.vectors.T @ noise @ self.vectors
        if self.symmetric:
            sums = self.values[:, None] + self.values + self.eta * np.outer(self.values, self.values)
            inside = -inside / sums
        else:
            if self.eta:
                inside = np.linalg.solve(self.half, np.linalg.solve(self.half, inside).T)
            inside, scale, _ = dtrsyl(self.triangle, self.triangle, -inside, tranb="T")
            inside = inside / scale
        whole = self.vectors @ inside @ self.vectors.T
        return (whole + whole.T) / 2

    def with_growth(self, noise: np.ndarray, growth: Any) -> np.ndarray:
        """C with A C + C A^T + eta A C A^T + X + growth(C) = 0, `growth` linear and positive.

        In terms of T, `growth` and then `solve`, it is (1 - T)^{-1} of the solution without growth, by GMRES. It is a
        covariance only where the spectral radius of T is below 1, and as T is positive this shows in C itself: then C is at
        least what it would be without growth, and otherwise there is a direction in which it is negative (Damm 2004,
        Rational Matrix Equations in Stochastic Control, 3.3).

        **Raises:** ValueError where there is none.
        """
        from scipy.sparse.linalg import LinearOperator, gmres

        if not len(noise):
            return noise
        alone, shape = self.solve(noise), noise.shape
        made: Any = LinearOperator  # gives what fits its arguments, which are not those of its `__init__`
        operator = made(
            (noise.size, noise.size),
            dtype=float,
            matvec=lambda flat: flat.ravel() - self.solve(growth(flat.reshape(shape))).ravel(),
        )
        found, left = np.zeros(noise.size), alone.ravel()
        size = np.linalg.norm(left)
        for _ in range(3):  # what rounding leaves of the residual is solved for again
            change, _ = gmres(operator, left, rtol=_RESIDUAL, restart=_ITERATIONS, maxiter=_ROUNDS)
            found = found + change
            left = alone.ravel() - operator.matvec(found)
            if np.linalg.norm(left) <= 10 * _RESIDUAL * np.linalg.norm(found):
                break
        found = found.reshape(shape)
        known = np.linalg.norm(left) <= _FOUND * max(size, np.linalg.norm(found))
        if not (known and least_ratio(found, alone) > 0.5):
            raise ValueError(
                "Argument `params` must lead to a finite covariance, but the multiplicative noise has none."
            )
        return (found + found.T) / 2


def least_ratio(matrix: np.ndarray, other: np.ndarray) -> float:
    """The least x.matrix x/x.other x, of symmetric matrices; `other` is positive."""
    values, vectors = np.linalg.eigh(other)
    seen = values > len(other) * np.finfo(float).eps * values.max()
    root = vectors[:, seen] / np.sqrt(values[seen])
    return float(np.linalg.eigvalsh(root.T @ matrix @ root).min())

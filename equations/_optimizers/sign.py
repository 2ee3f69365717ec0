"""What rules that take the sign of the gradient share: the mean and the covariance of the sign of a noisy number."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from .._base import AbstractEquation
from .._checks.facts import refined
from .._checks.lineage import as_of
from .._noise.loss import check_loss_noise
from .._signals.base import AbstractSignal
from .._splitting import GradientSplitting
from .._tree import zeros_of


class AbstractSignEquation(AbstractEquation):
    """A rule with sign(x + delta) in it, delta the noise of the gradient, which smoothes its mean.

    The flow of a splitting is that mean; the kicks take the sign of the very draws, so that all their correlations are
    exact.
    """

    _facts = refined(AbstractEquation, instead="`velocity` and `drift` together")

    def mean_sign(self, params: PyTree, signal: AbstractSignal, x: PyTree) -> PyTree:
        """E sign(x + delta); sign(x) without noise."""
        check_loss_noise(self, signal)
        if not self.random:
            return jax.tree.map(jnp.sign, x)
        return self.gradient_noise.expected_sign(self.batches(signal), params, x)

    def splitting(self):
        return SignSplitting(self, smooth=False)

    def sign_root(self, params: PyTree, signal: AbstractSignal, x: PyTree):
        """(structure, map): the noise (sign(x + delta) - mean, delta) from normals of that structure, for small problems.

        With h = x/sigma the part of a sign that is linear in delta is D delta, D = 2 phi(h)/sigma; what it leaves out is
        uncorrelated with delta and has the covariance Cov(sign) - D Sigma D (Gaussian noise; derived).
        """
        noise, batches = self.gradient_noise, self.batches(signal)
        if not noise.normal:
            raise ValueError(
                "Argument `noise_model` must be Gaussian for the diffusion of a rule that takes the sign of the gradient, "
                f"but {noise!r} was given; the default solver does not need it."
            )
        root = noise.root(batches, params)
        normals, unravel_normals = ravel_pytree(zeros_of(root.in_structure()))
        columns = jax.vmap(lambda unit: ravel_pytree(root.mv(unravel_normals(unit)))[0])(
            jnp.eye(normals.size, dtype=normals.dtype)
        )
        covariance = columns.T @ columns
        flat, unravel = ravel_pytree(x)
        variance = jnp.diag(covariance)
        sigma = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
        h = jnp.where(variance > 0, flat / sigma, 40.0)  # a sign that is certain
        linear = (2 / jnp.pi) ** 0.5 * jnp.exp(-(h**2) / 2) / sigma
        rest = sign_covariance(h, covariance / jnp.outer(sigma, sigma)) - jnp.outer(linear, linear) * covariance
        values, vectors = jnp.linalg.eigh(rest)
        remaining = vectors * jnp.sqrt(jnp.maximum(values, 0.0))
        square = jax.ShapeDtypeStruct(flat.shape, flat.dtype)

        def apply(inputs):
            first, second = inputs
            delta = root.mv(first)
            return unravel(linear * ravel_pytree(delta)[0] + remaining @ second), delta

        return (root.in_structure(), square), apply


class SignSplitting(GradientSplitting):
    """The flow is the mean of the sign; the kicks take the sign of the very draws."""

    def flow(self, t, state, signal):
        equation = self.dynamics
        return as_of(type(equation), "drift", "splitting")(equation, t, state, signal)

    def check_noise(self, signal):
        equation = self.dynamics
        if equation.random:
            equation.gradient_noise.check_sign(equation.batches(signal).noisy)


@cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(48)


@jax.jit
def sign_covariance(h: Array, correlation: Array) -> Array:
    """Cov(sign(h_i + z_i), sign(h_j + z_j)) for standard normals z of this correlation, shape `(P, P)`.

    (2/pi) int_0^{asin rho} exp(-(h^2 + k^2 - 2 h k sin a)/(2 cos^2 a)) da (Plackett 1954, Biometrika 41, in Drezner's
    variable), by Gauss-Legendre quadrature; for rho = 1 it is 1 - erf(h/sqrt(2))^2.
    """
    rho = jnp.clip(jnp.where(jnp.eye(h.shape[0], dtype=bool), 1.0, correlation), -1.0, 1.0)
    top = jnp.arcsin(rho)
    squares, product = h[:, None] ** 2 + h[None, :] ** 2, jnp.outer(h, h)

    def add(total, node):
        point, weight = node
        angle = top * (point + 1) / 2
        exponent = (squares - 2 * product * jnp.sin(angle)) / (2 * jnp.cos(angle) ** 2)
        return total + weight * jnp.exp(-exponent), None

    nodes = tuple(jnp.asarray(x, h.dtype) for x in _nodes())
    return jax.lax.scan(add, jnp.zeros_like(squares), nodes)[0] * top / jnp.pi

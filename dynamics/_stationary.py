"""`stationary`: the Gaussian stationary distribution near a stable point, its current and its entropy production."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from equations import AbstractDynamics, AbstractEquation, AbstractSignal
from equations._checks import flag
from equations._increment import Increment
from equations._signal import is_parameter

from ._ensemble import check_equation, check_params, dynamic_numbers
from ._local import Local, flat_size, parity_vector

LARGEST = 64  # dimensions: the Lyapunov equation is solved as a linear system in d^2 unknowns
_NEWTON = 50


class Stationary(eqx.Module):
    r"""What `stationary` returns, in the flat coordinates of the state (`jax.flatten_util.ravel_pytree`), dimension d.

    **Attributes:**

    - `mean`: `(d,)`; `covariance`: C, `(d, d)`.
    - `jacobian`: A, the derivative of the drift at the mean, or of the step, 1 + eta A, if `discrete`.
    - `noise`: S = 2 D, the covariance of dY over dt at the mean; of a whole step if `discrete`.
    - `current`: the matrix K of the mean local velocity J/p = K (y - mean), K = A + D C^{-1}, zero in equilibrium; over a
        step, if `discrete`, the antisymmetric part of the one-step correlation, ((M C) - (M C)^T)/2, times C^{-1}.
    - `entropy_production_rate`: per unit of time, in units of Boltzmann's constant; infinite where the noise does not
        reach every direction in which the motion is irreversible.
    - `discrete`: whether it is that of the algorithm with Gaussian noise.
    """

    mean: Array
    covariance: Array
    jacobian: Array
    noise: Array
    current: Array
    entropy_production_rate: Array
    discrete: bool = eqx.field(static=True)

    def log_density(self, state: PyTree) -> Array:
        """ln p of a state, normalised."""
        centred = ravel_pytree(state)[0] - self.mean
        _, logdet = jnp.linalg.slogdet(2 * jnp.pi * self.covariance)
        return -0.5 * (centred @ jnp.linalg.solve(self.covariance, centred) + logdet)

    def velocity(self, state: PyTree) -> Array:
        """The mean local velocity of the probability current, J/p, `(d,)`."""
        return self.current @ (ravel_pytree(state)[0] - self.mean)


def stationary(
    equation: AbstractDynamics,
    objective: Any,
    params: PyTree,
    *,
    discrete: bool = False,
    multiplicative: bool = False,
    parity: PyTree = None,
) -> Stationary:
    r"""The stationary distribution of an equation near a stable point, linearised there.

    With the drift A (y - mean) and the noise S = 2 D as at the mean,

        A C + C A^T + S = 0                                     (continuous)
        C = M C M^T + Q,  M = 1 + eta A,  Q = eta S             (discrete: one step of the twin on Gaussian gradients)
        rate = tr[K^T D^{-1} K C],  K = A + D C^{-1}

    (Seifert 2012, Rep. Prog. Phys. 75, 126001; in terms of B = -A the rate is tr(B^T D^{-1} B C) - tr B). Discrete, it is
    E ln P(y'|y)/P(y|y') over eta. Exact for a linear drift and constant noise; momentum and matrix learning rates are
    states and velocities like all others.

    **Arguments:**

    - `equation`, `objective`: as for `solve`.
    - `params`: a point from which Newton's method finds the mean, where the drift vanishes.
    - `discrete`: of the algorithm (an equation's twin, or the Euler step of a dynamics with a learning rate) instead.
    - `multiplicative`: the noise grows with the distance from the mean, as its columns do to first order: exact
        covariances of linear regression. The distribution is then not Gaussian, and the rate is NaN.
    - `parity`: signs under time reversal, a prefix of the state with leaves 1 and -1, such as `MomentumState(1, -1)`. Only
        the irreversible part of the drift, (A + PAP)/2, then enters K: without it the rate of an equation whose noise
        enters through velocities alone is infinite. Continuous only.

    **Returns:** a `Stationary`.

    **Raises:** TypeError or ValueError, naming the argument; ValueError where the point is not stable.
    """
    check_equation(equation, AbstractDynamics)
    equation, params = dynamic_numbers(equation), check_params(params)
    equation.check(params, objective)
    discrete, multiplicative = flag("discrete")(discrete), flag("multiplicative")(multiplicative)
    if discrete and parity is not None:
        raise ValueError(f"Argument `parity` must be None for `discrete`, but {parity!r} was given.")
    dynamic, static = eqx.partition(params, is_parameter)
    signal = objective.bind(static) if isinstance(objective, AbstractSignal) else objective
    eta = getattr(equation, "learning_rate", None)
    if discrete and eta is None:
        raise ValueError(
            "Argument `discrete` must be False for a dynamics without a learning rate, but True was given."
        )
    if discrete and isinstance(equation, AbstractEquation):
        equation = Increment.of(equation)
    state = equation.init(dynamic)
    size = flat_size(state)
    if size > LARGEST:
        raise ValueError(f"Argument `params` must have a state of at most {LARGEST} dimensions, but it has {size}.")
    signs = np.asarray(parity_vector(parity, state), float)
    mean, jacobian, noise, columns = jax.device_get(_at_the_mean(equation, signal, state))
    if not np.all(np.isfinite(mean)):
        raise ValueError(
            "Argument `params` must be near a point where the drift vanishes, but Newton's method found none."
        )
    return _solve(mean, jacobian, noise, columns, float(eta) if discrete else None, multiplicative, signs)


@eqx.filter_jit
def _at_the_mean(equation, signal, state):
    """The zero of the drift, and there the Jacobian, the noise and the derivatives of its columns, `(n, d, d)`."""
    begin, unravel = ravel_pytree(state)
    local = Local(equation, signal, unravel)
    # Late enough for what dies away with time.
    t = jnp.asarray(getattr(equation, "learning_rate", 1.0), begin.dtype) * 1e6
    drift = lambda y: local.drift(t, y)  # noqa: E731
    tolerance = 1e3 * jnp.finfo(begin.dtype).eps

    def body(carry):
        y, _, count = carry
        change = jnp.linalg.solve(jax.jacfwd(drift)(y), drift(y))
        return y - change, jnp.max(jnp.abs(change)) / (1 + jnp.max(jnp.abs(y))), count + 1

    def unfinished(carry):
        return (carry[1] > tolerance) & (carry[2] < _NEWTON)

    mean, last, _ = jax.lax.while_loop(unfinished, body, (begin, jnp.asarray(jnp.inf, begin.dtype), 0))
    mean = jnp.where(last <= tolerance, mean, jnp.nan)
    columns = jnp.moveaxis(jax.jacfwd(lambda y: local.root(t, y))(mean), 1, 0)
    return mean, jax.jacfwd(drift)(mean), local.covariance(t, mean), columns


def _solve(mean, jacobian, noise, columns, eta, multiplicative, signs) -> Stationary:
    one = np.eye(len(mean))
    if eta is None:
        matrix = jacobian
        operator = np.kron(one, jacobian) + np.kron(jacobian, one)
        growth = np.linalg.eigvals(jacobian).real.max()
        stable = growth < 0
    else:
        matrix, noise = one + eta * jacobian, eta * noise
        operator = np.kron(matrix, matrix) - np.eye(len(mean) ** 2)
        growth = np.abs(np.linalg.eigvals(matrix)).max()
        stable = growth < 1
    if not stable:
        what = "real part of the drift's Jacobian" if eta is None else "eigenvalue of a step"
        raise ValueError(
            f"Argument `params` must lead to a stable stationary point, but the largest {what} there is {growth:.3g}."
        )
    if multiplicative:
        operator = operator + (1.0 if eta is None else eta) * sum(np.kron(c, c) for c in columns)
        if np.linalg.eigvals(operator).real.max() >= 0:
            raise ValueError(
                "Argument `params` must lead to a finite covariance, but the multiplicative noise has none."
            )
    covariance = -np.linalg.solve(operator, noise.ravel()).reshape(noise.shape)
    covariance = (covariance + covariance.T) / 2
    if eta is None:
        current = matrix + noise @ np.linalg.inv(covariance) / 2
        irreversible = (matrix + signs[:, None] * matrix * signs) / 2 + noise @ np.linalg.inv(covariance) / 2
        rate = _rate(irreversible, noise / 2, covariance)
    else:
        correlation = matrix @ covariance
        current = (correlation - correlation.T) / 2 @ np.linalg.inv(covariance)
        back = matrix @ correlation
        rate = _quadratic(covariance - back - back.T + matrix @ covariance @ matrix.T, noise)
        rate = (rate - len(mean)) / (2 * eta)
    rate = np.nan if multiplicative else rate
    arrays = (jnp.asarray(a) for a in (mean, covariance, matrix, noise, current, np.asarray(rate, mean.dtype)))
    return Stationary(*arrays, discrete=eta is not None)


def _rate(current, diffusion, covariance) -> float:
    """tr[K^T D^{-1} K C]."""
    return _quadratic(current @ covariance @ current.T, diffusion)


def _quadratic(matrix, noise) -> float:
    """tr[noise^{-1} matrix] on the range of the noise; infinite if the matrix reaches out of it."""
    values, vectors = np.linalg.eigh(noise)
    seen = values > 1e-12 * values.max()
    diagonal = np.einsum("ij,ik,kj->j", vectors, matrix, vectors)
    if np.any(np.abs(diagonal[~seen]) > 1e-10 * np.abs(diagonal).max()):
        return np.inf
    return float(np.sum(diagonal[seen] / values[seen]))

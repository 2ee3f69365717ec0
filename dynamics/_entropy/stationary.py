"""`stationary`: the Gaussian stationary distribution near a stable point, its current and its entropy production."""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from equations import AbstractDynamics, AbstractStream
from equations.internal import (
    Increment,
    at_infinity,
    check_class,
    check_derivatives,
    check_one_batch_size,
    flag,
    learning_rate_of,
    nonnegative,
)

from .._arguments.hooks import check_hooks
from .._problem import Problem
from .._start import ended
from .._trajectory import Trajectory
from . import linear_noise
from .columns import check_columns, noise_columns
from .local import Local, coordinates, flat_size, late, parity_vector
from .lyapunov import Lyapunov
from .noise_change import noise_change

LARGEST = 1024  # dimensions: a minute, and with multiplicative noise a gigabyte or two
_NEWTON = 50
_AT_ONCE = 64  # directions of a Jacobian
_FACTORS = 0.5 ** np.arange(8)


class Stationary(eqx.Module):
    r"""What `stationary` returns, in the flat coordinates of the state, dimension d.

    These are `jax.flatten_util.ravel_pytree` of the state, without what an algorithm's memory counts. Methods take a state
    or such a vector.

    **Attributes:**

    - `mean`: `(d,)`; `covariance`: C, `(d, d)`.
    - `jacobian`: A, the derivative of the drift at the mean, or of the step, 1 + eta A, if `discrete`.
    - `noise`: S = 2 D, the covariance of dY over dt at the mean; of a whole step if `discrete`.
    - `current`: the matrix K of the mean local velocity J/p = K (y - mean), K = A + D C^{-1}, zero in equilibrium; over a
        step, if `discrete`, the antisymmetric part of the one-step correlation, ((M C) - (M C)^T)/2, times C^{-1}.
    - `entropy_production_rate`: per unit of time, in units of Boltzmann's constant; infinite where the noise does not
        reach every direction in which the motion is irreversible.
    - `noise_change`: the largest relative change of S at one standard deviation from the mean, each of its entries over
        those of C; in more than 64 dimensions along a few axes that random products single out. What is said here is
        exact where it is 0.
    - `rank`: the dimension of the space that the noise reaches; below d, C^{-1} is a pseudo-inverse.
    - `discrete`: whether it is that of the algorithm with Gaussian noise.
    """

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]
    jacobian: Float[Array, "d d"]
    noise: Float[Array, "d d"]
    current: Float[Array, "d d"]
    entropy_production_rate: Float[Array, ""]
    noise_change: Float[Array, ""]
    rank: int = eqx.field(static=True)
    discrete: bool = eqx.field(static=True)
    counts: tuple[int, ...] = eqx.field(static=True, default=())

    def log_density(self, state: PyTree) -> Float[Array, ""]:
        """ln p of a state, normalized; a ValueError where the noise does not reach every direction."""
        if self.rank < self.mean.size:
            raise ValueError(
                "Argument `regularization` of `stationary` must be positive for a density where the noise reaches only "
                f"{self.rank} of {self.mean.size} dimensions, but it was 0."
            )
        centered = self.vector(state) - self.mean
        _, logdet = jnp.linalg.slogdet(2 * jnp.pi * self.covariance)
        return -0.5 * (centered @ jnp.linalg.solve(self.covariance, centered) + logdet)

    def velocity(self, state: PyTree) -> Float[Array, " d"]:
        """The mean local velocity of the probability current, J/p, `(d,)`."""
        return self.current @ (self.vector(state) - self.mean)

    def probability_current(self, state: PyTree) -> Float[Array, " d"]:
        """The current J = p * velocity of the stationary density, `(d,)`; it has no divergence."""
        return jnp.exp(self.log_density(state)) * self.velocity(state)

    def vector(self, state: PyTree) -> Float[Array, " d"]:
        """A state in flat coordinates, `(d,)`."""
        leaves = [leaf for place, leaf in enumerate(jax.tree.leaves(state)) if place not in self.counts]
        vector = ravel_pytree(leaves)[0]
        if vector.shape != self.mean.shape:
            raise ValueError(
                f"Argument `state` must be a state of {self.mean.size} dimensions, or its vector, but one of {vector.size} "
                "was given."
            )
        return vector


def stationary(
    equation: AbstractDynamics,
    objective: Any,
    params: PyTree = None,
    *,
    discrete: bool = False,
    multiplicative: bool = False,
    parity: PyTree = None,
    regularization: float = 0.0,
    start: Trajectory | None = None,
) -> Stationary:
    r"""The stationary distribution of an equation near a stable point, linearized there.

    With the drift A (y - mean) and the noise S = 2 D as at the mean,

        A C + C A^T + S = 0                                     (continuous)
        C = M C M^T + Q,  M = 1 + eta A,  Q = eta S             (discrete: one step of the twin on Gaussian gradients)
        rate = tr[K^T D^{-1} K C],  K = A + D C^{-1}

    (Seifert 2012, Rep. Prog. Phys. 75, 126001; in terms of B = -A the rate is tr(B^T D^{-1} B C) - tr B). Discrete, it is
    E ln P(y'|y)/P(y|y') over eta. Exact for a linear drift and constant noise; momentum and matrix learning rates are
    states and velocities like all others. Bias corrections are over and schedules at their end: an algorithm's counts
    stand at infinity. Where the noise is singular, inverses are pseudo-inverses, of the dtype's precision.

    **Arguments:**

    - `equation`, `objective`: as for `solve`.
    - `params`: a point from which Newton's method finds the mean, where the drift vanishes; memory begins where it settles
        at these parameters.
    - `discrete`: of the algorithm (an equation's twin, or the Euler step of a dynamics with a learning rate) instead.
    - `multiplicative`: the noise grows with the distance from the mean, as its columns do to first order: exact
        covariances of linear regression. The distribution is then not Gaussian, and the rate is NaN.
    - `parity`: signs under time reversal, a prefix of the state with leaves 1 and -1, such as `MomentumState(1, -1)`. Only
        the irreversible part of the drift, (A + PAP)/2, then enters K: without it the rate of an equation whose noise
        enters through velocities alone is infinite. Continuous only.
    - `regularization`: r, standard deviation per training step (per unit of time without a learning rate) of isotropic
        noise thought on top of the equation's, as in `entropy_production`. It makes densities and rates finite; these grow
        as 1/r^2 where they were infinite.

    - `start`: in place of `params`, those with which this run of one path ended.

    **Returns:** a `Stationary`.

    Holds d x d matrices, d the size of the state, at most 1024: a thousand dimensions take a minute on two cores.

    **Raises:** TypeError or ValueError, naming the argument; ValueError where the point is not stable, where the noise
    grows so fast that no covariance is finite, or in so many ways that they cannot be held. Warns where the noise
    changes by more than 5 % within a standard deviation, unless `multiplicative`.
    """
    if isinstance(objective, AbstractStream):
        raise TypeError(
            "Argument `objective` must not be a stream of stimuli, under which nothing is stationary from one moment to "
            f"the next, but {objective!r} was given."
        )
    problem = Problem.of(equation, objective, ended(start, params), twin=False, numbers_for="stationary")
    equation, dynamic, signal = problem.equation, problem.dynamic, problem.signal
    check_derivatives(objective, problem.params, "`stationary`")
    discrete, multiplicative = flag("discrete")(discrete), flag("multiplicative")(multiplicative)
    r = float(nonnegative("regularization")(regularization))
    if discrete and parity is not None:
        raise ValueError(f"Argument `parity` must be None for `discrete`, but {parity!r} was given.")
    eta = learning_rate_of(equation)
    if discrete and eta is None:
        raise ValueError(
            "Argument `discrete` must be False for a dynamics without a learning rate, but True was given."
        )
    if discrete and equation.series().discrete:
        check_one_batch_size(equation, "discrete=True")
        equation = Increment.of(problem.equation)
    check_class(equation, "field")
    check_hooks(equation, signal, dynamic, ("drift", "diffusion"))
    state = equation.init(dynamic)
    moving, counts = coordinates(equation, state)
    size = flat_size(moving, LARGEST)
    signs = parity_vector(parity, moving)
    places = tuple(place for place, leaf in enumerate(_leaves(moving)) if leaf is None)
    state = eqx.combine(moving, at_infinity(counts))
    check_columns(equation, signal, state, size, jnp.result_type(*jax.tree.leaves(moving)))
    mean, jacobian, root = jax.device_get(_at_the_mean(equation, signal, state))
    if not np.all(np.isfinite(mean)) or not np.all(np.isfinite(jacobian)):
        raise ValueError(
            "Argument `params` must be near a point where the drift vanishes and is smooth, but Newton's method found none."
        )
    settled = equation.params(Local.at(equation, signal, state)[0].state(jnp.asarray(mean)))
    check_derivatives(objective, eqx.combine(settled, problem.static), "`stationary`", found=True)
    eps, dtype = np.finfo(mean.dtype).eps, mean.dtype
    mean, jacobian, root = (np.asarray(a, float) for a in (mean, jacobian, root))
    eta = None if eta is None else float(eta)
    step = 1.0 if eta is None or not discrete else eta
    lyapunov = Lyapunov(jacobian, step if discrete else 0.0)
    _check_stable(jacobian, lyapunov.values, eta if discrete else None, eps)
    derivatives = noise_columns(equation, signal, state, mean.astype(dtype)) if multiplicative else None
    extra = r**2 / (1.0 if eta is None else eta)
    if discrete:
        linear = linear_noise.discrete(jacobian, root, derivatives, eta, extra, eps, lyapunov)
    else:
        linear = linear_noise.continuous(jacobian, root, derivatives, signs, extra, eps, lyapunov)
    one = np.eye(size)
    noise = (root @ root.T + extra * one) * step
    change = noise_change(equation, signal, state, mean.astype(dtype), linear.covariance, noise / step)
    if change > 0.05 and not multiplicative:
        warnings.warn(
            f"Argument `objective`: the noise changes by {100 * change:.0f} % within a standard deviation of the mean, but "
            "`stationary` takes it as at the mean; multiplicative=True gives the covariance of noise that grows.",
            stacklevel=2,
        )
    arrays = dict(
        mean=mean,
        covariance=linear.covariance,
        jacobian=one + step * jacobian if discrete else jacobian,
        noise=noise,
        current=linear.current,
        entropy_production_rate=linear.rate,
        noise_change=change,
    )
    arrays = {name: jnp.asarray(array, dtype) for name, array in arrays.items()}
    return Stationary(**arrays, rank=linear.rank, discrete=discrete, counts=places)


def _leaves(tree: PyTree) -> list:
    return jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None)


@eqx.filter_jit
def _at_the_mean(equation, signal, state):
    """The zero of the drift, and there the Jacobian and the root of the noise."""
    local, begin = Local.at(equation, signal, state)
    t = late(equation, begin)
    drift = lambda y: local.drift(t, y)  # noqa: E731
    tolerance = 1e3 * jnp.finfo(begin.dtype).eps
    # Memory first, with the parameters held: an empty second moment has no derivative of its root.
    chosen = _jacobian(lambda y: ravel_pytree(equation.params(local.state(y)))[0], begin)
    held = jnp.any(chosen != 0, axis=0)
    jacobian = jnp.where(held[:, None] | held, jnp.eye(begin.size, dtype=begin.dtype), _jacobian(drift, begin))
    settled = begin - jnp.linalg.solve(jacobian, jnp.where(held, 0.0, drift(begin)).astype(begin.dtype))
    begin = jnp.where(jnp.all(jnp.isfinite(settled)), settled, begin)

    def body(carry):
        y, _, count = carry
        change = jnp.linalg.solve(_jacobian(drift, y), drift(y))
        # The part of the step that leaves the least drift: a whole one goes too far where the drift levels off.
        tries = y - _FACTORS.astype(y.dtype)[:, None] * change
        left = jnp.linalg.norm(jax.vmap(drift)(tries), axis=1)
        best = tries[jnp.argmin(jnp.where(jnp.isfinite(left), left, jnp.inf))]
        return best, jnp.max(jnp.abs(change)) / (1 + jnp.max(jnp.abs(y))), count + 1

    def unfinished(carry):
        return (carry[1] > tolerance) & (carry[2] < _NEWTON)

    mean, last, _ = jax.lax.while_loop(unfinished, body, (begin, jnp.asarray(jnp.inf, begin.dtype), 0))
    mean = jnp.where(last <= tolerance, mean, jnp.nan)
    return mean, _jacobian(drift, mean), local.root(t, mean)


def _jacobian(function, y):
    """`jax.jacfwd`, some directions at a time where there are many: a loss may hold numbers for each and every example."""
    if y.size <= _AT_ONCE:
        return jax.jacfwd(function)(y)
    along = lambda way: jax.jvp(function, (y,), (way,))[1]  # noqa: E731
    return jax.lax.map(along, jnp.eye(y.size, dtype=y.dtype), batch_size=_AT_ONCE).T


def _check_stable(jacobian, values, eta, eps) -> None:
    growth = values.real.max() if eta is None else np.abs(1 + eta * values).max()
    excess = growth if eta is None else (growth - 1) / eta
    if not excess < -len(jacobian) * eps * np.linalg.norm(jacobian, 2):
        what = "real part of the drift's Jacobian" if eta is None else "eigenvalue of a step"
        raise ValueError(
            f"Argument `params` must lead to a stable stationary point, but the largest {what} there is {growth:.3g}."
        )

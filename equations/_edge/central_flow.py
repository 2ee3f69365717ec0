"""Central flow: the path of an optimizer on average over its oscillations, which are relaxed at once."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from .._checks.arguments import integer
from .._checks.derivatives import check_derivatives
from .._optimizers.rmsprop import RMSProp
from .._signals.base import is_parameter
from .._splitting import split
from .base import AbstractNoiseless, NoiselessSplitting
from .complementarity import complementary
from .descent import is_descent
from .sharpness import direction_like
from .states import from_window


class CentralState(eqx.Module):
    """The parameters on average, the second moment of RMSProp (else None), the critical modes as orthonormal rows
    `(modes, parameters)` in preconditioned coordinates, and the oscillation, rows v with the covariance sum v v^T; None for
    both in a stable flow."""

    params: PyTree
    nu: PyTree
    modes: Array | None
    spread: Array | None


def central_places(state: CentralState) -> PyTree:
    """Parameters on either side along the modes, over which a mean is that over the oscillation to second order."""
    center, unravel = ravel_pytree(state.params)
    if state.spread is None:
        return jax.tree.map(lambda leaf: leaf[None], state.params)
    away = len(state.spread) ** 0.5 * state.spread
    return jax.vmap(unravel)(jnp.concatenate([center + away, center - away]).astype(center.dtype))


class AbstractCentral(AbstractNoiseless):
    """What central and stable flow share: the preconditioner P of the algorithm, and its second moment."""

    def init(self, params):
        return CentralState(params, self._rule.init(params).nu if self._adaptive else None, None, None)

    def params(self, state):
        return state.params

    @property
    def _rule(self) -> Any:
        return self.equation.algorithm

    @property
    def _adaptive(self) -> bool:
        return isinstance(self._rule, RMSProp)

    def velocity(self, t, state, gradient):
        """The rates without oscillation on this gradient."""
        flat, unravel = ravel_pytree(gradient)
        root = self.root(state)
        still = None if state.modes is None else jnp.zeros_like(state.modes)
        return CentralState(unravel(-flat / root), self.renewal(state, flat**2), still, still)

    def root(self, state: CentralState) -> Array:
        """eta P, a vector: what a gradient is divided by."""
        if state.nu is None:
            return jnp.ones_like(ravel_pytree(state.params)[0])
        rule, nu = self._rule, ravel_pytree(state.nu)[0]
        return jnp.sqrt(nu + rule.eps) if rule.eps_in_sqrt else jnp.sqrt(nu) + rule.eps

    def renewal(self, state: CentralState, squares: Array) -> PyTree:
        """The rate of the second moment where the mean square of the gradient is this."""
        if state.nu is None:
            return None
        nu, unravel = ravel_pytree(state.nu)
        return unravel(((1 - self._rule.decay) / self.learning_rate * (squares - nu)).astype(nu.dtype))

    def splitting(self):
        return CentralSplitting(self, substeps=2, alternating=central_places, smooth=False)

    def check(self, params, signal):
        super().check(params, signal)
        rule = self._rule
        plain = self._adaptive and not rule.centered and not rule.bias_correction
        if not (plain or is_descent(self.equation, eqx.filter(params, is_parameter))):
            raise ValueError(
                f"Argument `equation` must be gradient descent or plain RMSProp for a {type(self).__name__}, but a "
                f"{type(rule).__name__} was given; RodFlow takes any algorithm."
            )
        check_derivatives(signal, params, f"a {type(self).__name__}")


class StableFlow(AbstractCentral):
    """What central flow is without the oscillation, for gradient descent the gradient flow.

        dw = -(1/eta) P^-1 g dt,    P = 1/eta, or sqrt(nu)/eta with d nu = (1 - decay)/eta [g^2 - nu] dt

    Beside central flow it shows what the oscillation does (Cohen et al. 2025, ICLR, arXiv:2410.24206).

    **Arguments:** `equation`: gradient descent or plain `RMSProp`, without noise.
    """

    def drift(self, t, state, signal):
        return self.velocity(t, state, signal.gradient(state.params))


class CentralFlow(AbstractCentral):
    r"""The path of an optimizer on average over its oscillations, whose covariance X is what holds the edge of stability.

        dw = -(1/eta) P^-1 [g + (1/2) grad <H, X>] dt,
        X >= 0,  2P - H >= 0,  <X, 2P - H> = 0  on the critical modes,

    differentiated once in time: with S = U^T (2P - H) U on the modes U it is the complementarity of X with
    S/tau + dS/dt, tau half a training step, in which both dw and, for RMSProp, d nu = (1 - decay)/eta [g^2 + diag(H X H) -
    nu] dt are affine in X (Cohen et al. 2025, ICLR, arXiv:2410.24206; the relaxation derived). One mode of gradient descent
    has X = max(0, -2 g.grad S/|grad S|^2) where S = 2/eta. It holds the edge exactly, and does not see how an alternation
    begins.

    The k critical modes are followed, by three products for each and evaluation; the force takes 1 + k + 4 k(k+1)/2
    gradients.

    **Arguments:**

    - `equation`: gradient descent or plain `RMSProp`, without noise.
    - `modes`: how many are followed; every one that comes within 2 % of the edge is needed.

    **Raises:** TypeError or ValueError, naming the argument.
    """

    modes: int = eqx.field(
        default=4, static=True, converter=lambda value: integer("modes", value, maximum=32), kw_only=True
    )

    def init(self, params):
        begin = super().init(params)
        flat = ravel_pytree(direction_like(params))[0]
        modes = orthonormal(jnp.eye(min(self.modes, flat.size), flat.size, dtype=flat.dtype) + 0.1 * flat)
        return CentralState(begin.params, begin.nu, modes, jnp.zeros_like(modes))

    def splitting(self):
        return dataclasses.replace(super().splitting(), first_order=True)

    def drift(self, t, state, signal):
        eta = self.learning_rate
        center, unravel = ravel_pytree(state.params)
        root = self.root(state)
        scale = jnp.sqrt(eta / root)  # P^(-1/2)
        gradient_of = lambda w: ravel_pytree(signal.gradient(unravel(w)))[0]  # noqa: E731
        gradient, hessian = jax.linearize(gradient_of, center)
        modes, values = refreshed(lambda v: scale * hessian(scale * v), state.modes)
        moves = scale * modes
        images = jax.vmap(hessian)(moves)
        turned, covariance = self.covariance(state, gradient_of, gradient, moves, images, values)
        force = jnp.einsum("kl,klp->p", covariance, turned) / 2
        squares = gradient**2 + jnp.einsum("kl,kp,lp->p", covariance, images, images)
        size, axes = jnp.linalg.eigh(covariance)
        spread = (axes * jnp.sqrt(jnp.maximum(size, 0))).T @ moves
        tau = eta / 2
        return CentralState(
            unravel((-(gradient + force) / root).astype(center.dtype)),
            self.renewal(state, squares),
            ((aligned(modes, state.modes) - state.modes) / tau).astype(center.dtype),
            ((spread - state.spread) / tau).astype(center.dtype),
        )

    def covariance(self, state, gradient_of, gradient, moves, images, values):
        """grad H_kl along the modes, `(k, k, parameters)`, and the covariance in their coordinates."""
        eta, center, root = self.learning_rate, ravel_pytree(state.params)[0], self.root(state)
        count = len(moves)
        above = jnp.triu_indices(count)

        def third(first, second):
            along = lambda w: jax.jvp(gradient_of, (w,), (first,))[1]  # noqa: E731
            return jax.jvp(along, (center,), (second,))[1]

        pairs = jax.lax.map(lambda at: third(moves[at[0]], moves[at[1]]), above)
        turned = jnp.zeros((count, count, center.size), center.dtype).at[above].set(pairs)
        turned = turned.at[above[::-1]].set(pairs)
        constant = jnp.einsum("klp,p->kl", turned, gradient / root)
        squares = jnp.einsum("klp,mnp->klmn", turned, turned / root) / 2
        if state.nu is not None:
            rate = (1 - self._rule.decay) / eta
            slope = rate / (eta * root)  # of 2P by the second moment, times its rate
            nu = ravel_pytree(state.nu)[0]
            constant = constant + jnp.einsum("kp,lp,p->kl", moves, moves, slope * (gradient**2 - nu))
            squares = squares + jnp.einsum("kp,lp,mp,np->klmn", moves, moves, slope * images, images)
        constant = constant + jnp.diag(2 - values) / (eta / 2)
        size = jnp.sqrt(jnp.sum(squares**2))
        linear = lambda x: jnp.einsum("klmn,mn->kl", squares, x)  # noqa: E731
        return turned, complementary(constant, linear, jnp.where(size > 0, size, 1))


class CentralSplitting(NoiselessSplitting):
    """From the first step of the algorithm where that is singular, and along the window of a run."""

    def start(self, state, signal, noise):
        rule = self.dynamics.equation.algorithm
        if state.nu is None:
            return None
        begun: Any = split(rule).start(rule.init(state.params), signal, None)
        return eqx.tree_at(lambda s: (s.params, s.nu), state, (begun.params, begun.nu))

    def resumed(self, params, memory):
        flow = self.dynamics
        center, half = from_window(params, memory)
        fresh = flow.init(center)
        inside: Any = split(flow.equation.algorithm)
        nu = None if fresh.nu is None else inside.resumed(params, memory.inner).nu
        spread = None if fresh.spread is None else fresh.spread.at[0].set(ravel_pytree(half)[0])
        return CentralState(center, nu, fresh.modes, spread)


def refreshed(operator: Any, modes: Array) -> tuple[Array, Array]:
    """The modes one step further on the way to those of the largest eigenvalues, by Rayleigh and Ritz in the space of them
    and their residuals; rows, the largest first."""
    count = len(modes)
    images = jax.vmap(operator)(modes)
    residuals = images - (images @ modes.T) @ modes
    basis = orthonormal(jnp.concatenate([modes, residuals]))
    inner = basis @ jax.vmap(operator)(basis).T
    values, vectors = jnp.linalg.eigh((inner + inner.T) / 2)
    return vectors[:, ::-1][:, :count].T @ basis, values[::-1][:count]


def orthonormal(rows: Array) -> Array:
    """Orthonormal rows of the same span, the first ones first."""
    return jnp.linalg.qr(rows.T)[0].T


def aligned(rows: Array, like: Array) -> Array:
    """Orthonormal rows of the same span that are nearest to others."""
    left, _, right = jnp.linalg.svd(like @ rows.T, full_matrices=False)
    return left @ right @ rows

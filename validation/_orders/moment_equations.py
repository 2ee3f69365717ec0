"""Exact first and second moments of both sides, where they close."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from equations import AbstractDynamics, AbstractEquation
from equations.internal import is_affine, is_free, velocity_of

LARGEST_STATE = 64
LARGEST_NOISE = 512
_POINTS = 3  # random points where the polynomials are held against what they were read off


class Linear(NamedTuple):
    """A dynamics whose drift is `generator @ z` and whose columns are `columns[k] @ z`, with z = (state, 1).

    Shapes `(d + 1, d + 1)` and `(K, d + 1, d + 1)`; the last row of each is zero.
    """

    generator: np.ndarray
    columns: np.ndarray


class Polynomial(NamedTuple):
    """An observable: `linear @ z` of shape `(components,)`, or <`quadratic`, z z^T> where it is of second degree.

    Shapes `(components, d + 1)` and `(components, d + 1, d + 1)` or None; z = (parameters, 1).
    """

    linear: np.ndarray
    quadratic: np.ndarray | None


def _tolerance(dtype) -> float:
    return 1e4 * float(jnp.finfo(dtype).eps)


def _points(base: Array) -> Array:
    """Random points around `base`, `(points, d)`: far enough to see a curvature, and the same ones every time."""
    scale = 1 + jnp.max(jnp.abs(base))
    return base + scale * jax.random.normal(jax.random.key(20250712), (_POINTS, base.size), base.dtype)


def _matrix(value: Array, jacobian: Array, base: Array) -> Array:
    """An affine map (..., d) -> as a matrix on (y, 1), last axis d + 1."""
    offset = value - jacobian @ base
    return jnp.concatenate([jacobian, offset[..., None]], axis=-1)


def _misfit(function, matrix: Array, points: Array, bound: float) -> Array:
    """The largest deviation of `function` from an affine map, relative to the size of its terms over `bound`."""

    def at(point):
        z = jnp.append(point, 1.0)
        size = jnp.max(jnp.abs(matrix) @ jnp.abs(z))
        return jnp.max(jnp.abs(function(point) - matrix @ z)) / jnp.maximum(size, jnp.finfo(size.dtype).tiny)

    return jnp.max(jax.vmap(at)(points)) / bound


@eqx.filter_jit
def _extract(dynamics, signal, state, times):
    """Generator and columns at a state, and how far from affine (1: as far as rounding may reach)."""
    base, unravel = ravel_pytree(state)
    points, bound = _points(base), _tolerance(base.dtype)

    def drift(y, t=times[0]):
        return ravel_pytree(dynamics.drift(t, unravel(y), signal))[0]

    generator = _matrix(drift(base), jax.jacfwd(drift)(base), base)
    misfit = jnp.maximum(
        _misfit(drift, generator, points, bound), _misfit(lambda y: drift(y, times[1]), generator, points, bound)
    )
    if dynamics.diffusion(times[0], state, signal) is None:
        return generator, jnp.zeros((0, *generator.shape)), misfit

    def columns(y, t=times[0]):
        operator = dynamics.diffusion(t, unravel(y), signal)
        zeros, structure = ravel_pytree(
            jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), operator.in_structure())
        )
        units = jnp.eye(zeros.size, dtype=zeros.dtype)
        return jax.vmap(lambda unit: ravel_pytree(operator.mv(structure(unit)))[0])(units)

    factors = _matrix(columns(base), jax.jacfwd(columns)(base), base)
    for t in (times[0], times[1]):
        misfit = jnp.maximum(misfit, _misfit(lambda y, t=t: columns(y, t), factors, points, bound))
    return generator, factors, misfit


def _noise_size(dynamics: AbstractDynamics, signal: Any, state: PyTree) -> int:
    def structure():
        operator = dynamics.diffusion(jnp.zeros(()), state, signal)
        return 0 if operator is None else operator.in_structure()

    leaves = jax.tree.leaves(eqx.filter_eval_shape(structure)) or jax.tree.leaves(structure())
    return sum(int(np.prod(leaf.shape)) for leaf in leaves if not isinstance(leaf, int))


def _provably_affine(dynamics, signal, state, t) -> bool:
    """Whether drift and diffusion are affine in the state and free of the time, read off their jaxprs."""

    def noise(t, state):
        operator = dynamics.diffusion(t, state, signal)
        if operator is None:
            return jnp.zeros(())
        ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), operator.in_structure())
        return operator.mv(ones)

    fields = (lambda t, y: dynamics.drift(t, y, signal)), noise
    return all(is_affine(lambda y, f=f: f(t, y), state) and is_free(lambda t, f=f: f(t, state), t) for f in fields)


def linear(dynamics: AbstractDynamics, signal: Any, state: PyTree) -> Linear | None:
    """The dynamics as matrices on (state, 1), read off at `state`; None unless drift and columns are affine.

    Affine is what is so by its jaxpr, whatever the state and the time: a rule that is switched by a count, or clipped far
    from here, is not. (And what is read off must agree with it at three random points and two times.)
    """
    base, _ = ravel_pytree(state)
    if base.size > LARGEST_STATE or _noise_size(dynamics, signal, state) > LARGEST_NOISE:
        return None
    rate = jnp.asarray(dynamics.scaling_limit().learning_rate_at(jnp.zeros(())), base.dtype)
    if not _provably_affine(dynamics, signal, state, rate):
        return None
    generator, factors, misfit = _extract(dynamics, signal, state, (rate, 7.3 * rate))
    if not float(misfit) <= 1:
        return None
    generator, factors = np.asarray(generator, float), np.asarray(factors, float)
    row = np.zeros((1, base.size + 1))
    columns = np.concatenate([factors, np.zeros((len(factors), 1, base.size + 1))], axis=1)
    flat = columns.reshape(len(columns), row.size**2)
    if len(flat) > flat.shape[1]:  # more columns than they have entries: fewer have the same products
        triangle: Any = np.linalg.qr(flat, mode="r")
        columns = triangle.reshape(-1, *columns.shape[1:])
    return Linear(np.concatenate([generator, row]), columns)


@eqx.filter_jit
def _response(equation, signal, state, t):
    """How far from affine in the gradient a velocity is (1: as far as rounding may reach)."""
    gradient, unravel = ravel_pytree(signal.gradient(equation.params(state)))

    def velocity(g):
        return ravel_pytree(velocity_of(equation, t, state, unravel(g)))[0]

    matrix = _matrix(velocity(gradient), jax.jacfwd(velocity)(gradient), gradient)
    return _misfit(velocity, matrix, _points(gradient), _tolerance(gradient.dtype))


def discrete(increment: AbstractEquation, signal: Any, state: PyTree) -> Linear | None:
    """The increment field of a discrete algorithm as `linear` gives it; None unless it is affine in the gradient too.

    Only then are the mean and the covariance of a step those of drift and diffusion.
    """
    if ravel_pytree(state)[0].size > LARGEST_STATE:
        return None
    if not float(_response(increment, signal, state, increment.learning_rate)) <= 1:
        return None
    return linear(increment, signal, state)


@eqx.filter_jit
def _expand(function, static, base_params):
    base, unravel = ravel_pytree(base_params)

    def flat(y):
        return jnp.asarray(function(eqx.combine(unravel(y), static)), base.dtype).ravel()

    points, bound = _points(base), _tolerance(base.dtype)
    value, slope, curvature = flat(base), jax.jacfwd(flat)(base), jax.hessian(flat)(base)
    affine = _matrix(value, slope, base)
    misfit = _misfit(flat, affine, points, bound)
    # value + slope.(y - base) + (y - base).curvature.(y - base)/2 as a form in z = (y, 1)
    middle = slope - curvature @ base
    corner = value - slope @ base + 0.5 * jnp.einsum("i,cij,j->c", base, curvature, base)
    side = 0.5 * middle[:, :, None]
    form = jnp.concatenate(
        [
            jnp.concatenate([0.5 * curvature, side], axis=2),
            jnp.concatenate([side.transpose(0, 2, 1), corner[:, None, None]], axis=2),
        ],
        axis=1,
    )

    def quadratic(point):
        z = jnp.append(point, 1.0)
        size = jnp.max(jnp.einsum("i,cij,j->c", jnp.abs(z), jnp.abs(form), jnp.abs(z)))
        difference = jnp.max(jnp.abs(flat(point) - jnp.einsum("i,cij,j->c", z, form, z)))
        return difference / jnp.maximum(size, jnp.finfo(size.dtype).tiny)

    return affine, form, misfit, jnp.max(jax.vmap(quadratic)(points)) / bound


def polynomial(function, static: PyTree, params: PyTree) -> Polynomial | None:
    """An observable of the parameters as a form on (parameters, 1); None unless it is of first or second degree."""
    shape = eqx.filter_eval_shape(lambda p: function(eqx.combine(p, static)), params)
    if not jnp.issubdtype(jnp.result_type(shape), jnp.floating) or int(np.prod(jnp.shape(shape))) > 1024:
        return None
    affine, form, misfit, misfit2 = _expand(function, static, params)
    if float(misfit) <= 1:
        return Polynomial(np.asarray(affine, float), None)
    return Polynomial(np.asarray(affine, float), np.asarray(form, float)) if float(misfit2) <= 1 else None


def _series(system: Linear, eta: float) -> tuple[int, int]:
    """Steps of the exponential series per training step, for a norm of at most 1 in each, and terms for full precision."""
    size = 2 * np.linalg.norm(system.generator, 2) + np.sum(np.linalg.norm(system.columns, 2, axis=(1, 2)) ** 2)
    parts = max(1, int(np.ceil(eta * size)))
    term, terms = eta * size / parts, 1
    while term > 1e-18:
        terms += 1
        term *= eta * size / parts / terms
    return parts, terms


@jax.jit
def _propagate(map_, flow, start, eta, steps, parts, terms):
    def noise(columns, z):
        return jnp.einsum("kij,jl,kml->im", columns, z, columns)

    def rate(z):
        half = flow.generator @ z
        return half + half.T + noise(flow.columns, z)

    def exponential(_, z):
        def term(j, carry):
            total, last = carry
            last = rate(last) * (eta / parts / j)
            return total + last, last

        return jax.lax.fori_loop(1, terms + 1, term, (z, z))[0]

    step = jnp.eye(len(map_.generator)) + eta * map_.generator
    disc = jax.lax.fori_loop(0, steps, lambda _, z: step @ z @ step.T + eta * noise(map_.columns, z), start[0])
    return disc, jax.lax.fori_loop(0, steps * parts, exponential, start[1])


def propagate(
    map_: Linear, flow: Linear, start: tuple[np.ndarray, np.ndarray], eta: float, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    r"""Second moments E z z^T, z = (state, 1), of the discrete algorithm and of the equation after `steps` steps.

        Z -> (1 + eta G) Z (1 + eta G)^T + eta sum_k D_k Z D_k^T,    dZ/dt = G Z + Z G^T + sum_k D_k Z D_k^T

    with G and D_k those of either side. The first is what the algorithm does, the second is solved by the exponential
    series to rounding. The mean is the last column of Z. (Both in the default precision of JAX.)
    """
    parts, terms = _series(flow, eta)
    both = _propagate(map_, flow, start, jnp.asarray(eta), steps, parts, terms)
    return np.asarray(both[0]), np.asarray(both[1])

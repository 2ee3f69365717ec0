"""How much the noise changes within a standard deviation of the stationary state."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .local import Local, late

_ALL = 64  # dimensions up to which it is looked at along every axis
_FEW = 8  # axes that it is looked at along in more, those of the largest change by
_PROBES = 4  # random products each


def noise_change(equation, signal, state, mean, covariance, noise) -> float:
    """The largest relative change of S at one standard deviation along the principal axes.

    In more than 64 dimensions these are the axes along which some random products show the largest.
    """
    values, vectors = np.linalg.eigh(covariance)
    away = (vectors * np.sqrt(np.maximum(values, 0))).T
    points = np.concatenate([mean + away, mean - away]).astype(mean.dtype)
    size = np.sqrt(np.diagonal(covariance))
    scale = np.where(size > 0, 1 / np.where(size > 0, size, 1), 0)
    whole = np.linalg.norm(noise * np.outer(scale, scale))
    if not whole > 0:
        return 0.0
    if mean.size > _ALL:
        probes = (scale * np.random.default_rng(0).normal(size=(_PROBES, mean.size))).astype(mean.dtype)
        lengths = _lengths(equation, signal, state, mean, points, probes, scale.astype(mean.dtype))
        points = points[np.argsort(-np.asarray(lengths))[:_FEW]]
    there = np.asarray(_covariances(equation, signal, state, np.concatenate([points, mean[None]])), float)
    lengths = np.linalg.norm((there[:-1] - there[-1]) * np.outer(scale, scale), axis=(1, 2))
    return float(lengths.max() / whole)


@eqx.filter_jit
def _covariances(equation, signal, state, points):
    local, y = Local.at(equation, signal, state)
    return jax.lax.map(lambda point: local.covariance(late(equation, y), point), points)


@eqx.filter_jit
def _lengths(equation, signal, state, mean, points, probes, scale):
    """About the length of the change of S, from its products with `probes`, `(p, d)`, at every point."""
    local, t = Local.at(equation, signal, state)[0], late(equation, mean)

    def products(point):
        noise, zeros = local.noise(t, point)
        back = jax.vjp(noise, zeros)[1]
        return jax.vmap(lambda probe: noise(back(probe)[0]))(probes)

    here = products(mean)
    return jax.lax.map(lambda point: jnp.linalg.norm((products(point) - here) * scale), points)

"""Problem B2: a published second-order equation of Adam on a quadratic, as a user's own dynamics, against structured scans.

The equation (batch-equivalent scaling, step tau; the discrete algorithm divides by the *lagged* second moment, which is not
what Optax does) in theta, m, v of two components each, with g = A theta, S = sigma A, D = 1/(sqrt(max(v, tau)) + eps r),
r = sqrt(gamma2), G = r/gamma1:

    d theta = {-G m D + (tau/2) [c1 G (m - g) D - (c2/2) G D^3 (diag S^2 - v) m 1[v > tau]
              + (G gamma2' D^2/(2 r) + G' D) m]} dt - (tau/2) G D S dW
    d m = {c1 (g - m) + (tau/2) [c1 G A (m D) + c1^2 (g - m)]} dt + c1 S dW
    d v = {c2 (diag S^2 - v) + tau [c2 g^2 + (c2^2/2) (diag S^2 - v)]} dt - 2 tau c2 g S dW + c2 sqrt(tau) Q dW'

with Q the root of 2 (S^2)^2, squared element by element. Of the six columns of its dense noise two are empty.
"""

from functools import partial

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from dynamics import solve
from equations import AbstractDynamics

from ._problems import path_keys
from ._timing import Figure, interleave

A = np.array([[1.0, 0.5], [0.5, 1.0]])
TAU, C1, C2, SIGMA, EPS = 1 / 8, 1.0, 0.5, 0.25, 1e-6
BEGIN, DT, STEPS = 1 / 4, 1 / 64, 624
START = np.array([10.0, 5.0, 0.0, 0.0, 1.0, 1.0], np.float32)
COVARIANCE = SIGMA**2 * A @ A
_VALUES, _VECTORS = np.linalg.eigh(2 * COVARIANCE**2)
S, Q, VARIANCE, HESSIAN = (
    x.astype(np.float32) for x in (SIGMA * A, _VECTORS @ np.diag(_VALUES**0.5) @ _VECTORS.T, np.diag(COVARIANCE), A)
)
SUM1, SUM2 = (sum(c**k * TAU ** (k - 1) / np.prod(np.arange(1.0, k + 1)) for k in range(1, 6)) for c in (C1, C2))


def schedule(t):
    """r, G, gamma2'/(2 r) and G', functions of time."""
    decay1, decay2 = jnp.exp(-(t + TAU) * SUM1), jnp.exp(-t * SUM2)
    gamma1, root = 1 - decay1, jnp.sqrt(1 - decay2)
    slope = SUM2 * decay2 / (2 * root)
    return root, root / gamma1, slope, (slope * gamma1 - root * SUM1 * decay1) / gamma1**2


def parts(t, state):
    """Drift, and what the noise needs: D G and g."""
    theta, m, v = state[:2], state[2:4], state[4:]
    root, ratio, slope, ratio_slope = schedule(t)
    g = HESSIAN @ theta
    d = 1 / (jnp.sqrt(jnp.maximum(v, TAU)) + EPS * root)
    away = VARIANCE - v
    of_theta = -ratio * m * d + TAU / 2 * (
        C1 * ratio * (m - g) * d
        - C2 / 2 * ratio * d**3 * away * m * (v > TAU)
        + (ratio * slope * d**2 + ratio_slope * d) * m
    )
    of_m = C1 * (g - m) + TAU / 2 * (C1 * ratio * (HESSIAN @ (m * d)) + C1**2 * (g - m))
    of_v = C2 * away + TAU * (C2 * g**2 + C2**2 / 2 * away)
    return jnp.concatenate([of_theta, of_m, of_v]), ratio * d, g


def noise(scaled, g, normals):
    """The diffusion applied to four normals, two of W and two of W'."""
    common = S @ normals[:2]
    along = -2 * TAU * C2 * g * common + C2 * TAU**0.5 * (Q @ normals[2:])
    return jnp.concatenate([-TAU / 2 * scaled * common, C1 * common, along])


class LaggedAdam(AbstractDynamics):
    """The equation above, from t = 1/4 on."""

    def drift(self, t, state, signal):
        return parts(BEGIN + t, state)[0]

    def diffusion(self, t, state, signal):
        _, scaled, g = parts(BEGIN + t, state)
        normals = jax.ShapeDtypeStruct((4,), state.dtype)
        return lx.FunctionLinearOperator(lambda xi: noise(scaled, g, xi), normals)


@partial(jax.jit, static_argnames=("paths", "dense"))
def by_hand(key, paths, dense=False):
    """A scan that draws step by step; `dense`: six normals and a 6 x 6 matrix, as published."""

    def path(key):
        def step(y, index):
            normals = jax.random.normal(jax.random.fold_in(key, index), (6 if dense else 4,))
            drift, scaled, g = parts(BEGIN + DT * index, y)
            if dense:
                zero = jnp.zeros((2, 2))
                matrix = jnp.block([
                    [zero, -TAU / 2 * scaled[:, None] * S, zero],
                    [zero, C1 * S, zero],
                    [zero, -2 * TAU * C2 * g[:, None] * S, C2 * TAU**0.5 * Q],
                ])  # fmt: skip
                increment = matrix @ normals
            else:
                increment = noise(scaled, g, normals)
            return y + DT * drift + DT**0.5 * increment, None

        return jax.lax.scan(step, jnp.asarray(START), jnp.arange(STEPS))[0]

    return jax.vmap(path)(path_keys(key, paths))


def worst(one, other) -> float:
    """The largest difference of the means of |theta|, m and v, in standard errors of independent ensembles."""

    def columns(samples):
        samples = np.asarray(samples, float)
        return np.concatenate([np.linalg.norm(samples[:, :2], axis=1)[:, None], samples[:, 2:]], axis=1)

    a, b = columns(one), columns(other)
    return float(np.max(np.abs(a.mean(0) - b.mean(0)) / np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))))


def run() -> list[Figure]:
    figures, key = [], jax.random.key(0)
    for paths, repeats, limit in ((4096, 21, 1.2), (65536, 5, None)):

        def library(paths=paths):
            start = jnp.asarray(START)
            return solve(LaggedAdam(), None, start, steps=STEPS, dt=DT, key=key, paths=paths, solver=dfx.Euler(),
                         save_every=STEPS).final  # fmt: skip

        times = interleave(
            {
                "by hand": lambda paths=paths: by_hand(key, paths),
                "dense": lambda paths=paths: by_hand(key, paths, dense=True),
                "solve": library,
            },
            repeats,
        )
        note = f"{times.median('solve') * 1e3:.0f} ms; {times.processor_ratio('solve', 'by hand')}"
        published = by_hand(jax.random.key(1), paths, dense=True)
        figures += [
            Figure(f"b2: {paths} paths, solve / structured scan", times.ratio("solve", "by hand"), limit, note),
            Figure(f"b2: {paths} paths, solve / scan with dense noise", times.ratio("solve", "dense")),
            Figure(f"b2: {paths} paths, means of |theta|, m, v, standard errors", worst(library(), published), 4.0),
        ]
    return figures

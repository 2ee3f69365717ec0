"""Problem B1: SGD on a quadratic in two dimensions, as a user's own dynamics, against a scan that draws step by step."""

from functools import partial
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array

from dynamics import solve
from equations import AbstractDynamics

from ._problems import path_keys
from ._timing import Figure, interleave

A = np.array([[1.0, 0.5], [0.5, 1.0]], np.float32)
RATE, NOISE, STEPS, START = 0.05, 0.25, 500, np.array([10.0, 5.0], np.float32)


class Quadratic(AbstractDynamics):
    """dX = -A X dt + sqrt(eta) sigma A dW."""

    learning_rate: Array = RATE

    def drift(self, t, state, signal):
        return -A @ state

    def diffusion(self, t, state, signal):
        return lx.MatrixLinearOperator(jnp.sqrt(self.learning_rate) * NOISE * A)


def same(x):
    return x


@partial(jax.jit, static_argnames="paths")
def by_hand(key, paths):
    def path(key):
        def step(x, index):
            normals = jax.random.normal(jax.random.fold_in(key, index), (2,))
            return x - RATE * (A @ x) + RATE * NOISE * (A @ normals), None

        return jax.lax.scan(step, jnp.asarray(START), jnp.arange(STEPS))[0]

    return jax.vmap(path)(path_keys(key, paths))


def closed_form(steps: int):
    """Mean and covariance after so many Euler steps."""
    one, a = np.eye(2), A.astype(float)
    step = one - RATE * a
    covariance = np.zeros((2, 2))
    for _ in range(steps):
        covariance = step @ covariance @ step + RATE**2 * NOISE**2 * a @ a
    return np.linalg.matrix_power(step, steps) @ START, covariance


def worst(samples) -> float:
    """The largest deviation of mean and covariance from the closed form, in standard errors."""
    mean, covariance = closed_form(STEPS)
    centered = np.asarray(samples, float) - mean
    products = centered[:, :, None] * centered[:, None, :] - covariance
    return max(
        np.max(np.abs(values.mean(0)) / (values.std(0, ddof=1) / len(values) ** 0.5)) for values in (centered, products)
    )


def run() -> list[Figure]:
    figures = []
    key = jax.random.key(0)
    for paths, repeats, limit in ((4096, 31, 0.6), (65536, 9, None)):

        def library(solver=None, paths=paths):
            dynamics = Quadratic(jnp.asarray(RATE))
            start = jnp.asarray(START)
            run = solve(dynamics, None, start, steps=STEPS, key=key, paths=paths, solver=solver, save_every=STEPS)
            return run.final

        def fused(library=library):
            return library(dfx.Euler())

        def moments(solver=None, paths=paths):
            """Nothing else is kept, and noise of two or three values serves."""
            dynamics, observe = Quadratic(jnp.asarray(RATE)), {"x": same}
            options: Any = dict(steps=STEPS, save_every=STEPS, reduce=("mean", "variance"), observe=observe)
            return solve(dynamics, None, jnp.asarray(START), key=key, paths=paths, solver=solver, **options).mean["x"]

        runs = {
            "by hand": lambda paths=paths: by_hand(key, paths),
            "solve": fused,
            "default": library,
            "two-point": lambda moments=moments: moments(dfx.Euler()),
            "three-point": moments,
        }
        times = interleave(runs, repeats)
        note = f"{times.median('solve') * 1e3:.0f} ms"
        figures += [
            Figure(
                f"b1: {paths} paths, solve / scan with a draw per step", times.ratio("solve", "by hand"), limit, note
            ),
            Figure(f"b1: {paths} paths, mean and covariance, standard errors", worst(fused()), 4.0),
            Figure(
                f"b1: {paths} paths, the default solver / the fused Euler step",
                times.ratio("default", "solve"),
                1.6 if paths == 4096 else None,
                f"{times.median('default') * 1e3:.0f} ms",
            ),
            *(
                Figure(
                    f"b1: {paths} paths, mean and variance, {name} / scan with a draw per step",
                    times.ratio(name, "by hand"),
                    most,
                    f"{times.median(name) * 1e3:.0f} ms, {times.processor_ratio(name, 'by hand')}",
                )
                for name, most in (("two-point", 0.15), ("three-point", None))
            ),
        ]
    return figures

"""Solvers of Diffrax's own, passed through, against Diffrax called by hand on the same terms."""

from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx

from dynamics import solve
from equations import AbstractDynamics

from ._timing import Figure, interleave

DT, EVERY = 0.05, 100


class OrnsteinUhlenbeck(AbstractDynamics):
    """dX = -X dt + 0.5 dW."""

    def drift(self, t, state, signal):
        return -state

    def diffusion(self, t, state, signal):
        return lx.DiagonalLinearOperator(jnp.full(state.shape, 0.5))


def library(solver, steps, paths):
    options: Any = dict(steps=steps, dt=DT, paths=paths, solver=solver, save_every=EVERY, keep_states=True)
    run = solve(OrnsteinUhlenbeck(), None, jnp.ones(2), key=jax.random.key(0), **options)
    return run.states


def by_hand(solver, steps, paths):
    """A function of a key."""
    levy = dfx.SpaceTimeLevyArea if isinstance(solver, dfx.AbstractSRK) else dfx.BrownianIncrement

    def one(key):
        path = dfx.UnsafeBrownianPath((2,), key, levy)
        noise = dfx.ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(jnp.full(y.shape, 0.5)), path)
        terms = dfx.MultiTerm(dfx.ODETerm(lambda t, y, args: -y), noise)
        return dfx.diffeqsolve(
            terms, solver, 0.0, steps * DT, DT, jnp.ones(2), saveat=dfx.SaveAt(t0=True, steps=EVERY),
            adjoint=dfx.ForwardMode(), max_steps=steps + 1, throw=False,
        ).ys  # fmt: skip

    return jax.jit(lambda key: jax.vmap(one)(jax.random.split(key, paths)))


def run() -> list[Figure]:
    figures = []
    for solver, steps, paths in ((dfx.SRA1(), 4000, 64), (dfx.SRA1(), 1000, 1024), (dfx.Heun(), 4000, 64)):
        hand = by_hand(solver, steps, paths)
        times = interleave(
            {
                "by hand": lambda hand=hand: hand(jax.random.key(0)),
                "solve": lambda s=solver, n=steps, p=paths: library(s, n, p),
            }
        )
        name = f"passed: {type(solver).__name__}, {paths} paths, {steps} steps, solve / Diffrax by hand"
        figures.append(Figure(name, times.ratio("solve", "by hand"), 1.05, times.processor_ratio("solve", "by hand")))
    return figures

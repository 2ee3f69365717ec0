"""Stochastic differential equations whose moments or paths are known, as a user writes them."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.linalg

from dynamics import solve
from equations import AbstractDynamics

A = np.array([[1.0, 0.5], [-0.5, 1.0]])
S = np.array([[0.5, 0.0], [0.3, 0.2]])
START = jnp.array([1.0, -1.0])


class OrnsteinUhlenbeck(AbstractDynamics):
    """dX = -A X dt + S dW."""

    def drift(self, t, state, signal):
        return -jnp.asarray(A) @ state

    def diffusion(self, t, state, signal):
        return lx.MatrixLinearOperator(jnp.asarray(S))


def moments(a, s, start, time):
    """Mean and covariance of dX = -a X dt + s dW."""
    n = len(a)
    block = np.block([[-a, s @ s.T], [np.zeros((n, n)), a.T]])
    grown = scipy.linalg.expm(time * block)
    decay = scipy.linalg.expm(-time * a)
    return decay @ np.asarray(start), grown[:n, n:] @ decay.T


def last(dynamics, start, solver, steps=20, dt=0.05, paths=4000, key=0, **options):
    """The parameters at the last step, `(paths, d)`."""
    flow = solve(
        dynamics, None, start, steps=steps, dt=dt, key=jax.random.key(key), paths=paths, solver=solver,
        save_every=options.pop("save_every", steps), **options,
    )  # fmt: skip
    assert flow.ok.all()
    return np.asarray(flow.final)


def on_one_path(dynamics, start, solver, counts, time=1.0, paths=200, objective=None):
    """The parameters at the end by so many steps each, on the same Brownian paths: a tree of Diffrax's."""
    ends = []
    for count in counts:
        controller = dfx.StepTo(jnp.linspace(0.0, 1.0, count + 1))
        flow = solve(
            dynamics, objective, start, steps=1, dt=time, key=jax.random.key(1), paths=paths, solver=solver,
            stepsize_controller=controller,
        )  # fmt: skip
        assert flow.ok.all()
        ends.append(np.asarray(flow.final))
    return ends


def slopes(errors, counts):
    """Orders from errors at so many steps."""
    return np.diff(np.log(errors)) / -np.diff(np.log(counts))

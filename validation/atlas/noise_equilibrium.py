"""Noise and weight decay bring what a symmetry leaves free, as the length of a normalized weight, to one equilibrium.

Source: Ziyin, Wang, Li and Wu, "Parameter Symmetry and Noise Equilibrium of Stochastic Gradient Descent"
(arXiv:2402.07193), the Noether flow; recalled from its abstract, the equations derived here.

Loss invariant under exp(lambda A), with gamma |theta|^2: the charge C = theta . A theta obeys dC/dt = -4 gamma C +
eta E[g . A g]. Scale invariance has C = r^2 and g perpendicular to theta, so that at rest E r^4 = eta E[|g|^2 r^2]/(4 gamma),
and exactly, at any learning rate, with k = 1 - 2 eta gamma,

    (1 - k^4) E r^4 = 2 k^2 eta^2 E[|g|^2 r^2] + eta^4 E|g|^4.

In the differential equation Tr Sigma stands for |g|^2: it does not know the share of the mean gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective, regularized
from validation import Symmetry, judge_equality, judge_number

from . import Findings

RATE, GAMMA = 0.05, 0.005


def loss(theta, x):
    return -x @ theta / jnp.linalg.norm(theta)


def network(params, example):
    """A tanh network whose first layer is normalized, row by row."""
    rows = params["in"] / jnp.linalg.norm(params["in"], axis=1, keepdims=True)
    logits = jnp.tanh(rows @ example[0]).T @ params["out"]
    return jax.nn.logsumexp(logits) - logits[example[1]]


def moments(loss, data, where, rate, gamma):
    """What the balance holds at these parameters: r^4, |g|^2 r^2 and |g|^4 for single examples, and Tr Sigma r^2."""
    def observed(params):
        part = where(params)
        g = jax.vmap(lambda example: where(jax.grad(loss)(params, example)))(data)
        g = g.reshape(len(g), -1)
        square, r2 = jnp.sum(g**2, axis=1), jnp.sum(part**2)
        k = 1 - 2 * rate * gamma
        gain = (2 * k**2 * rate**2 * jnp.mean(square) * r2 + rate**4 * jnp.mean(square**2)) / (1 - k**4)
        noise = rate / (4 * gamma) * (jnp.mean(square) - jnp.sum(jnp.mean(g, axis=0) ** 2)) * r2
        return jnp.stack([r2**2, gain, noise])

    return observed


def averages(run, skip):
    """Over the later part of each path: shape (3, paths)."""
    return np.asarray(run.observables["moments"])[:, skip:].mean(axis=1).T


def measure(key, full):
    keys, paths = jax.random.split(key, 5), 256 if full else 32
    data = jnp.array([1.0, 0, 0, 0, 0]) + jax.random.normal(keys[0], (200, 5))
    decay = lambda theta: GAMMA * jnp.sum(theta**2)  # noqa: E731
    objective = regularized(Objective(loss, data), decay)
    watch = {"moments": moments(loss, data, lambda theta: theta, RATE, GAMMA)}
    start = 1.5 * jnp.ones(5)
    options = dict(steps=8000, save_every=20, paths=paths, observe=watch)
    algorithm, equation = (averages(run(SGD(RATE, 1), objective, start, key=key, **options), 200)
                           for run, key in ((train, keys[1]), (solve, keys[2])))
    return algorithm, equation

"""What an optimized stochastic network predicts varies less and less as it becomes wide, as one over the width.

Source: Ziyin, Zhang, Meng, Lu, Xing and Ueda, "Stochastic Neural Networks with Infinite Width are Deterministic"
(arXiv:2201.12724), abstract read: the variance vanishes; the rate is derived here.

f(x) = sum_i u_i e_i w_i.x with d hidden units, e_i independent with mean 1 and variance s^2 (dropout). The mean of the loss
(f - y)^2/2 has its minimum where all u_i w_i = v/d, v = (1 + s^2/d)^-1 A^-1 E[xy], A = E[x x^T]. The variance of f there,
on average over the data, is (s^2/d) m/(1 + s^2/d)^2, m = E[xy].A^-1 E[xy].
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective
from validation import Estimate, extrapolated, judge_equality, judge_number, judge_slope

from . import Findings

SPREAD, WIDTHS, RATES, STEPS, TIME = 1.0, np.array([2, 4, 8, 16]), np.array([0.1, 0.05, 0.025]), 800, 20.0


def noisy(params, example, key):
    e = 1 + SPREAD * jax.random.rademacher(key, params["u"].shape, float)
    return (params["u"] * e @ (params["w"] @ example[0]) - example[1]) ** 2 / 2


def variance_at(params, x):
    return SPREAD**2 * jnp.sum((params["u"] * (params["w"] @ x)) ** 2)


def mean_loss(params, example):
    return (params["u"] @ (params["w"] @ example[0]) - example[1]) ** 2 / 2 + variance_at(params, example[0]) / 2


def measure(key, full):
    keys = jax.random.split(key, 6)
    x = jax.random.normal(keys[0], (12, 3))
    y = x @ jnp.array([1.0, -0.5, 0.5]) + 0.3 * jax.random.normal(keys[1], (12,))
    m = float((x.T @ y) @ jnp.linalg.solve(x.T @ x, x.T @ y)) / len(x)
    observe = {"variance": lambda params: jnp.mean(jax.vmap(variance_at, (None, 0))(params, x))}
    predicted = SPREAD**2 / WIDTHS * m / (1 + SPREAD**2 / WIDTHS) ** 2
    reached = []
    for width in WIDTHS:
        start = {"u": jnp.ones(width), "w": 0.1 * jax.random.normal(keys[2], (width, 3))}
        found = train(SGD(0.2), Objective(mean_loss, (x, y)), start, steps=6000, observe=observe, save_every=6000)
        reached.append(float(found.observables["variance"][0, -1]))
    print(np.array(reached)/predicted-1)

    dropout = Objective(noisy, (x, y), random=True, mean=mean_loss)
    start = {"u": jnp.ones(4), "w": 0.1 * jax.random.normal(keys[2], (4, 3))}
    limits = []
    for run in (train, solve):
        means = []
        for rate in RATES:
            found = run(SGD(rate), dropout, start, steps=STEPS, key=keys[3], paths=64, observe=observe, save_every=10)
            seen = np.asarray(found.observables["variance"])[:, round(TIME / rate) // 10]
            means.append((seen.mean(), seen.std() / np.sqrt(len(seen))))
        limits.append(extrapolated(RATES, Estimate(*np.array(means).T)))
        print(np.array(means), limits, predicted[1])
    return Findings(claims=(), data={})

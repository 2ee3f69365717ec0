"""Adam keeps its course where its learning rate grows as the root of the batch size.

Source: Malladi, Lyu, Panigrahi and Arora, "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms"
(arXiv:2205.10287), the equation of Adam and its square-root rule; recalled, verified here.

At kappa times the batch, sqrt(kappa) times the learning rate, kappa (1 - beta), eps/sqrt(kappa). Where noise sigma
dominates and batches shrink along the rule, dm = c1 (g - m) ds + noise, d theta = -m/(sigma0 (1 - e^(-c1 s))) ds in the clock
s = eta^2 step, with c1 = (1 - beta1)/eta^2 and sigma0 = eta sigma/sqrt(B): beta2 has dropped out.
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import Adam, Objective
from validation import Estimate, extrapolated, judge_curve, judge_number, scaling_rule

from . import Findings

SIZES, RATE, FORGET, START, STEPS = (1, 2, 4), 0.01, (0.05, 0.02), 0.2, 200


def adam(size, rate=RATE):
    kept = (1 - forget * size / SIZES[0] for forget in FORGET)
    return Adam(rate * np.sqrt(size), size, b1=next(kept), b2=next(kept), eps=1e-12, scaling="batch_equivalent")


def course(steps, faster=1.0):
    """Malladi's mean of theta on theta^2/2 with gradient noise of variance 1, at steps of batches of one."""

    def velocity(step, y):
        theta, m = y
        return jnp.array([-faster * RATE * m / (-jnp.expm1(-FORGET[0] * step)), FORGET[0] * (theta - m)])

    begin = jnp.array([START, START * FORGET[0] * 1e-6])
    path = jax.lax.scan(lambda y, n: (rk4(velocity, n * 0.05 + 1e-6, y, 0.05), y[0]), begin, jnp.arange(20 * STEPS + 1))
    return path[1][20 * np.asarray(steps)]


def rk4(f, t, y, h):
    a = f(t, y)
    b = f(t + h / 2, y + h / 2 * a)
    c = f(t + h / 2, y + h / 2 * b)
    return y + h / 6 * (a + 2 * b + 2 * c + f(t + h, y + h * c))


def measure(key, full):
    x = jax.random.normal(key, (256,))
    x = (x - x.mean()) / x.std()
    bowl = Objective(lambda w, x: (w - x) ** 2 / 2, x)
    places, limits = 40 * np.arange(1, STEPS // 40 + 1), {}
    for run in (train, solve):
        means = []
        for size in SIZES:
            found = run(
                adam(size), bowl, jnp.array(START), steps=STEPS, key=jax.random.fold_in(key, size), paths=2**14,
                observe={"w": lambda w: w}, save_every=10,
            )  # fmt: skip
            w = np.asarray(found.observables["w"])[:, places // size // 10]
            means.append((w.mean(0), w.std(0) / np.sqrt(len(w))))
        limits[run.__name__] = extrapolated(SIZES, Estimate(*np.moveaxis(np.array(means), 1, 0)))
        print(np.array(means), limits)
    print(course(places), course(places, 2.0))
    return Findings(claims=(), data={})

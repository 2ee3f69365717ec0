"""What an optimized stochastic network predicts varies less and less as it becomes wide, as one over the width.

Source: Ziyin, Zhang, Meng, Lu, Xing and Ueda, "Stochastic Neural Networks with Infinite Width are Deterministic"
(arXiv:2201.12724), abstract read: the variance vanishes; the rate is derived here.

f(x) = sum_i u_i e_i w_i.x with d hidden units, e_i independent with mean 1 and variance s^2 (dropout). The mean of the loss
(f - y)^2/2 has its minimum where all u_i w_i = v/d, v = (1 + s^2/d)^-1 A^-1 E[xy], A = E[x x^T]. The variance of f there,
on average over the data, is (s^2/d) m/(1 + s^2/d)^2, m = E[xy].A^-1 E[xy].
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective
from validation import Estimate, extrapolated, judge_equality, judge_number, judge_slope

from . import Findings

SPREAD, WIDTHS, RATES, STEPS, TIME = 1.0, np.array([2, 4, 8, 16]), np.array([0.1, 0.05, 0.025]), 400, 10.0
WIDE = np.array([8, 16, 32])


def noisy(params, example, key):
    e = 1 + SPREAD * jax.random.rademacher(key, params["u"].shape, float)
    return (params["u"] * e @ (params["w"] @ example[0]) - example[1]) ** 2 / 2


def variance_at(params, x):
    return SPREAD**2 * jnp.sum((params["u"] * (params["w"] @ x)) ** 2)


def mean_loss(params, example):
    return (params["u"] @ (params["w"] @ example[0]) - example[1]) ** 2 / 2 + variance_at(params, example[0]) / 2


def dropped_digits(key, width, full):
    """Variance of what tanh networks with dropout say of odd digits, of eight starts, on the way and in the end."""
    images, labels = load_digits(return_X_y=True)
    images, odd = jnp.asarray(images[:50] / 16), jnp.asarray(1.0 - 2 * (labels[:50, None] % 2))

    def spread(params, x):
        return SPREAD**2 * jnp.sum(params["u"] ** 2, 0) @ jnp.tanh(params["w"] @ x) ** 2

    def mean(params, e):
        return (jnp.sum((params["u"] @ jnp.tanh(params["w"] @ e[0]) - e[1]) ** 2) + spread(params, e[0])) / 2

    shapes, steps = {"u": (8, 1, width), "w": (8, width, 64)}, 30_000 if full else 3000
    start = {
        name: 0.3 * jax.random.normal(k, shapes[name]) for name, k in zip("uw", jax.random.split(key), strict=True)
    }
    run = train(
        SGD(0.1), Objective(mean, (images, odd)), start, steps=steps, save_every=steps // 6, per_path=True,
        observe={"spread": lambda params: jnp.mean(jax.vmap(spread, (None, 0))(params, images))},
    )  # fmt: skip
    return np.asarray(run.observables["spread"])[:, [1, -1]]


def measure(key, full):
    keys = jax.random.split(key, 6)
    x = jax.random.normal(keys[0], (12, 3))
    y = x @ jnp.array([1.0, -0.5, 0.5]) + 0.3 * jax.random.normal(keys[1], (12,))
    m = float((x.T @ y) @ jnp.linalg.solve(x.T @ x, x.T @ y)) / len(x)
    observe = {"variance": lambda params: jnp.mean(jax.vmap(variance_at, (None, 0))(params, x))}
    lost = SPREAD**2 / WIDTHS * m
    predicted = lost / (1 + SPREAD**2 / WIDTHS) ** 2
    reached, mean = [], Objective(mean_loss, (x, y))
    for width in WIDTHS:
        start = {"u": jnp.ones(width), "w": 0.1 * jax.random.normal(keys[2], (width, 3))}
        found = train(SGD(0.2), mean, start, steps=6000, observe=observe, save_every=6000)
        reached.append(float(found.observables["variance"][0, -1]))
    flow = solve(SGD(0.05), mean, start, steps=6000, observe=observe, save_every=6000).observables["variance"][0, -1]

    # Drawn dropout, which keeps the weights in motion about the minimum: the limit of small learning rates.
    dropout, start, means = (
        Objective(noisy, (x, y), random=True, mean=mean_loss),
        jax.tree.map(lambda p: p[:4], start),
        [],
    )
    for rate in RATES:
        found = train(SGD(rate), dropout, start, steps=STEPS, key=keys[3], paths=64, observe=observe, save_every=10)
        seen = np.asarray(found.observables["variance"])[:, round(TIME / rate) // 10]
        means.append((seen.mean(), seen.std(ddof=1) / np.sqrt(len(seen))))
    limit = extrapolated(RATES, Estimate(*np.array(means).T))

    early, digits = np.moveaxis(np.stack([dropped_digits(key, width, full) for width in WIDE], 1), 2, 0)
    powers = [np.log(one.mean(0)[1] / one.mean(0)[2]) / np.log(2) for one in (early, digits)]
    return Findings(
        claims=(
            judge_equality(
                "variance at the widths 2 to 16", np.array(reached), predicted, mutant=lost, operations=6000
            ),
            judge_equality(
                "of gradient flow, width 16", np.array([flow]), predicted[3:], mutant=lost[3:], operations=6000
            ),
            judge_number("with drawn dropout, width 4, as the rate vanishes", limit, predicted[1], mutant=lost[1]),
        ),
        data={"reached": np.array(reached), "m": np.array(m), "digits": digits},
        beyond=(judge_slope("power of 1/width, tanh on digits", 1 / WIDE, digits, 1.0, mutant=0.0),),
        note="The mutant leaves out that dropout shrinks the function, (1 + s^2/d)^-2. Tanh networks that tell odd digits "
        "from even are on their way: from the width 16 to 32 the variance falls with the power "
        f"{powers[0]:.2f} of 1/width after a sixth of the steps, {powers[1]:.2f} in the end.",
    )


def plot(ax, data):
    d = np.geomspace(1.8, 18, 50)
    ax.loglog(d, data["m"] * SPREAD**2 / d / (1 + SPREAD**2 / d) ** 2, color="#0072b2", lw=1, label="prediction")
    ax.loglog(d, data["m"] * SPREAD**2 / d, "--", color="#d55e00", lw=1, label="without the shrinking")
    ax.loglog(WIDTHS, data["reached"], "o", color="#1b1b1b", ms=5, label="optimized network")
    ax.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("hidden units d")
    ax.set_ylabel("variance of the prediction")
    ax.legend(frameon=False)

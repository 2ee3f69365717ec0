"""A two-layer linear network is solved exactly; whether its kernel moves is a matter of scale.

Source: Xu and Ziyin, "Three Mechanisms of Feature Learning in a Linear Network" (arXiv:2401.07085), exact solution; the
abstract is read, the formulas are derived here.

f = g sum_i u_i w_i x under gradient flow of E(f - y)^2/2 at rates a of u and b of w; k = sqrt(ab), P and Q =
|sqrt(b) u_0 +- sqrt(a) w_0|^2, D^2 = 4 k^2 E[xy]^2 + g^2 E[x^2]^2 PQ:

    sum_i u_i w_i = (P nu - Q/nu)/(4k),    (nu - nu_+)/(nu - nu_-) ~ e^{-gDt},    nu_+- = (2k E[xy] +- D)/(g E[x^2] P),

and the tangent kernel at the end is 2D/(g E[x^2] (P + Q)) times that at the start. At unit initialization, a = b and
E[x^2] = E[xy] = 1 this tends with the width d to 1 for g = d^{-1/2} (kernel regime) and to sqrt(2) for g = 1/d.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, train
from equations import SGD, Objective
from validation import Estimate, extrapolated, judge_convergence, judge_number

from . import Findings

A, B, G, TIME = 0.7, 1.3, 1.5, 1.0
EXAMPLES = jnp.array([[1.0, 0.2], [2.0, 1.4], [-1.0, -1.3]])  # x, y
GAUGE = np.sqrt(A * B)  # u = sqrt(A) p_0 and w = sqrt(B) p_1 learn at their rates where p_0 and p_1 learn at one


def exact(u, w, t):
    """The product at times t, and the ratio of the last and the first kernel."""
    (xx, xy), k = (jnp.mean(EXAMPLES[:, 0] * EXAMPLES[:, i]) for i in (0, 1)), GAUGE
    P, Q = (jnp.sum((np.sqrt(B) * u + sign * np.sqrt(A) * w) ** 2) for sign in (1, -1))
    D = jnp.sqrt(4 * k**2 * xy**2 + G**2 * xx**2 * P * Q)
    up, down = ((2 * k * xy + sign * D) / (G * xx * P) for sign in (1, -1))
    r = (1 - up) / (1 - down) * jnp.exp(-G * D * t)
    nu = (up - down * r) / (1 - r)
    lazy = u @ w + (xy / (G * xx) - u @ w) * (1 - jnp.exp(-(G**2) * xx * (A * w @ w + B * u @ u) * t))
    return (P * nu - Q / nu) / (4 * k), 2 * D / (G * xx * (P + Q)), lazy


def kernel_ratios(key, widths, draws):
    """The kernel at the end over that at the start for g = d^-1 and d^-1/2, by the equation, `(2, widths, draws)`.

    One ensemble holds all: zeros added to a narrow network stay zero, and q = sqrt(g) p has g = 1 and a time of its own.
    """
    width = np.repeat(widths, draws)
    first = (np.arange(widths[-1]) < width[:, None, None]) * jax.random.normal(key, (len(width), 2, widths[-1]))
    start = jnp.concatenate([first * width[:, None, None] ** (power / 2) for power in (-1.0, -0.5)])
    kernels = solve(
        SGD(0.05), Objective(lambda q, x: (q[0] @ q[1] * x - 1) ** 2 / 2, jnp.ones(1)), start, steps=120, save_every=120,
        per_path=True, paths=len(start), observe={"kernel": lambda q: jnp.sum(q**2)},
    ).observables["kernel"]  # fmt: skip
    return np.reshape(kernels[:, 1] / kernels[:, 0], (2, len(widths), draws))


def measure(key, full):
    start = 0.08 * jax.random.normal(key, (2, 20))
    u, w = np.sqrt(A) * start[0], np.sqrt(B) * start[1]
    objective = Objective(lambda p, e: (G * GAUGE * p[0] @ p[1] * e[0] - e[1]) ** 2 / 2, EXAMPLES)
    observe = {"product": lambda p: GAUGE * p[0] @ p[1], "kernel": lambda p: jnp.sum(p**2)}
    errors, data = {}, {}
    for side, run, counts in (("algorithm", train, (800, 1600, 3200)), ("equation", solve, (20, 40, 80))):
        rows = []
        for count in counts:
            one = run(SGD(TIME / count), objective, start, steps=5 * count, save_every=count // 10, observe=observe)
            product, kernel = one.observables["product"][0], one.observables["kernel"][0]
            right, ratio, lazy = exact(u, w, one.times)
            rows.append([jnp.max(jnp.abs(product - right)), jnp.max(jnp.abs(product - lazy)),
                         jnp.abs(kernel[-1] / kernel[0] - ratio), jnp.abs(kernel[-1] / kernel[0] - 1)])  # fmt: skip
            data |= {side: product, "t": one.times, "exact": right, "lazy": lazy}
        errors[side] = TIME / np.asarray(counts), np.asarray(rows).T
    widths, draws = (np.array((64, 256, 1024)), 400) if full else (np.array((16, 32, 64)), 100)
    rich, lazy = (
        extrapolated(1 / widths, Estimate(one.mean(1), one.std(1, ddof=1) / np.sqrt(draws)))
        for one in kernel_ratios(key, widths, draws)
    )

    def falls(what, side, row, order):
        return judge_convergence(
            what, errors[side][0], errors[side][1][row], order=order, mutant=errors[side][1][row + 1]
        )

    return Findings(
        claims=(
            judge_number("ratio of kernels at g = 1/d, infinite width", rich, np.sqrt(2), mutant=1.0),
            judge_number("ratio of kernels at g = d^-1/2, infinite width", lazy, 1.0, mutant=np.sqrt(2)),
            falls("error of the solution in gradient descent", "algorithm", 0, 1),
            falls("error of the solution in gradient flow", "equation", 0, 5),
            falls("error of the ratio of kernels in gradient descent", "algorithm", 2, 1),
        ),
        data=data,
        note="The mutant is a network whose kernel stays as it was.",
    )  # fmt: skip


def plot(ax, data):
    ax.plot(data["t"], data["exact"], color="#0072b2", label="exact solution")
    ax.plot(data["t"], data["lazy"], "--", color="#d55e00", label="kernel as at the start")
    ax.plot(data["t"], data["equation"], "o", color="#1b1b1b", ms=3.5, label="gradient flow")
    ax.set_xlabel("time (learning rate x steps)")
    ax.set_ylabel("product of the layers, Σ u w")
    ax.legend(frameon=False)

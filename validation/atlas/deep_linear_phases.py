"""Weight decay collapses linear networks: continuously with one hidden layer, by a jump with more.

Source: Ziyin, Li and Meng, "Exact Solutions of a Deep Linear Network" (arXiv:2202.04777), and Ziyin and Ueda, "Exact Phase
Transitions in Deep Learning" (arXiv:2205.12510); the abstracts are read, the formulas are derived here.

E(f - y)^2 + gamma sum |W|^2 with D hidden layers, e = E[xy] and A = E[xx^T], is least at f = b^{2D} e^T (b^{2D} A +
gamma)^{-1} x, |(b^{2D} A + gamma)^{-1} e| = b^{1-D}, or at zero. For one input a b^{2D} - e b^{D-1} + gamma = 0:

D = 1: b^2 = (e - gamma)/a up to gamma = e, a continuous transition. D > 1: a jump of the product from e(D-1)/(aD) to 0 at

    gamma_c = [(D-1)/a]^{(D-1)/(D+1)} (e/D)^{2D/(D+1)},

where both have the same loss; zero is a minimum at any gamma > 0, which catches all small initializations.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, train
from equations import SGD, Objective
from validation import judge_equality

from . import Findings

PAIRS = jnp.array([[1.0, 1.1], [0.5, -0.2], [-1.5, -1.2]])  # x, y
SQUARE, CROSS = (float(jnp.mean(PAIRS[:, 0] * PAIRS[:, i])) for i in (0, 1))  # a, e


def chains(run, settings, rate, steps):
    """Product of the layers and loss above that of zero of chains (hidden layers, gamma, start), each of its own."""
    depth, gamma, start = (np.array(part) for part in zip(*settings, strict=True))
    used = np.arange(depth.max() + 1) <= depth[:, None]
    product = lambda b: jnp.prod(jnp.where(used, b, 1.0), axis=1)  # noqa: E731
    decay = lambda b: gamma * jnp.sum(jnp.where(used, b**2, 0.0), axis=1)  # noqa: E731
    above = lambda b: SQUARE * product(b) ** 2 - 2 * CROSS * product(b) + decay(b)  # noqa: E731
    end = run(
        SGD(rate), Objective(lambda b, e: jnp.sum((product(b) * e[0] - e[1]) ** 2 + decay(b)), PAIRS),
        jnp.asarray(start[:, None] * (1 + 0.03 * np.arange(used.shape[1]))), steps=steps, save_every=steps,
        observe={"product": product, "above": above},
    )  # fmt: skip
    return (np.asarray(end.observables[name][0, -1]) for name in ("product", "above"))


def network(run, key, gamma, rate, steps):
    """The map that a network 3-4-4-1 learns, the predicted one, and that of ridge regression."""
    X = np.sqrt(8) * jnp.linalg.qr(jax.random.normal(key, (8, 3)))[0] * jnp.array([1.0, 0.7, 1.4])
    y = X @ jnp.array([1.0, -0.5, 0.3])
    A, e = np.asarray(X.T @ X / 8), np.asarray(X.T @ y / 8)
    shapes = ((4, 3), (4, 4), (1, 4))
    start = [0.5 * jax.random.normal(k, s) for k, s in zip(jax.random.split(key, 3), shapes, strict=True)]
    ends = lambda W: (W[2] @ W[1] @ W[0])[0]  # noqa: E731
    loss = lambda W, p: (ends(W) @ p[0] - p[1]) ** 2 + gamma * sum(jnp.sum(part**2) for part in W)  # noqa: E731
    found = run(SGD(rate), Objective(loss, (X, y)), start, steps=steps, save_every=steps, observe={"map": ends})
    return (
        np.asarray(found.observables["map"][0, -1]),
        predicted(A, e, gamma, 2),
        np.linalg.solve(A + gamma * np.eye(3), e),
    )


def predicted(A, e, gamma, hidden):
    """The map of the learned minimum, at the larger root for b, by bisection."""

    def inner(b):
        return np.linalg.solve(b ** (2 * hidden) * A + gamma * np.eye(len(e)), e)

    grid = np.linspace(0.01, 3, 600)
    low = max(b for b in grid if np.linalg.norm(inner(b)) > b ** (1 - hidden))
    high = low + grid[1] - grid[0]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(inner(middle)) > middle ** (1 - hidden) else (low, middle)
    return low ** (2 * hidden) * inner(low)


def critical(hidden):
    return ((hidden - 1) / SQUARE) ** ((hidden - 1) / (hidden + 1)) * (CROSS / hidden) ** (2 * hidden / (hidden + 1))


def measure(key, full):
    depths, shares = np.arange(2, 7 if full else 5), np.linspace(0.1, 1.9, 10)
    settings = [
        *((d, share * limit, 1.0) for d, limit in ((1, CROSS), (2, critical(2))) for share in shares),
        *((d, share * critical(d), start) for share, start in ((1.0, 1.0), (0.3, 0.1)) for d in depths),
    ]
    one, two, jump, caught = np.split(np.arange(len(settings)), [10, 20, 20 + len(depths)])
    continuous = np.maximum(0, 1 - shares) * CROSS / SQUARE
    below = [predicted(np.array([[SQUARE]]), np.array([CROSS]), s * critical(2), 2)[0] if s < 1 else 0 for s in shares]
    jumps = CROSS * (depths - 1) / (SQUARE * depths)
    equal, claims, data = partial(judge_equality, operations=6000), [], {}
    for side, run in (("descent", train), ("flow", solve)):
        product, above = chains(run, settings, 0.03, 6000)
        lower = np.where(above[two] < 0, product[two], 0.0)
        found, right, ridge = network(run, key, 0.1, 0.03, 5000)
        claims += [
            equal(f"product where the phases meet, {side}", product[jump], jumps, mutant=CROSS / SQUARE + 0 * jumps),
            equal(f"loss above that of zero there, {side}", above[jump], 0 * jumps, mutant=0 * jumps - 0.1, scale=1.0),
            equal(
                f"product with one hidden layer, {side}", product[one], continuous, mutant=CROSS / SQUARE / (1 + shares)
            ),
            equal(f"product with two, {side}", lower, below, mutant=continuous),
            equal(f"small initialization with more, {side}", product[caught], 0 * jumps, mutant=jumps, scale=1.0),
            equal(f"map of a network 3-4-4-1, {side}", found, right, mutant=ridge),
        ]
        data |= {side: (shares * CROSS, product[one], shares * critical(2), lower)}
    note = "Mutants: no jump; the loss at another gamma; ridge regression, which shrinks and never collapses."
    return Findings(claims=tuple(claims), data=data, note=note)


def plot(ax, data):
    first, one, second, two = data["descent"]
    gamma = np.linspace(1e-3, critical(2), 200)
    line = [predicted(np.array([[SQUARE]]), np.array([CROSS]), g, 2)[0] for g in gamma]
    ax.plot([0, CROSS, 2 * CROSS], [CROSS / SQUARE, 0, 0], color="#0072b2", label="one hidden layer: (e - γ)/a")
    ax.plot([*gamma, gamma[-1], 2 * gamma[-1]], [*line, 0, 0], color="#0072b2", ls=":", label="two: a jump at γ_c")
    ax.plot(first, CROSS / SQUARE / (1 + first / SQUARE), "--", color="#d55e00", label="ridge regression")
    ax.plot(first, one, "o", color="#1b1b1b", ms=4, label="gradient descent, one")
    ax.plot(second, two, "s", color="#1b1b1b", ms=4, mfc="white", label="gradient descent, two")
    ax.set_xlabel("weight decay γ")
    ax.set_ylabel("product of the layers at the minimum")
    ax.legend(frameon=False)

"""Weight decay on a product of parameters is the lasso.

Source: Ziyin and Wang, "spred: Solving L1 Penalty with SGD" (arXiv:2210.01212); the map of minima is recalled, and
verified here.

L(u * w) + kappa (|u|^2 + |w|^2) has its minima where L(V) + 2 kappa |V|_1 has its own, at V = u * w: gradient descent
finds exactly sparse solutions, without a soft threshold.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import train
from equations import SGD, Objective
from validation import judge_equality

from . import Findings

KAPPA, EXAMPLES, FEATURES = 0.1, 60, 20


def lasso(X, y, penalty, iterations=4000):
    """argmin of mean (y - Xv)^2/2 + penalty |v|_1, by proximal gradient descent."""
    rate = 1 / jnp.linalg.eigvalsh(X.T @ X / len(y))[-1]

    def step(v, _):
        v = v - rate * X.T @ (X @ v - y) / len(y)
        return jnp.sign(v) * jnp.maximum(jnp.abs(v) - rate * penalty, 0), None

    return jax.lax.scan(step, jnp.zeros(X.shape[1]), None, length=iterations)[0]


def measure(key, full):
    X, truth, noise, start = (
        jax.random.normal(k, shape)
        for k, shape in zip(
            jax.random.split(key, 4), ((EXAMPLES, FEATURES), FEATURES, EXAMPLES, (2, FEATURES)), strict=True
        )
    )
    y = X @ jnp.where(jnp.arange(FEATURES) < 5, truth, 0.0) + 0.5 * noise

    def loss(params, example):
        product = params["u"] * params["w"]
        decay = sum(jnp.sum(part**2) for part in params.values())
        return (example[1] - example[0] @ product) ** 2 / 2 + KAPPA * decay

    run = train(
        SGD(0.05), Objective(loss, (X, y)), {"u": start[0], "w": start[1]}, steps=20_000,
        observe={"product": lambda params: params["u"] * params["w"]}, save_every=1000,
    )  # fmt: skip
    products = np.asarray(run.observables["product"][0])
    right, half = (np.asarray(lasso(X, y, factor * KAPPA)) for factor in (2, 1))
    return Findings(
        claims=(
            judge_equality("solution of decayed factors", products[-1], right, mutant=half, operations=200),
            judge_equality(
                "what the lasso sets to zero", products[-1][right == 0], 0 * right[right == 0],
                mutant=np.where(right == 0, half, 1)[right == 0] + 1e-6, operations=200, scale=1.0,
            ),
        ),
        data={"product": products[-1], "lasso": right},
        note="The mutant takes kappa for 2 kappa as the penalty of the lasso.",
    )  # fmt: skip


def plot(ax, data):
    ax.plot(data["lasso"], color="#0072b2", lw=1, label="lasso, penalty 2κ")
    ax.plot(data["product"], "o", color="#1b1b1b", ms=4, label="u * w after gradient descent")
    ax.set_xlabel("weight")
    ax.set_ylabel("value")
    ax.legend(frameon=False)

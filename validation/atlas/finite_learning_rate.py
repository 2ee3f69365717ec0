"""The covariance of SGD with momentum at rest in a quadratic bowl is known exactly at any learning rate.

Source: Liu, Ziyin and Ueda, "Noise and Fluctuation of Finite Learning Rate Stochastic Gradient Descent"
(arXiv:2012.03636), theorem 1, and Ziyin et al., "Strength of Minibatch Noise in SGD" (arXiv:2102.05375), theorem 2; read
in the second, and verified here.

m' = mu m + g, w' = w - eta m', Hessian H, C the covariance of g:

    (1 - mu) eta (HS + SH) - eta^2 (1 + mu^2)/(1 - mu^2) HSH + eta^2 mu/(1 - mu^2) (HHS + SHH) = eta^2 C

Linear regression on x ~ N(0, A), label noise s^2, batches of B: with G = 2 (1 - mu) - ((1 - mu)/(1 + mu) + 1/B) eta A and
k = tr[eta A/G], S = (eta s^2/B) (1 + k/(B - k))/G. The differential equation lacks the terms in eta^2 H:
S = eta C/(2 (1 - mu) H).
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, stationary, train
from equations import Momentum, Objective, Population
from validation import judge_curve, judge_equality, judge_number

from . import Findings

A, BATCH = np.array([0.5, 1.0, 1.5, 2.0]), 4
RATES = {0.0: 0.4, 0.5: 0.2, 0.8: 0.08}  # by momentum, so that all drift alike


def predicted(momentum, finite=1.0):
    """Variances of linear regression; `finite` = 0 leaves out what the finite learning rate adds to decay."""
    moved = RATES[momentum] * A
    g = 2 * (1 - momentum) - (finite * (1 - momentum) / (1 + momentum) + 1 / BATCH) * moved
    k = np.sum(moved / g)
    return RATES[momentum] / BATCH * (1 + k / (BATCH - k)) / g


def balance(H, S, momentum, product):
    """The left side of the theorem over eta; `product` is the factor of HSH."""
    crossed = momentum * (H @ H @ S + S @ H @ H) - product * H @ S @ H
    return (1 - momentum) * (H @ S + S @ H) + RATES[momentum] * crossed / (1 - momentum**2)


def regression(w, example):
    return 0.5 * (example[0] @ w - example[1]) ** 2


def draw(key):
    x, noise = jnp.split(jax.random.normal(key, (5,)), [4])
    return jnp.sqrt(A) * x, noise[0]


def measure(key, full):
    keys, paths = jax.random.split(key, 3), 200_000 if full else 10_000
    fresh, start = Objective(regression, Population(draw)), jnp.zeros(4)
    squares = {
        mu: np.asarray(train(Momentum(rate, BATCH, momentum=mu), fresh, start, steps=100, save_every=100, key=keys[0],
                             paths=paths).final) ** 2 for mu, rate in RATES.items()
    }  # fmt: skip

    pulls = jax.random.normal(keys[1], (32, 4)) @ (jnp.eye(4) + 0.5 * jnp.eye(4, k=1))
    pulls, H = pulls - pulls.mean(axis=0), np.diag(A) + 0.2
    bowl, ball = Objective(lambda w, x: 0.5 * w @ H @ w - x @ w, pulls), Momentum(RATES[0.5], BATCH, momentum=0.5)
    C = np.asarray(pulls.T @ pulls) / len(pulls) / BATCH
    S = np.asarray(stationary(ball, bowl, start, discrete=True).covariance)[:4, :4]
    at_rest = np.asarray(
        solve(ball, bowl, start, steps=100, save_every=100, key=keys[2], paths=paths // 4, substeps=2).final
    )
    image = np.einsum("pi,ij,pj->p", at_rest, H, at_rest)

    return Findings(
        claims=(
            judge_curve(
                "variances of linear regression, momentum .5", squares[0.5], predicted(0.5), mutant=predicted(0.5, 0.0)
            ),
            judge_curve("the same without momentum", squares[0.0], predicted(0.0), mutant=predicted(0.0, 0.0)),
            judge_equality(
                "the theorem, H and C do not commute", balance(H, S, 0.5, 1 + 0.5**2), RATES[0.5] * C,
                mutant=balance(H, S, 0.5, 1 - 0.5**2), operations=300,
            ),
            judge_number(
                "tr[H S] of the differential equation", image, RATES[0.5] * np.trace(C) / (2 * (1 - 0.5)),
                mutant=np.trace(H @ S),
            ),
        ),
        data={"squares": squares},
        note="Mutants: no (1 - mu)/(1 + mu), the sign of mu^2 turned, the algorithm's value, and the equation's.",
    )  # fmt: skip


def plot(ax, data):
    for momentum, squares, marker in zip(RATES, data["squares"].values(), "osd", strict=True):
        error = squares.std(axis=0) / len(squares) ** 0.5
        ax.errorbar(A, squares.mean(axis=0), 3 * error, fmt=marker, color="#1b1b1b", ms=5, label=f"SGD, μ = {momentum}")
        ax.plot(A, predicted(momentum), color="#0072b2", label="exact" if momentum == 0 else None)
        ax.plot(A, predicted(momentum, 0.0), "--", color="#d55e00", label="small rate" if momentum == 0 else None)
    ax.set_xlabel("curvature")
    ax.set_ylabel("variance of the weight (± 3 standard errors)")
    ax.legend(frameon=False)

"""The entropy that stochastic gradient descent produces obeys the fluctuation theorems, in any network.

Source: Seifert, "Entropy Production along a Stochastic Trajectory and an Integral Fluctuation Theorem"
(arXiv:cond-mat/0503686), recalled; for discrete steps derived here.

With s = ln p(y_0) P(y_1|y_0)... - ln q(y_n) P(y_{n-1}|y_n)..., P the Gaussian step: <exp(-s)> = 1 for any densities p of
the start and q. At rest, p = q stationary, p(s)/p(-s) = exp(s) too. Of y' = A y + xi, xi ~ N(0, Q), y ~ N(0, C), a step
produces <s> = tr Q^-1 [C - C A^T A^T - A A C + A C A^T - Q]/2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import entropy_production, solve, stationary, train
from equations import SGD, Isotropic, Objective
from validation import Estimate, fluctuation_theorem, judge_number

from . import Findings

ETA, WINDOW, SHORT, SPREAD = 0.1, 20, 2, 0.4


def produced(A, Q, C):
    back = C - C @ A.T @ A.T - A @ A @ C + A @ C @ A.T
    return np.trace(np.linalg.solve(Q, back - Q)) / 2


def log_normal(y, mean, covariance):
    off = y - mean
    return -(np.sum(off @ np.linalg.inv(covariance) * off, -1) + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2


def integral(what, s):
    found = fluctuation_theorem(s)
    estimate = Estimate(found.integral, found.integral_error)
    return judge_number(what, estimate, 1.0, mutant=np.exp(-found.mean))


def from_a_cloud(objective, center, key, paths):
    """s of networks that start around a point, q the normal density like that of their ends."""
    sgd, keys = SGD(ETA / 2, batch_size=4, noise_model=Isotropic(2.0)), jax.random.split(key)
    starts = center + SPREAD * jax.random.normal(keys[0], (paths, len(center)))
    run = train(
        sgd, objective, starts, steps=SHORT, key=keys[1], noise="gaussian", keep_states=True, per_path=True
    )  # fmt: skip
    medium = np.asarray(entropy_production(sgd, objective, run).medium.sum(axis=1))
    ends = np.asarray(run.final)
    before = log_normal(np.asarray(starts), np.asarray(center), SPREAD**2 * np.eye(len(center)))
    return medium + before - log_normal(ends, ends.mean(0), np.cov(ends.T))


def network(w, example):
    return (w[4:] @ jnp.tanh(w[:4].reshape(2, 2) @ example[0]) - example[1]) ** 2 / 2


def measure(key, full):
    keys, sgd = jax.random.split(key, 6), SGD(ETA, batch_size=4)
    H = jnp.diag(jnp.array([2.0, 1.0, 0.5]))
    X = jax.random.normal(keys[0], (64, 3)) @ jnp.array([[1.0, 0.9, 0.0], [0.0, 1.0, 0.6], [0.3, 0.0, 0.8]])
    tilted = Objective(lambda w, x: w @ H @ w / 2 - x @ w, X - X.mean(0))
    theorems = {}
    for run, discrete in ((train, True), (solve, False)):
        rest = stationary(sgd, tilted, jnp.zeros(3), discrete=discrete)
        starts = rest.mean + jax.random.normal(keys[2], (4096, 3)) @ jnp.linalg.cholesky(rest.covariance).T
        options = {"noise": "gaussian"} if discrete else {}
        found = run(sgd, tilted, starts, steps=WINDOW, key=keys[3], keep_states=True, per_path=True, **options)
        theorems[discrete] = np.asarray(entropy_production(sgd, tilted, found, reference=rest).total.sum(axis=1))
    C = np.asarray(stationary(sgd, tilted, jnp.zeros(3), discrete=True).covariance)
    A, Q = np.eye(3) - ETA * np.asarray(H), ETA**2 * np.cov(X.T, bias=True) / 4
    x = jax.random.normal(keys[4], (50, 2))
    target = jnp.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.5 * jax.random.normal(keys[0], (50,))
    w = 0.5 * jax.random.normal(keys[5], (6,))
    images, labels = load_digits(return_X_y=True)
    parts = np.linalg.svd(images - images.mean(0), full_matrices=False)[0][:400:8, :2] * np.sqrt(len(images))
    nets = {
        name: from_a_cloud(Objective(network, data), w, keys[5], 4096)
        for name, data in (("regression", (x, target)), ("digits", (parts, 1.0 - 2 * (labels[:400:8] % 2))))
    }
    exact, equation = (fluctuation_theorem(theorems[kind]) for kind in (True, False))
    return Findings(
        claims=(
            judge_number("slope of ln p(s)/p(-s)", Estimate(exact.slope, exact.slope_error), 1.0, mutant=2.0),
            judge_number("that of the equation", Estimate(equation.slope, equation.slope_error), 1.0, mutant=2.0),
            integral("<exp(-s)>", theorems[True]),
            judge_number("<s> of twenty steps", theorems[True], WINDOW * produced(A, Q, C), mutant=0.0),
            integral("<exp(-s)> of a tanh network for regression, on its way", nets["regression"]),
        ),
        data={"s": theorems[True]},
        beyond=(integral("<exp(-s)> of a tanh network on digits", nets["digits"]),),
        note="The mutants take the covariance of a step for the diffusion, half of it, keep only the mean of s, or call a "
        "stationary state reversible. No rest and no linearization is needed for the integral theorem of the networks.",
    )  # fmt: skip


def plot(ax, data):
    s = data["s"]
    edges = np.linspace(0, 2.4, 9)
    forward, backward = (np.histogram(sign * s, edges)[0] for sign in (1, -1))
    middle, error = (edges[1:] + edges[:-1]) / 2, np.sqrt(1 / np.maximum(forward, 1) + 1 / np.maximum(backward, 1))
    kept = backward > 5
    ax.plot(edges, edges, color="#0072b2", lw=1, label="detailed theorem")
    ax.plot(edges, 2 * edges, "--", color="#d55e00", lw=1, label="noise for diffusion")
    ratio = np.log(forward[kept] / backward[kept])
    ax.errorbar(middle[kept], ratio, error[kept], fmt="o", color="#1b1b1b", ms=4, label="SGD at rest")
    ax.set_xlabel("entropy s of twenty steps")
    ax.set_ylabel("ln p(s)/p(-s)")
    ax.legend(frameon=False)

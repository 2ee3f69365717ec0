"""SGD brings a deep linear network to one kernel whatever the initialization, but not quite to gradient balance.

Source: Ziyin et al., "Neural Thermodynamics: Entropic Forces in Deep and Universal Representation Learning"
(arXiv:2505.12387), gradient balance and universal kernel; recalled, consequences and the correction derived here.

y = V x + e, loss |y - W_2 W_1 x|^2/2. Descent of L + (eta/4) E|g_B|^2 ends where E[g_1 g_1^T] = E[g_2^T g_2], and so, with
M = Se^(1/2) V Sx^(1/2), at W_1^T W_1 = (Tr Sx/Tr Se)^(1/2) Sx^(-1/2) (M^T M)^(1/2) Sx^(-1/2). The traces are equal exactly,
at any eta. But SGD moves along the manifold of minima by -(eta/2) P grad Tr[H X], H X + X H = Cov g, P onto the manifold
(Katzenberger; Li, Wang and Arora 2022). This turns the hidden layer for ever, at a rate O ~ eta^2 per step, which no charge
forbids: C = W_1 W_1^T - W_2^T W_2 then rests where its drift is the commutator [O, C] and not zero.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import train
from equations import SGD, Objective
from validation import Estimate, extrapolated, judge_curve, judge_number

from . import Findings

V = np.array([[-0.7, 0.2], [1.0, 0.2]])
SX, SE = np.array([1.0, 0.5]), np.array([1.0, 0.05])  # diagonals of the covariances of inputs and of labels
RATES = (0.04, 0.03, 0.02)


def root(S):
    values, vectors = jnp.linalg.eigh(S)
    return vectors * jnp.sqrt(values) @ vectors.T


def universal():
    M = np.sqrt(SE)[:, None] * V * np.sqrt(SX)
    return np.sqrt(SX.sum() / SE.sum()) * root(M.T @ M) / np.sqrt(np.outer(SX, SX))


def product(w):
    return w[4:].reshape(2, 2) @ w[:4].reshape(2, 2)


def minimum(W):
    """Parameters with W_1 = W and W_2 W_1 = V."""
    return jnp.concatenate([W.ravel(), (V @ jnp.linalg.inv(W)).ravel()])


def slow(W):
    """The drift of W_1 along the manifold, over eta^2 per step."""
    w = minimum(W)
    hessian = jax.hessian(lambda w: jnp.sum((product(w) - V) ** 2 * SX) / 2)
    out = jax.jacfwd(product)(w).reshape(4, 8)
    values, vectors = jnp.linalg.eigh(hessian(w))
    fast = jnp.arange(8) > 3
    noise = vectors.T @ out.T @ jnp.diag(jnp.kron(SE, SX)) @ out @ vectors
    X = vectors @ jnp.where(fast[:, None] & fast, noise / (values[:, None] + values), 0) @ vectors.T
    force = -jax.grad(lambda w: jnp.sum(hessian(w) * X))(w) / 2
    return (vectors[:, :4] @ (vectors[:, :4].T @ force))[:4].reshape(2, 2)


def corrected():
    """W_1^T W_1 at rest, and the rotation over eta^2 per step."""

    def step(kernel, _):
        W = root(kernel)
        change = W @ slow(W)
        return kernel + 0.3 * (change + change.T), None

    kernel = jax.lax.scan(step, universal(), None, length=1500)[0]
    return kernel, -(slow(root(kernel)) @ jnp.linalg.inv(root(kernel)))[0, 1]


def loss(w, example):
    x, e = example
    return jnp.sum((V @ x + e - product(w) @ x) ** 2) / 2


def measure(key, full):
    # Inputs and noise of two values each, all pairs: their covariances are exact, and they are independent.
    signs = jnp.stack(jnp.meshgrid(*[jnp.array([-1.0, 1.0])] * 4), -1).reshape(16, 4)
    data = signs[:, :2] * jnp.sqrt(SX), signs[:, 2:] * jnp.sqrt(SE)
    prediction, rotation = jax.jit(corrected)()

    def observed(w):
        """W_1^T W_1, the angle of W_1, and E|g|^2 of either layer."""
        W, g = w[:4].reshape(2, 2), jax.vmap(jax.grad(loss), (None, 0))(w, data)
        squares = jnp.sum(jnp.mean(g**2, axis=0).reshape(2, 4), axis=1)
        angle = jnp.arctan2(W[1, 0] - W[0, 1], W[0, 0] + W[1, 1])
        return jnp.array([W[:, 0] @ W[:, 0], W[:, 0] @ W[:, 1], W[:, 1] @ W[:, 1], angle, *squares])

    first = root(universal()), 1.25 * root(root(V.T @ V))  # the second has layers of different norms
    starts = jnp.stack([minimum(W) for W in first])
    half, time = (64, 160) if full else (8, 20)
    kernels, rotations = [], []
    for rate in RATES:
        steps = 200 * round(time / rate**2 / 200)
        run = train(
            SGD(rate, 1), Objective(loss, data), jnp.repeat(starts, half, axis=0), steps=steps, key=key, paths=2 * half,
            per_path=True, observe={"all": observed}, save_every=steps // 200,
        )  # fmt: skip
        rest = np.asarray(run.observables["all"])[:, 80:]
        angles = np.unwrap(rest[..., 3], axis=1)
        kernels.append(rest[..., :3].mean(axis=1))
        rotations.append((angles[:, -1] - angles[:, 0]) / (0.6 * steps * rate**2))
    squares = rest[..., 4:].mean(axis=1)
    groups = np.split(kernels[-1][:, 2], 2)

    def limit(values):
        return extrapolated(RATES, Estimate(np.mean(values, axis=1), np.std(values, axis=1) / np.sqrt(2 * half - 1)))

    paper, upper = np.asarray(universal()), np.triu_indices(2)
    found, turning = limit(kernels), limit(rotations)
    return Findings(
        claims=(
            judge_curve(
                "W_1^T W_1 as eta -> 0, with the rotation", found, np.asarray(prediction)[upper], mutant=paper[upper]
            ),
            judge_number("rotation over eta^2 per step, as eta -> 0", turning, float(rotation), mutant=0.0),
            judge_number(
                "Tr E[g_1 g_1^T] over Tr E[g_2 g_2^T]", 1 + (squares[:, 0] - squares[:, 1]) / squares[:, 1].mean(), 1.0,
                mutant=float(np.divide(*np.asarray(jax.jit(observed)(starts[1]))[4:])),
            ),
            judge_number(
                "(W_1^T W_1)_22 from one start less that from another",
                Estimate(np.mean(groups[0]) - np.mean(groups[1]), np.sqrt(sum(np.var(g) for g in groups) / (half - 1))),
                0.0, mutant=float(paper[1, 1] - jnp.sum(first[1][:, 1] ** 2)), freedom=2 * half - 2,
            ),
        ),
        data={"kernels": np.array(kernels), "prediction": np.asarray(prediction), "universal": paper},
        note="Mutants: the universal kernel, no rotation, the ratio and the difference at the start. For V = [[1, .5], "
        "[-.3, .8]], Sx = diag(1.5, .5), Se = diag(.64, .09) the universal kernel is [1.0624 .4066 .8345], that with the "
        "rotation [1.0578 .4078 .8484], and SGD at eta = .02, .01, .005 (32 paths, errors below .0006) has "
        "[1.0449 .3935 .8606], [1.0513 .4008 .8544], [1.0547 .4045 .8515], in a straight line to [1.058 .408 .848]. Those "
        "were Gaussian inputs and labels; of two values each, at .01, [1.0534 .4022 .8487]: it is not for heavy tails.",
    )  # fmt: skip


def plot(ax, data):
    mean, error = (f(data["kernels"], axis=1) for f in (np.mean, np.std))
    error = 3 * error / data["kernels"].shape[1] ** 0.5
    for part, (row, column, marker) in enumerate(zip(*np.triu_indices(2), "osd", strict=True)):
        name = f"SGD, element {row + 1}{column + 1}"
        ax.errorbar(RATES, mean[:, part], error[:, part], fmt=marker, color="#1b1b1b", label=name)
        ax.axhline(data["prediction"][row, column], color="#0072b2", label=None if part else "limit with rotation")
        ax.axhline(data["universal"][row, column], color="#d55e00", ls="--", label=None if part else "universal kernel")
    ax.set_xlim(0, 1.1 * RATES[0])
    ax.set_xlabel("learning rate")
    ax.set_ylabel("element of W₁ᵀW₁ (± 3 standard errors)")
    ax.legend(frameon=False, loc="center", bbox_to_anchor=(0.5, 0.62), ncols=2, fontsize=8)

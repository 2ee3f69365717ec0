"""A linear encoder trained on Barlow's loss learns the modes of its data one after the other, in sigmoids.

Source: Simon et al., "On the Stepwise Nature of Self-Supervised Learning" (arXiv:2303.15438), the dynamics of a linear
encoder; recalled, and verified here. The means over batches: derived here.

f = W x, C = W G W^T, G the symmetrized E[x x'^T] with eigenvalues g_j, L = |C - I|^2. From aligned weights s_j,
    s_j(t) = exp(4 g_j t)/sqrt(s_j(0)^-2 + (exp(8 g_j t) - 1) g_j),    learned at t_j = -ln(s_j(0)^2 g_j)/(8 g_j);
a small generic W has s_j(0) = |R_jj| of the QR decomposition of W Q, Q the eigenvectors in falling order.
With C_B of a batch of B out of N pairs, c_i = sym(f_i f_i'^T):
    E_B |C_B - I|^2 = |C - I|^2 + (N - B)/((N - 1) B) (mean |c_i|^2 - |C|^2),
and as long as W is small, E W grows by 1 + 4 rate G per step, at any rate and batch size.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, train
from equations import SGD, Objective, batch_objective
from validation import judge_convergence, judge_curve, judge_equality

from . import Findings

GAMMA, WIDTH = np.array([3.0, 1.5, 0.7, 0.3, 0.1, -0.2]), 3


def sigmoid(t, start, gamma, rate=4.0):
    return np.exp(rate * gamma * t) / np.sqrt(start**-2.0 + (np.exp(2 * rate * gamma * t) - 1) * gamma)


def population(W, example):
    return jnp.sum((W @ jnp.diag(jnp.asarray(GAMMA)) @ W.T - jnp.eye(len(W))) ** 2) + 0 * example


def barlow(W, batch):
    x, other = batch
    half = W @ x.T @ other @ W.T / len(x)
    return jnp.sum(((half + half.T) / 2 - jnp.eye(len(W))) ** 2)


def learned(run, gammas):
    """When the eigenvalues of C pass 1/2 from below, the first first, between records."""
    found, times = np.asarray(run.observables["modes"][0]), np.asarray(run.times)
    return np.array([np.interp(0.5, found[:, j], times) for j in range(len(gammas))])


def measure(key, full):
    whole, watch = Objective(population, jnp.zeros(1)), {"s": lambda W: jnp.diagonal(W)}
    aligned = 1e-2 * jnp.eye(WIDTH, len(GAMMA))
    rates, errors, wrong = (0.02, 0.01, 0.005, 0.0025), [], []
    for place, rate in enumerate(rates):
        run = train(SGD(rate), whole, aligned, steps=60 * 2**place, observe=watch, save_every=2**place)
        seen, t = np.asarray(run.observables["s"][0]), np.asarray(run.times)[:, None]
        off = [np.max(np.abs(seen - sigmoid(t, 1e-2, GAMMA[:WIDTH], r))) for r in (4.0, 2.0)]
        errors.append(off[0])
        wrong.append(off[1])
    modes = {"modes": lambda W: jnp.linalg.eigvalsh(W @ jnp.diag(jnp.asarray(GAMMA)) @ W.T)[::-1]}
    scales, late, rival = (1e-2, 1e-3, 1e-4), [], []
    generic = jax.random.normal(key, (WIDTH, len(GAMMA)))
    for scale in scales:
        run = solve(SGD(0.01), whole, scale * generic, steps=600, observe=modes)
        start = scale * np.abs(np.diag(np.linalg.qr(np.asarray(generic[:, :WIDTH]))[1]))
        for kept, initial in ((late, start), (rival, scale * np.ones(WIDTH))):
            predicted = -np.log(initial**2 * GAMMA[:WIDTH]) / (8 * GAMMA[:WIDTH])
            kept.append(np.max(np.abs(learned(run, GAMMA[:WIDTH]) - predicted)))
    last = run

    N, B = 9, 3
    first, second = jax.random.split(key)
    x = jax.random.normal(first, (N, 4)) * jnp.array([1.5, 1.0, 0.7, 0.4])
    pairs = x, x + 0.3 * jax.random.normal(second, (N, 4))
    batches = batch_objective(barlow, pairs, B)
    W = generic[:2, :4]
    c = jnp.einsum("ni,nj->nij", pairs[0] @ W.T, pairs[1] @ W.T)
    c = (c + jnp.swapaxes(c, 1, 2)) / 2
    spread = jnp.mean(jnp.sum(c**2, axis=(1, 2))) - jnp.sum(jnp.mean(c, 0) ** 2)
    loss = float(barlow(W, pairs))
    G = pairs[0].T @ pairs[1] / N
    gamma, Q = np.linalg.eigh(np.asarray(G + G.T) / 2)
    rate, steps, paths = 0.01, 40, 20_000 if full else 2000
    tiny = 1e-9 * jnp.ones((1, 4)) @ Q.T
    grown = train(SGD(rate, batch_size=1), batches, tiny, steps=steps, key=key, paths=paths).final
    growth = (np.asarray(grown[:, 0]) @ Q) / 1e-9
    expected = [(1 + factor * rate * gamma) ** steps for factor in (4.0, 2.0)]
    return Findings(
        claims=(
            judge_convergence("sigmoids of gradient descent", rates, errors, order=1, mutant=wrong),
            judge_convergence("times of a small generic start", scales, late, order=0.5, mutant=rival),
            judge_curve("mean growth of small weights by batches of 3", growth, expected[0], mutant=expected[1]),
            judge_equality("mean of Barlow's loss over batches", batches.value(W), loss + (N - B) / ((N - 1) * B) * spread,
                           mutant=loss, operations=200),
        ),
        data={"t": np.asarray(last.times), "modes": np.asarray(last.observables["modes"][0]),
              "start": start, "rival": scales[-1] * np.ones(WIDTH)},
        note="The mutants: half the rate of growth, s_j(0) without the QR decomposition, the loss of the whole for that of "
        "batches.",
    )  # fmt: skip


def plot(ax, data):
    t = data["t"]
    for place, gamma in enumerate(GAMMA[:WIDTH]):
        for start, style, color in ((data["start"], "-", "#0072b2"), (data["rival"], "--", "#d55e00")):
            label = ("prediction" if style == "-" else "without the QR decomposition") if place == 0 else None
            ax.plot(t, gamma * sigmoid(t, start[place], gamma) ** 2, style, color=color, label=label)
        ax.plot(
            t[::12],
            data["modes"][::12, place],
            "o",
            color="#1b1b1b",
            ms=3,
            label="gradient flow" if place == 0 else None,
        )
    ax.set(xlabel="time, learning rate × steps", ylabel="eigenvalues of the correlation C")
    ax.legend(frameon=False, loc="center right")

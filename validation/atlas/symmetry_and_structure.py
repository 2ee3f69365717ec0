"""Where a symmetry has its mirror, decay and noise turn training toward it: growth becomes decay, and rank is lost.

Source: Ziyin, "Symmetry Induces Structure and Constraint of Learning" (arXiv:2309.16932); read in a secondary source, the
thresholds are derived here.

A loss that is the same at the mirror image of theta keeps what starts on the mirror there, and a small distance z from it
moves by z' = (1 - r (h + 2 gamma)) z, with r the learning rate, h the curvature of the batch, gamma |theta|^2 the decay:

    z ~ exp(n E ln |1 - r (h + 2 gamma)|)    in n steps of SGD,    exp(-t (E h + 2 gamma + r Var h/2))    in its equation.

So decay makes the mirror attract from 2 gamma = -E h on, noise earlier. In a two-layer linear network of whitened inputs,
whose mirrors are all ranks, the singular values s of E[yx^T] become (s - 2 gamma)_+ (loss: half the squared error).
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, train
from equations import SGD, Objective
from validation import judge_curve, judge_equality

from . import Findings

RATE, MEAN = 0.3, -0.5
NOISES, DECAYS = np.array([0.0, 0.6, 1.2, 1.8, 2.4, 1.0]), np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.1])
SINGULAR = np.array([2.0, 1.2, 0.7, 0.3])


def exponents(run, key, xi, steps, paths, **solver):
    """ln |z_n/z_0|/n for all settings of noise and decay, `(paths, settings)`."""
    found = run(
        SGD(RATE, batch_size=1), Objective(lambda z, x: jnp.sum((MEAN + NOISES * x + 2 * DECAYS) * z**2) / 2, xi),
        jnp.ones(len(NOISES)), steps=steps, save_every=steps, paths=paths, key=key,
        observe={"log": lambda z: jnp.log(jnp.abs(z))}, **solver,
    )  # fmt: skip
    return np.asarray(found.observables["log"][:, -1]) / steps


def low_rank(run, key, decays, phi, X, y, width, steps=3000):
    """Singular values of W_2 W_1 in the networks W_2 phi(W_1 x) at rest, one for each of the decays."""
    shapes = ((width, X.shape[1]), (y.shape[1], width))
    start = [0.3 * jax.random.normal(k, (len(decays), *s)) for k, s in zip(jax.random.split(key), shapes, strict=True)]

    def loss(W, e):
        errors = jax.vmap(lambda first, last: jnp.sum((last @ phi(first @ e[0]) - e[1]) ** 2))(*W)
        return jnp.sum(errors / 2 + decays * sum(jnp.sum(part**2, (1, 2)) for part in W))

    values = lambda W: jnp.linalg.svd(W[1] @ W[0], compute_uv=False)  # noqa: E731
    found = run(SGD(0.3), Objective(loss, (X, y)), start, steps=steps, save_every=steps, observe={"values": values})
    return np.asarray(found.observables["values"][0, -1])


def digits():
    """Five whitened components of images of four digits, and which they are, centered."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(n_class=4, return_X_y=True)
    left = np.linalg.svd(images[:60] - images[:60].mean(0), full_matrices=False)[0]
    which = np.eye(4)[labels[:60]]
    return jnp.asarray(left[:, :5] * np.sqrt(60)), jnp.asarray((which - which.mean(0)) * np.array([2.5, 1.6, 1.0, 0.5]))


def measure(key, full):
    keys = jax.random.split(key, 5)
    paths, steps = (4000, 1000) if full else (300, 100)
    xi = jnp.array([-1.5, -0.9, -0.2, 0.4, 0.8, 1.4])
    xi = (xi - xi.mean()) / xi.std()
    noise = RATE * (MEAN + NOISES * xi[:, None] + 2 * DECAYS)
    right, quiet = np.mean(np.log(np.abs(1 - noise)), 0), np.log(1 - noise.mean(0))
    flow = -RATE * (MEAN + 2 * DECAYS + RATE * NOISES**2 / 2)
    noisy, claims, data = NOISES > 0, [], {"right": right, "quiet": quiet}
    for what, run, expected, mutant, solver in (
        ("SGD", train, right, quiet, {}), ("equation", solve, flow, -noise.mean(0), {"substeps": 32}),
    ):  # fmt: skip
        found = exponents(run, jax.random.fold_in(keys[0], len(solver)), xi, steps, paths, **solver)
        claims.append(
            judge_curve(f"growth beside the mirror, {what}", found[:, noisy], expected[noisy], mutant=mutant[noisy])
        )
        data |= {what: found}
    turns = [jnp.linalg.qr(jax.random.normal(k, (4, 4)))[0] for k in keys[2:4]]
    X, decays = 2.0 * jnp.concatenate([jnp.eye(4), -jnp.eye(4)]), np.array([0.1, 0.25, 0.5, 0.8, 1.2])
    shrunk = np.maximum(SINGULAR - 2 * decays[:, None], 0)
    for what, run in (("descent", train), ("flow", solve)):
        found = low_rank(run, keys[4], decays, lambda h: h, X, X @ (turns[0] * SINGULAR @ turns[1]).T, 4)
        ridge = SINGULAR / (1 + 2 * decays[:, None])
        claims.append(judge_equality(f"singular values, {what}", found, shrunk, mutant=ridge, operations=3000))
    X, y = digits()
    s = np.linalg.svd(y.T @ X / 60, compute_uv=False)
    decays = 0.45 * s[:3]  # of which one, two and three singular values are above
    found = low_rank(train, keys[4], decays, jnp.tanh, X, y, 6)
    gone, alive = found[s < 2 * decays[:, None]], found[s > 2 * decays[:, None]]
    return Findings(
        claims=tuple(claims),
        beyond=(
            judge_equality(
                "what decay removes from a tanh network of digits", gone, 0 * gone, mutant=0 * gone + alive.min(),
                operations=3000, scale=1.0,
            ),
        ),
        data=data,
        note="Mutants: the growth of the mean; ridge regression, which removes nothing. In a tanh network of whitened "
        "digits as many singular values are left as exceed 2 gamma: one, two and three.",
    )  # fmt: skip


def plot(ax, data):
    place = NOISES**2
    order = np.argsort(place)
    order = order[DECAYS[order] == 0]
    ax.plot(NOISES[order], data["right"][order], color="#0072b2", label="E ln |1 - ηh|")
    ax.plot(NOISES[order], data["quiet"][order], "--", color="#d55e00", label="ln |1 - η E h|")
    for place in order:
        values = data["SGD"][:, place]
        error = values.std() / np.sqrt(len(values))
        ax.errorbar(
            NOISES[place], values.mean(), error, fmt="o", color="#1b1b1b", ms=4, label="SGD" if place == 0 else None
        )
    ax.axhline(0, color="#999999", lw=0.6)
    ax.set_xlabel("standard deviation of the curvature")
    ax.set_ylabel("growth beside the mirror per step")
    ax.legend(frameon=False)

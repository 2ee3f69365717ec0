"""A linear variational autoencoder collapses mode by mode, where the data's singular value is below the noise.

Source: Wang and Ziyin, "Posterior Collapse of a Linear Latent Variable Model" (arXiv:2205.04009), theorem 2; read.

Code z = W^T x + noise of variances s_i^2, decoder y ~ N(Uz, h^2), prior N(0, e^2), KL weight beta. With the singular values
zeta_i of E[yx^T] E[xx^T]^{-1/2} the decoder has at the minimum the singular values

    lambda_i = (zeta_i^2 - beta h^2)_+^{1/2}/e,    s_i = sqrt(beta) h e/zeta_i  (e where lambda_i = 0),

and with fixed s_i = e lambda_i^2 = sqrt(beta) h (zeta_i - sqrt(beta) h)_+/e^2: for either, all collapses where
max zeta_i^2 <= beta h^2, whatever e is. (A printed condition has zeta_i^2 - sqrt(beta) h: it must be zeta_i.)
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, train
from equations import SGD, Objective
from validation import judge_equality

from . import Findings

DECODER, PRIOR, LATENT = 1.0, 0.7, 4  # h, e, codes
SQUARES = np.array([3.2, 1.9, 1.1, 0.6, 0.35])  # eigenvalues of E[xx^T]: zeta_i^2 where y = x
BETAS = np.array([0.8, 1.5, 2.2, 2.7, 3.6])


def bound(p, x, beta, learned=1.0, encode=lambda p, x: x @ p["W"]):
    """-ELBO of an example in closed form over the noise, without constants."""
    log_variance = learned * p["log_variance"] + 2 * np.log(PRIOR)
    variance, z = jnp.exp(log_variance), encode(p, x)
    error = jnp.sum((x - p["U"] @ z) ** 2) + jnp.sum(p["U"] ** 2 @ variance)
    return error / (2 * DECODER**2) + beta * jnp.sum((z**2 + variance) / PRIOR**2 - log_variance) / 2


def singular(U):
    return jnp.linalg.svd(U, compute_uv=False)


def predicted(beta, power=1.0):
    """lambda_i for learned and for fixed noise."""
    zeta, noise = np.sqrt(SQUARES[:LATENT]), np.sqrt(beta)[:, None] * DECODER
    learned = np.sqrt(np.maximum(zeta**2 - noise**2, 0)) / PRIOR
    return learned, np.sqrt(noise * np.maximum(zeta**power - noise, 0)) / PRIOR


def network(key, shares):
    """The decoder of a code tanh(W^T x) of five components of digits, at these shares of the beta of collapse."""
    from sklearn.datasets import load_digits

    digits = load_digits().data[:40] / 8
    left, sizes, _ = np.linalg.svd(digits - digits.mean(0), full_matrices=False)
    X, beta = jnp.asarray(left[:, :5] * sizes[:5]), jnp.asarray(shares * sizes[0] ** 2 / 40 / DECODER**2)
    one = partial(bound, encode=lambda p, x: jnp.tanh(x @ p["W"]))
    start = {
        "U": 0.3 * jax.random.normal(key, (len(shares), 5, 2)), "W": 0.3 * jax.random.normal(key, (len(shares), 5, 2)),
        "log_variance": jnp.zeros((len(shares), 2)),
    }  # fmt: skip
    end = train(
        SGD(0.04), Objective(lambda p, x: jnp.sum(jax.vmap(one, (0, None, 0))(p, x, beta)), X), start,
        steps=12_000, save_every=12_000, observe={"singular": lambda p: singular(p["U"])},
    )  # fmt: skip
    return np.asarray(end.observables["singular"][0, -1])


def measure(key, full):
    turn = jnp.linalg.qr(jax.random.normal(key, (5, 5)))[0]
    X = jnp.sqrt(5 * SQUARES)[:, None] * turn  # with E[xx^T] of those eigenvalues
    beta, learned = jnp.tile(BETAS, 2), jnp.repeat(jnp.array([1.0, 0.0]), len(BETAS))
    keys = jax.random.split(key, 2)
    start = {name: 0.5 * jax.random.normal(k, (len(beta), 5, LATENT)) for name, k in zip("UW", keys, strict=True)}
    start |= {"log_variance": jnp.zeros((len(beta), LATENT))}
    right, fixed = predicted(BETAS)
    typo = predicted(BETAS, power=2.0)[1]
    spread = np.sort(np.where(right > 0, PRIOR * np.sqrt(BETAS[:, None] / SQUARES[:LATENT]) * DECODER, PRIOR))
    objective = Objective(lambda p, x: jnp.sum(jax.vmap(bound, (0, None, 0, 0))(p, x, beta, learned)), X)
    equal, claims, data = partial(judge_equality, operations=30_000), [], {}
    for side, run in (("descent", train), ("flow", solve)):
        end = run(
            SGD(0.04), objective, start, steps=30_000, save_every=30_000,
            observe={"singular": lambda p: singular(p["U"]), "spread": lambda p: PRIOR * jnp.exp(p["log_variance"] / 2)},
        ).observables  # fmt: skip
        free, held = np.split(np.asarray(end["singular"][0, -1]), 2)
        noise = np.asarray(end["spread"][0, -1, : len(BETAS)])
        claims += [
            equal(f"decoder, learned noise, {side}", free, right, mutant=fixed),
            equal(f"decoder, fixed noise, {side}", held, fixed, mutant=right),
            equal(f"noise of the code, {side}", np.sort(noise), spread, mutant=0 * spread + PRIOR),
            equal(f"modes alive, {side}", *((one > 1e-6).sum(1) for one in (held, fixed)), mutant=(typo > 0).sum(1)),
        ]  # fmt: skip
        data |= {side: free}
    alive, gone = network(key, np.array([0.8, 1.2]))
    return Findings(
        claims=tuple(claims),
        beyond=(
            judge_equality(
                "decoder of a tanh code of digits, beta 1.2 times max zeta^2/h^2", gone, 0 * gone, mutant=alive,
                operations=12_000, scale=1.0,
            ),
        ),
        data=data,
        note="Mutants: the formula for fixed noise for learned, and the reverse; the printed condition of collapse; noise "
        "as wide as the prior. A code tanh(W^T x) of digits collapses at the same beta: at .8 of it a mode is alive.",
    )  # fmt: skip


def plot(ax, data):
    beta = np.linspace(0.05, 5, 400)
    right, fixed = predicted(beta)
    for mode in range(LATENT):
        ax.plot(beta, right[:, mode], color="#0072b2", label="learned noise, predicted" if mode == 0 else None)
        ax.plot(beta, fixed[:, mode], "--", lw=1, color="#d55e00", label="fixed noise" if mode == 0 else None)
        ax.plot(
            BETAS, data["descent"][:, mode], "o", color="#1b1b1b", ms=4, label="gradient descent" if mode == 0 else None
        )
    ax.set_xlabel("weight of the KL term β")
    ax.set_ylabel("singular values of the decoder")
    ax.legend(frameon=False)

"""Two deep linear networks of other depths, widths and inputs come to the same kernel, by the entropy of their gradients.

Source: Ziyin and Chuang, "Proof of a Perfect Platonic Representation Hypothesis" (arXiv:2507.01098); read in a secondary
source, the kernel is derived here.

SGD at the rate r follows the entropic loss L + (r/4) E|g|^2, g the gradient of an example, which chooses among the networks
of one map. For y = Vx + noise and inputs Z x with any invertible Z, every hidden layer h of any such network has

    h(x)^T h(x') ~ x^T S^{-1/2} (M^T M)^{1/2} S^{-1/2} x',    M = S_noise^{1/2} V S^{1/2},    S = E[xx^T],

as r -> 0. Gradient flow, without the entropy, keeps what the initialization says.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import train
from equations import SGD, Objective, regularized
from validation import judge_convergence

from . import Findings

RATES = np.array([0.24, 0.16, 0.08, 0.0])  # r of the entropic loss; the last is gradient descent of the loss itself
V = np.array([[1.2, 0.3, -0.2], [0.1, 0.9, 0.4], [0.3, -0.3, 0.7]])
INPUTS = np.diag([1.2, 0.8, 1.0]) @ np.concatenate([np.eye(3), -np.eye(3)], 1) * np.sqrt(3)  # (3, 6)
NOISE = np.diag([0.9, 0.6, 0.3]) @ np.concatenate([np.eye(3), -np.eye(3)], 1) * np.sqrt(3)


def root(A):
    values, vectors = np.linalg.eigh(A)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def predicted(noise=NOISE):
    S, E = INPUTS @ INPUTS.T / 6, noise @ noise.T / 6
    M = root(E) @ V @ root(S)
    K = np.linalg.inv(root(S)) @ root(M.T @ M) @ np.linalg.inv(root(S))
    return K / np.linalg.norm(K)


def kernels(key, Z, widths, rates, steps=40_000):
    """The kernels of all hidden layers at rest as forms of x, each of norm one, `(rates, layers, 3, 3)`."""
    sizes = (3, *widths, 3)
    start = [
        jnp.tile(0.5 * jax.random.normal(jax.random.fold_in(key, i), (1, m, n)), (len(rates), 1, 1))
        for i, (n, m) in enumerate(zip(sizes, sizes[1:], strict=False))
    ]
    x = np.repeat(INPUTS, 6, 1)
    examples = jnp.asarray((Z @ x).T), jnp.asarray((V @ x + np.tile(NOISE, 6)).T)  # noise of its own for every input

    def one(W, e):
        h = e[0]
        for part in W:
            h = part @ h
        return jnp.sum((h - e[1]) ** 2) / 2

    def entropy(W):
        gradients = jax.vmap(jax.grad(one), (None, 0))(W, examples)
        return sum(jnp.sum(part**2) for part in gradients) / len(examples[0])

    def forms(W):
        found, product = [], jnp.asarray(Z)
        for part in W[:-1]:
            product = part @ product
            K = jnp.swapaxes(product, 1, 2) @ product
            found.append(K / jnp.linalg.norm(K, axis=(1, 2), keepdims=True))
        return jnp.stack(found, 1)

    end = train(
        SGD(0.03),
        regularized(
            Objective(lambda W, e: jnp.sum(jax.vmap(one, (0, None))(W, e)), examples),
            lambda W: jnp.sum(rates / 4 * jax.vmap(entropy)(W)),
        ),
        start, steps=steps, save_every=steps, observe={"forms": forms},
    )  # fmt: skip
    return np.asarray(end.observables["forms"][0, -1])


def measure(key, full):
    keys = jax.random.split(key, 4)
    turns = [np.asarray(jnp.linalg.qr(jax.random.normal(k, (2, 3, 3)))[0]) for k in keys[:2]]
    inputs = [left * np.array([1.0, 0.7, 0.5]) @ right for left, right in turns]
    nets = [kernels(k, Z, w, RATES) for k, Z, w in zip(keys[2:], inputs, ((4,), (5, 4)), strict=True)]
    found = np.concatenate(nets, axis=1)  # (rates, layers, 3, 3)

    def away(forms, kernel):
        return np.max(np.linalg.norm(forms - kernel, axis=(2, 3)), axis=1)

    white = predicted(np.linalg.norm(NOISE) / np.sqrt(18) * np.eye(3, 6) * np.sqrt(6))
    theory, rival, apart = away(found, predicted()), away(found, white), away(found[:, 1:], found[:, :1])
    rates, count = RATES[:-1], len(RATES) - 1
    return Findings(
        claims=(
            judge_convergence("kernels of all layers, error in r", rates, theory[:-1], order=1, mutant=rival[:-1]),
            judge_convergence(
                "kernels of one network and of the other, error in r", rates, apart[:-1], order=1,
                mutant=np.full(count, apart[-1]),
            ),
        ),
        data={"rates": rates, "theory": theory[:-1], "flow": theory[-1], "rival": rival[:-1]},
        note="Mutants: noise of the same size in all outputs; descent without the entropy, whose kernels differ by "
        f"{apart[-1]:.2f} of their norm. Descended is the entropic loss, in place of steps of SGD.",
    )  # fmt: skip


def plot(ax, data):
    x = np.array([0.0, data["rates"].max()])
    ax.plot(x, data["theory"][-1] / data["rates"][-1] * x, color="#0072b2", label="to zero in proportion to r")
    ax.axhline(data["flow"], color="#d55e00", ls="--", label="gradient flow")
    ax.plot(data["rates"], data["theory"], "o", color="#1b1b1b", ms=5, label="entropic loss, farthest layer")
    ax.set_xlabel("learning rate r of the entropic loss")
    ax.set_ylabel("distance from the predicted kernel")
    ax.legend(frameon=False)

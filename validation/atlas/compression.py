"""A few weighted neurons that match the first moments of a wide network's neurons train as it does.

Source: Wang, Luo, Poggio, Chuang and Ziyin, "A universal compression theory for lottery ticket hypothesis and neural
scaling laws" (arXiv:2510.00504), abstract read: symmetric objects compress to polylog many by matching moments,
and the dynamics is kept. The small version here, with Gauss quadrature, is derived here.

f(x) = sum_i p_i a_i tanh(w_i x), neurons of weight p_i whose gradient is per weight. Every neuron moves by a field that is
the same for all, so that the output at any time is the mean of a smooth function of where a neuron started. k neurons at
the Gauss nodes of all starts match 2k moments, and the error of all that follows falls exponentially with k.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective
from validation import judge_convergence

from . import Findings

NODES = np.arange(1, 6)


def quadrature(points, k):
    """The k nodes and weights that have the first 2k moments of the points, by Lanczos' recursion."""
    alpha, beta, here = [], [], np.full(len(points), len(points) ** -0.5)
    basis = [here]
    for _ in range(k):
        new = points * here
        alpha.append(new @ here)
        for vector in basis:
            new = new - (new @ vector) * vector
        beta.append(np.linalg.norm(new))
        here = new / beta[-1]
        basis.append(here)
    nodes, vectors = np.linalg.eigh(np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1))
    return nodes, vectors[0] ** 2


def answer(params, x):
    root = params["root"][:, None]
    return (root[:, 0] ** 2 * jnp.tanh(params["w"] / root @ x)) @ (params["a"] / root)


def loss(params, example):
    return jnp.sum((answer(params, example[0]) - example[1]) ** 2) / 2


def errors(run, points, curve, data, steps=100):
    """How far off are k neurons at Gauss nodes, and k of one weight at quantiles, in answers to the data after training."""
    objective, watch = Objective(loss, data), {"f": lambda params: jax.vmap(answer, (None, 0))(params, data[0])}

    def trained(nodes, weights):
        # The last neuron in several equal parts, which move as one, so that one compilation serves every k.
        copies = np.ones(len(nodes), int)
        copies[-1] += max(0, NODES[-1] - len(nodes))
        root = jnp.sqrt(jnp.asarray(np.repeat(weights / copies, copies)))
        powers = root[:, None] * (np.repeat(nodes, copies)[:, None] ** np.arange(3))
        start = {"root": root} | {name: powers @ part for name, part in curve.items()}
        found = run(
            SGD(0.1),
            objective,
            start,
            steps=steps,
            observe=watch,
            save_every=steps,
            frozen=lambda params: params["root"],
        )
        return np.asarray(found.observables["f"][0, -1])

    whole, found = trained(points, np.full(len(points), 1 / len(points))), []
    for k in NODES:
        pairs = quadrature(points, k), (np.quantile(points, (np.arange(k) + 0.5) / k), np.full(k, 1 / k))
        found.append([np.abs(trained(*pair) - whole).max() for pair in pairs])
    return np.array(found)


def curves(key, inputs, outputs):
    return {
        name: jax.random.normal(k, (3, size)) / np.sqrt(size)
        for name, k, size in zip(("w", "a"), jax.random.split(key), (inputs, outputs), strict=True)
    }


def measure(key, full):
    keys = jax.random.split(key, 3)
    points = np.asarray(jax.random.uniform(keys[0], (20_000 if full else 1000,), minval=-0.5, maxval=0.5))
    x = jnp.linspace(-1, 1, 20)[:, None]
    line = x, jnp.sin(2 * x)
    algorithm, flow = (errors(run, points, curves(keys[1], 1, 1), line) for run in (train, solve))
    images, labels = load_digits(return_X_y=True)
    parts = np.linalg.svd(images - images.mean(0), full_matrices=False)[0][:60, :10] * np.sqrt(len(images)) / 3
    digits = errors(train, points, curves(keys[2], 10, 10), (parts, jax.nn.one_hot(labels[:60], 10)))
    return Findings(
        claims=(
            judge_convergence(
                "k neurons off the wide network", 1 / NODES, algorithm[:, 0], order=4, mutant=algorithm[:, 1]
            ),
            judge_convergence("in gradient flow", 1 / NODES, flow[:, 0], order=4, mutant=flow[:, 1]),
        ),
        data={"points": np.array(len(points)), "errors": algorithm, "digits": digits},
        beyond=(judge_convergence("on digits", 1 / NODES, digits[:, 0], order=4, mutant=digits[:, 1]),),
        note="An exponential fall is steeper than any power of k; the fourth is asked for. The mutant: k neurons of one "
        "weight at quantiles of the starts. The starts lie on a curve, which is one variable whose moments are matched: in "
        "m variables as many moments each take k^m neurons. On digits the inputs are small beside where tanh saturates; "
        "three times as large, five neurons are still off by .05, which more nodes would have to resolve.",
    )


def plot(ax, data):
    ax.semilogy(NODES, data["errors"][:, 0], "o", color="#1b1b1b", ms=5, label="Gauss nodes")
    ax.semilogy(NODES, data["digits"][:, 0], "s", color="#1b1b1b", ms=5, label="Gauss nodes, digits")
    first, last = np.log(data["errors"][[0, -1], 0])
    line = np.exp(first + (last - first) * (NODES - NODES[0]) / (NODES[-1] - NODES[0]))
    ax.semilogy(NODES, line, color="#0072b2", lw=1, label="exponential in k")
    ax.semilogy(NODES, data["errors"][:, 1], "--x", color="#d55e00", lw=1, label="quantiles, one weight")
    ax.set_xlabel(f"neurons k in place of {data['points']}")
    ax.set_ylabel("largest error after training")
    ax.legend(frameon=False)

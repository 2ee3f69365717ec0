"""The second-order modified equation has the mean of SGD to second order, but its variance to first.

Source: Li, Tai and E, "Stochastic Modified Equations and Dynamics of Stochastic Gradient Algorithms I" (arXiv:1811.01558),
theorem on weak order 2; recalled, verified here by exact moments. The correction of the variance is derived here.

dX = -grad(L + (eta/4) |grad L|^2) dt + sqrt(eta S) dW, S the covariance of a gradient, is of weak order 2 where
dX = -grad L dt + sqrt(eta S) dW is of order 1. A variance is O(eta) itself: relative to it the error stays O(eta), until S
is S + (eta/2) (H S + S H + grad L . grad S).
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from equations import SGD, Objective, modified
from validation import judge_convergence, judge_slope, orders

from . import Findings

RATES, SGD4 = [0.05, 0.025, 0.0125], SGD(0.1, batch_size=4)


def measure(key, full):
    keys = jax.random.split(key, 3)
    x, noise = jax.random.normal(keys[0], (40, 2)), jax.random.normal(keys[1], (40,))
    data = x, x @ jnp.array([1.0, -0.5]) + 0.5 * noise
    linear = Objective(lambda w, example: (example[0] @ w - example[1]) ** 2 / 2, data)
    family = SGD4, modified(SGD4, order=2), modified(SGD4, order=2, fluctuations=True)
    observe = {"w": lambda w: w}
    found = [
        orders(one, linear, jnp.zeros(2), time=2.0, learning_rates=RATES, observe=observe).errors["w"] for one in family
    ]
    mean, variance = (np.array([errors[kind].value for errors in found]) for kind in ("mean", "variance/eta"))

    # A tanh neuron that tells even digits from odd by two principal components: moments do not close there.
    images, labels = load_digits(return_X_y=True)
    parts = jnp.asarray(np.linalg.svd(images - images.mean(0), full_matrices=False)[0][::36, :2]) * np.sqrt(len(images))
    tanh = Objective(
        lambda w, example: (w[2] * jnp.tanh(example[0] @ w[:2]) - example[1]) ** 2 / 2,
        (parts, 1.0 - 2 * (labels[::36] % 2)),
    )
    digits = orders(
        family[1], tanh, jnp.array([-0.5, 0.5, 1.0]), time=1.0, learning_rates=RATES, observe=observe, key=keys[2],
        paths=4096 if full else 256,
    )  # fmt: skip
    return Findings(
        claims=(
            judge_convergence("mean of the second-order equation", RATES, mean[1], order=2, mutant=mean[0]),
            judge_slope("its variance/eta, order of the error", RATES, found[1]["variance/eta"], 1.0, mutant=2.0),
            judge_convergence("variance/eta with S corrected", RATES, variance[2], order=2, mutant=variance[1]),
        ),
        data={"rates": np.array(RATES), "mean": mean, "variance": variance},
        beyond=(judge_slope("a neuron on digits, mean", RATES, digits.errors["w"]["mean"], 2.0, mutant=1.0),),
        note="The mutants are the equations without the correction, of drift and of noise. The drift alone makes the "
        f"variance worse: its error is {variance[1][-1] / variance[0][-1]:.1f} times that of the first-order equation.",
    )


def plot(ax, data):
    rates = data["rates"]
    for values, marker, order, label in (
        (data["variance"][1], "^", 1, "variance/η"),
        (data["mean"][1], "o", 2, "mean"),
        (data["variance"][2], "s", 2, "variance/η, S corrected"),
    ):
        ax.loglog(rates, values[-1] * (rates / rates[-1]) ** order, color="#0072b2", lw=1, label=f"order {order}")
        ax.loglog(rates, values, marker, color="#1b1b1b", ms=5, label=label)
    ax.loglog(rates, data["mean"][0], "--x", color="#d55e00", lw=1, label="mean, first-order equation")
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("learning rate η")
    ax.set_ylabel("error of the equation at time 2")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))

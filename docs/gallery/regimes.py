"""Which model holds at which learning rate.

Errors of three equations for full-batch gradient descent on a tanh network with 100 digits, in the mean loss of steps
800 to 1000: below the edge of stability all hold, beyond it the one that models the oscillation.
"""

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

from equations import SGD, Objective
from validation import regimes

RATES = [0.1, 0.2, 0.3, 0.4, 0.5]
MODELS = ["gradient flow", "modified, order 2", "rod flow, order 1"]


def measure():
    images, labels = load_digits(return_X_y=True)
    data = jnp.array(images[:100] / 16), jax.nn.one_hot(jnp.array(labels[:100]), 10)
    keys = jax.random.split(jax.random.key(0))
    net = {"in": jax.random.normal(keys[0], (64, 8)) / 16, "out": jax.random.normal(keys[1], (8, 10)) / 16}
    objective = Objective(lambda w, e: 0.5 * jnp.sum((jnp.tanh(e[0] @ w["in"]) @ w["out"] - e[1]) ** 2), data)
    found = regimes([SGD(0.1)], objective, net, learning_rates=RATES, steps=1000, models=MODELS).maps[0]
    return {"threshold": found.sharpness[:, -1]} | {name: errors[:, -1] for name, errors in found.errors.items()}


def draw(ax, data):
    threshold = data.pop("threshold")
    for (name, errors), marker in zip(data.items(), "osD", strict=True):
        ax.plot(RATES, 100 * errors, marker=marker, ms=4, label=name)
    ax.axhline(5, color="#1b1b1b", ls="--", lw=1, label="5 %, beyond which none holds")
    ax.axvspan(
        min(r for r, edge in zip(RATES, threshold, strict=True) if edge > 1.9), RATES[-1], alpha=0.12, color="0.5"
    )
    ax.set(xscale="log", yscale="log", xlabel="learning rate (shaded: at the edge of stability)")
    ax.set(ylabel="error of the mean loss, %", ylim=(None, 3000))
    ax.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    ax.set_xticks([], minor=True)
    ax.legend(loc="upper left")

"""The weak error of an equation falls with the learning rate as its order says.

The error of the mean loss of SGD's equation, and of its modified equation, against SGD itself on a small regression;
hollow points are hidden by Monte Carlo error, dashed lines have the orders that are claimed, 1 and 2.
"""

import jax
import jax.numpy as jnp

from equations import SGD, Objective, modified
from validation import orders

RATES = [0.2, 0.1, 0.05, 0.025]


def measure():
    X = jax.random.normal(jax.random.key(1), (16, 2))
    objective = Objective(lambda w, e: 0.5 * (jnp.tanh(e[0] @ w) - e[1]) ** 2, (X, X @ jnp.array([1.0, -0.5])))
    data = {"rates": RATES}
    for label, equation in {"equation": SGD(0.2, 2), "modified equation": modified(SGD(0.2, 2))}.items():
        found = orders(equation, objective, jnp.array([0.5, 1.0]), time=2.0, learning_rates=RATES, paths=65_536,
                       key=jax.random.key(0), observe={"loss": objective.value})  # fmt: skip
        sweep = found.sweeps["loss"]["mean"]
        data[label] = [sweep.errors.value, sweep.errors.error, sweep.usable]
    return data


def draw(ax, data):
    rates = data.pop("rates")
    for order, (label, (value, error, usable)) in enumerate(data.items(), 1):
        ax.errorbar(rates, value, error, fmt="o", color=f"C{order - 1}", mfc="none", label=label)
        ax.plot(rates[usable > 0], value[usable > 0], "o", color=f"C{order - 1}")
        ax.plot(rates, value[-1] * (rates / rates[-1]) ** order, ls="--", color=f"C{order - 1}", lw=1)
    ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="error of the mean loss")
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.set_xticks([], minor=True)
    ax.legend()

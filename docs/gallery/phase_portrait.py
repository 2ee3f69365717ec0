"""What a modified equation adds to gradient flow.

Gradient descent with a learning rate of 0.25 in a narrow valley, the flow of the gradient, and the modified equation
of second order, which adds the step's own error to the drift.
"""

import diffrax
import jax.numpy as jnp

from dynamics import solve, train
from equations import SGD, Objective, modified
from validation.plots import plot_phase


def figure(ax):
    valley = Objective(lambda w, e: 0.15 * w[0] ** 2 + 1.2 * (w[1] - 0.2 * w[0] ** 2) ** 2 + 0 * e, jnp.zeros(1))
    start, gd = jnp.array([2.0, 2.4]), SGD(0.25)
    observe = {"w": lambda w: w}
    options = dict(steps=20, observe=observe)
    fine = dict(options, saveat=diffrax.SaveAt(ts=jnp.linspace(0, 5, 201)))
    runs = (
        solve(gd, valley, start, **fine),
        solve(modified(gd), valley, start, **fine),
        train(gd, valley, start, **options),
    )
    labels = "gradient flow", "modified equation", "gradient descent"
    plot_phase(*runs, x=("w", 0), y=("w", 1), labels=labels, ax=ax)
    ax.get_lines()[-2].set(marker="o", ms=4, ls="none")
    ax.set_title("gradient descent at a learning rate of 0.25")
    ax.legend()

"""An equation and its algorithm, side by side.

The distance of 512 runs of SGD from the least-squares solution, and of 512 paths of its stochastic differential
equation: medians, and bands of 10 to 90 % of the paths.
"""

import jax
import jax.numpy as jnp

from dynamics import solve, train
from equations import SGD, Objective
from validation.plots import plot


def figure(ax):
    X = jax.random.normal(jax.random.key(1), (40, 3))
    Y = X @ jnp.array([1.0, -0.5, 0.2]) + 0.5 * jax.random.normal(jax.random.key(2), (40,))
    best = jnp.linalg.lstsq(X, Y)[0]
    objective = Objective(lambda w, e: 0.5 * (e[0] @ w - e[1]) ** 2, (X, Y))
    observe = {"distance": lambda w: jnp.linalg.norm(w - best)}
    sgd, options = SGD(0.1, batch_size=2), dict(steps=60, paths=512, observe=observe)
    flow = solve(sgd, objective, jnp.zeros(3), key=jax.random.key(3), **options)
    runs = train(sgd, objective, jnp.zeros(3), key=jax.random.key(4), **options)
    plot(flow, runs, observable="distance", ax=ax)
    ax.set_title("distance from the least-squares solution")

"""A sweep over learning rates and batch sizes.

The loss above its minimum after 400 steps of SGD on a noisy regression, the mean of eight seeds. The ratio of
learning rate and batch size decides, along diagonals.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import sweep, train
from equations import SGD, Objective

RATES, SIZES = [0.01, 0.02, 0.04, 0.08, 0.16], [1, 2, 4, 8, 16]


def measure():
    X = jax.random.normal(jax.random.key(1), (64, 4))
    Y = X @ jnp.ones(4) + jax.random.normal(jax.random.key(2), (64,))
    objective = Objective(lambda w, e: 0.5 * (e[0] @ w - e[1]) ** 2, (X, Y))
    least = objective.value(jnp.linalg.lstsq(X, Y)[0])

    def experiment(learning_rate, batch_size, seed):
        return dict(equation=SGD(learning_rate, batch_size), objective=objective, params=jnp.zeros(4), steps=400,
                    key=jax.random.key(seed), paths=64, observe={"loss": objective.value}, save_every=400)  # fmt: skip

    runs = sweep(experiment, {"learning_rate": RATES, "batch_size": SIZES, "seed": range(8)}, run=train)
    return {"loss": runs["loss"].isel(step=-1).mean(("seed", "path")).values - least}


def draw(ax, data):
    image = ax.imshow(np.log10(data["loss"]), origin="lower", cmap="cividis", aspect="auto")
    ax.set(xlabel="batch size", ylabel="learning rate")
    ax.set_xticks(range(len(SIZES)), SIZES)
    ax.set_yticks(range(len(RATES)), RATES)
    ax.get_figure().colorbar(image, label="log10 of the loss above its minimum")

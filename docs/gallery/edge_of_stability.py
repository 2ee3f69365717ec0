"""Training at the edge of stability, and an equation that goes there.

Full-batch gradient descent at a learning rate of 0.3 on a tanh network with 200 digits: its sharpness rises to 2 over
the learning rate and stays. Rod flow, an equation of a center and of what alternates about it, follows; gradient flow
does not.
"""

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective, RodFlow, sharpness

RATE = 0.3


def measure():
    images, labels = load_digits(return_X_y=True)
    data = jnp.array(images[:200] / 16), jax.nn.one_hot(jnp.array(labels[:200]), 10)
    keys = jax.random.split(jax.random.key(0))
    net = {"in": jax.random.normal(keys[0], (64, 16)) / 16, "out": jax.random.normal(keys[1], (16, 10)) / 16}
    objective = Objective(lambda w, e: 0.5 * jnp.sum((jnp.tanh(e[0] @ w["in"]) @ w["out"] - e[1]) ** 2), data)
    options = dict(steps=800, save_every=10, observe={"sharpness": sharpness(objective)}, key=jax.random.key(1))
    runs = {"gradient descent": train(RodFlow(SGD(RATE)), objective, net, **options),
            "rod flow": solve(RodFlow(SGD(RATE)), objective, net, **options),
            "gradient flow": solve(SGD(RATE), objective, net, **options, substeps=8)}  # fmt: skip
    return {"steps": runs["rod flow"].steps} | {name: run.observables["sharpness"][0] for name, run in runs.items()}


def draw(ax, data):
    steps = data.pop("steps")
    for (name, values), style in zip(data.items(), ("o", "-", "-"), strict=True):
        ax.plot(steps, values, style, ms=3, label=name)
    ax.axhline(2 / RATE, color="#1b1b1b", ls="--", lw=1, label="2 over the learning rate")
    ax.set(xlabel="training step", ylabel="sharpness", ylim=(0, None))
    ax.legend(loc="lower right")

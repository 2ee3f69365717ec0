"""SGD comes to rest in a density with a power-law tail.

One weight learns x times w from pairs whose inputs are normal, by single examples at a learning rate of 1: Hill's
estimate of the exponent of its tail over how many of the largest samples it takes, and the exponent by Kesten's
theorem.
"""

import jax
import jax.numpy as jnp

from dynamics import train
from equations import SGD, Objective, Population
from validation import tail_scan
from validation.atlas.strength_of_minibatch_noise import kesten


def example(key):
    x, noise = jax.random.normal(key, (2,))
    return x, noise


def measure():
    objective = Objective(lambda w, e: 0.5 * (e[0] * w - e[1]) ** 2, Population(example))
    run = train(SGD(1.0, 1), objective, jnp.zeros(()), steps=40, key=jax.random.key(0), paths=500_000, save_every=40)
    scan = tail_scan(run.final)
    return {"counts": scan.counts, "estimates": scan.estimates, "kesten": kesten(1.0)}


def draw(ax, data):
    ax.errorbar(data["counts"], *data["estimates"], fmt="o", ms=3, label="Hill's estimate, SGD")
    ax.axhline(data["kesten"], color="#1b1b1b", ls="--", lw=1, label=f"Kesten's exponent, {data['kesten']:.3f}")
    ax.set(xscale="log", xlabel="number of largest |w| taken", ylabel="exponent of the tail", ylim=(0.7, 1.6))
    ax.legend()

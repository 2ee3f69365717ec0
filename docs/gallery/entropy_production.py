"""Entropy production along training, and a bound from paths alone.

What each step of a regression's SGD with Gaussian noise produces while it comes to rest and after, with three
standard errors; what theory says of the state at rest; and the short-time uncertainty bound there, which sees
recorded paths and no equation.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import entropy_production, stationary, train
from equations import SGD, Objective
from validation import short_time_bound

RATE = 0.0125


def measure():
    pulls = jax.random.normal(jax.random.key(1), (40, 2)) @ jnp.array([[1.0, 0.9], [0.0, 0.4]])
    objective = Objective(lambda w, e: 0.5 * w @ jnp.diag(jnp.array([2.0, 0.5])) @ w - e @ w, pulls)
    sgd, options = SGD(RATE, batch_size=4), dict(key=jax.random.key(0), paths=2048, noise="gaussian", keep_states=True)
    run = train(sgd, objective, jnp.ones(2), steps=800, observe={"w": lambda w: w}, **options)
    rest = stationary(sgd, objective, jnp.ones(2), discrete=True)
    medium = np.asarray(entropy_production(sgd, objective, run, reference=rest, burn_in=0).medium) / RATE
    bound = short_time_bound(run.observables["w"][:, 640:], RATE)
    return {"steps": run.steps[1:], "mean": medium.mean(axis=0), "error": medium.std(axis=0) / len(medium) ** 0.5,
            "rest": rest.entropy_production_rate, "bound": bound}  # fmt: skip


def draw(ax, data):
    steps, mean, error = data["steps"], data["mean"], 3 * data["error"]
    ax.plot(steps, mean, label="entropy of the steps")
    ax.fill_between(steps, mean - error, mean + error, alpha=0.25, lw=0)
    ax.axhline(data["rest"], color="#1b1b1b", ls="--", lw=1, label="at rest, by theory")
    ax.errorbar([720], data["bound"][:1], 3 * data["bound"][1], fmt="o", color="C1", label="bound from paths")
    ax.set(xlabel="training step", ylabel="entropy per unit of time", yscale="log")
    ax.legend()

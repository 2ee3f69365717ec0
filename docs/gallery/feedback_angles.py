"""Feedback alignment turns the network towards its feedback.

The angle between the signal of fixed random feedback and the gradient, by layer, in a linear network that starts
small: the first layers' signals, at first as good as random, come to point downhill.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from dynamics import solve
from equations import SGD, FeedbackAlignment, random_feedback


def measure():
    keys = jax.random.split(jax.random.key(0), 4)
    net = eqx.nn.MLP(30, 10, 20, 2, lambda x: x, use_bias=False, use_final_bias=False, key=keys[0])
    net = jax.tree.map(lambda leaf: 0.1 * leaf if eqx.is_inexact_array(leaf) else leaf, net)
    X = jax.random.normal(keys[1], (200, 30))
    data = X, X @ jax.random.normal(keys[2], (30, 10)) / 5
    rule = FeedbackAlignment(lambda net, e: 0.5 * jnp.sum((net(e[0]) - e[1]) ** 2), data, random_feedback(net, keys[3]))
    run = solve(SGD(0.02), rule, net, steps=1500, save_every=15, observe={"angles": rule.angles})
    return {"steps": run.steps, "angles": run.observables["angles"][0]}


def draw(ax, data):
    for layer, angles in enumerate(data["angles"].T, 1):
        ax.plot(data["steps"], angles, label=f"layer {layer}")
    ax.axhline(90, color="#1b1b1b", ls="--", lw=1, label="at right angles")
    ax.set(xlabel="training step", ylabel="angle to the gradient, degrees", ylim=(-3, 140))
    ax.legend(ncols=2)

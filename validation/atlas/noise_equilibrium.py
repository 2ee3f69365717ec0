"""Noise and weight decay bring what a symmetry leaves free, as the length of a normalized weight, to one equilibrium.

Source: Ziyin, Wang, Li and Wu, "Parameter Symmetry and Noise Equilibrium of Stochastic Gradient Descent"
(arXiv:2402.07193), the Noether flow; recalled from its abstract, the equations derived here.

Loss invariant under exp(lambda A), with gamma |theta|^2: the charge C = theta . A theta obeys dC/dt = -4 gamma C +
eta E[g . A g]. Scale invariance has C = r^2 and g perpendicular to theta: at rest E r^4 = eta E[|g|^2 r^2]/(4 gamma), and
exactly, at any learning rate, with k = 1 - 2 eta gamma,

    (1 - k^4) E r^4 = 2 k^2 eta^2 E[|g|^2 r^2] + eta^4 E|g|^4.

The differential equation has Tr Sigma for |g|^2, without the mean gradient's share: E r^4 = eta E[Tr Sigma r^2]/(4 gamma).
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective, regularized
from validation import Symmetry, judge_equality, judge_number

from . import Findings

RATE, SLOW, GAMMA = 0.5, 0.1, 0.05  # of the algorithm, of the equation, whose solver is not exact; the decay


def loss(theta, x):
    return -x @ theta / jnp.linalg.norm(theta)


def network(params, example):
    """A tanh network whose first layer is normalized, row by row."""
    rows = params["in"] / jnp.linalg.norm(params["in"], axis=1, keepdims=True)
    logits = jnp.tanh(rows @ example[0]).T @ params["out"]
    return jax.nn.logsumexp(logits) - logits[example[1]]


def moments(loss, data, where, gamma, rate=RATE):
    """r^4 and what it should be at rest, exactly and by Tr Sigma, as functions of the parameters, for single examples."""
    k = 1 - 2 * rate * gamma

    def observed(params):
        g = jax.vmap(lambda example: where(jax.grad(loss)(params, example)).ravel())(data)
        square, r2 = jnp.sum(g**2, axis=1), jnp.sum(where(params) ** 2)
        exact = (2 * k**2 * rate**2 * r2 * jnp.mean(square) + rate**4 * jnp.mean(square**2)) / (1 - k**4)
        return jnp.stack([r2**2, exact, rate * r2 * jnp.sum(jnp.var(g, axis=0)) / (4 * gamma)])

    return {"moments": observed}


def balance(run, skip):
    """Per path, over its time at rest: r^4 in units of the mean of what it should be exactly, and by Tr Sigma; and the
    second in units of the first."""
    r4, exact, noise = np.asarray(run.observables["moments"])[:, skip:].mean(axis=1).T
    return 1 + (r4 - exact) / exact.mean(), 1 + (r4 - noise) / noise.mean(), noise.mean() / exact.mean()


def measure(key, full):
    keys, paths = jax.random.split(key, 6), 512 if full else 64
    data = jnp.array([1.0, 0, 0, 0, 0]) + jax.random.normal(keys[0], (40, 5))
    objective = regularized(Objective(loss, data), lambda theta: GAMMA * jnp.sum(theta**2))
    start, options = 0.5 * jnp.ones(5), dict(steps=2000, save_every=10, paths=paths)
    watch = [moments(loss, data, lambda w: w, GAMMA, rate) for rate in (RATE, SLOW)]
    run = train(SGD(RATE, 1), objective, start, key=keys[1], observe=watch[0], **options)
    flow = solve(SGD(SLOW, 1), objective, start, key=keys[2], observe=watch[1], substeps=4, **options)
    (discrete, _, share), (_, continuous, other) = balance(run, 50), balance(flow, 50)

    images, labels = load_digits(return_X_y=True)
    digits = images[:48] / 16, jnp.array(labels[:48])
    layers = {name: jax.random.normal(k, shape)
              for name, k, shape in (("in", keys[3], (4, 64)), ("out", keys[4], (4, 10)))}  # fmt: skip
    real = regularized(Objective(network, digits), lambda w: 0.01 * jnp.sum(w["in"] ** 2))
    watch = moments(network, digits, lambda w: w["in"], 0.01)
    real_run = train(SGD(RATE, 1), real, layers, steps=3000, save_every=15, paths=24, observe=watch, key=keys[5])
    trained, _, _ = balance(real_run, 50)
    steps = Symmetry.scaling(lambda w: [w]).steps(
        SGD(RATE), Objective(loss, data), start, [jnp.array([3])], decay=GAMMA
    )
    k = 1 - 2 * RATE * GAMMA
    return Findings(
        claims=(
            judge_number("E r^4 of SGD over eta G/(4 gamma), exact in eta", discrete, 1.0, mutant=share),
            judge_number("E r^4 of the equation over eta E[Tr Sigma r^2]/(4 gamma)", continuous, 1.0, mutant=1 / other),
            judge_equality(
                "the charge after a step", steps.after, steps.predicted, mutant=k * steps.before, operations=50,
            ),
        ),
        beyond=(judge_number("E r^4 of a normalized layer on digits over predicted", trained, 1.0, mutant=0.5),),
        data={"steps": np.asarray(run.steps), "r4": np.asarray(run.observables["moments"])[:, :, :2]},
        note="Mutants: the mean gradient left out, and left in; k for k^2; 2 gamma for gamma.",
    )  # fmt: skip


def plot(ax, data):
    r4 = data["r4"][:, :61, 0]
    steps, error = data["steps"][:61], 3 * r4.std(axis=0) / len(r4) ** 0.5
    ax.errorbar(steps, r4.mean(axis=0), error, fmt="o", color="#1b1b1b", ms=3, label="SGD ± 3 standard errors")
    ax.axhline(data["r4"][:, 50:, 1].mean(), color="#0072b2", label="noise and decay in balance")
    ax.axhline(data["r4"][:, 50:, 1].mean() / 2, color="#d55e00", ls="--", label="at twice the decay")
    ax.set_ylim(0, None)
    ax.set_xlabel("training step")
    ax.set_ylabel("mean fourth power of the length")
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.1))

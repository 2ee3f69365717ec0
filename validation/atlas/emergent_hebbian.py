"""Any learning rule looks Hebbian at rest under weight decay, and anti-Hebbian under strong noise.

Source: "Emergence of Hebbian Dynamics in Regularized Non-Local Learners" (arXiv:2505.18069), weak alignment; read in a
secondary source, re-derived here, as is the boundary.

Where a layer h_b = W h_a whose learning signal is -g is at rest under decay gamma, E g = -gamma W, whatever the rule, so

    <-E g, E h_b h_a^T> = gamma E|h_b|^2 > 0.

A linear neuron with white inputs, y = u.x and w = u/(1 + gamma) + N(0, s^2 I), has for an example on average

    <-g, h_b x> = |x|^2 (gamma (u.x)^2/(1 + gamma)^2 - s^2 |x|^2),

for x ~ N(0, I_d) negative from s^2 = gamma |u|^2/(d (1 + gamma)^2) on.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, train
from equations import SGD, FeedbackAlignment, Isotropic, Objective, decayed, random_feedback
from validation import HebbianAlignment, anti_hebbian_noise, judge_curve, judge_equality

from . import Findings

DECAY, SIZE = 0.1, 8


def loss(net, e):
    return jnp.sum((net(e[0]) - e[1]) ** 2) / 2


def random_error(net, e):
    """An error that knows nothing of the output."""
    return jnp.dot(net(e[0]), e[1])


def at_rest(run, signal, net, inputs, rate, steps, decay=DECAY):
    """<-E g, E h_b h_a^T> and E|h_b|^2 of each layer."""
    hebbian = HebbianAlignment(signal, inputs)
    found = run(
        decayed(SGD(rate), decay), signal, net, steps=steps, save_every=steps,
        observe={"product": hebbian.product, "power": hebbian.power},
    ).observables  # fmt: skip
    return [np.asarray(found[name][0, -1]) for name in ("product", "power")]


def noisy(run, key, teacher, X, spreads, rate, steps, paths):
    """The mean over examples of <-g, h_b x> of linear neurons under noise of their gradients, `(paths, spreads)`.

    In p = w/spread all have the same noise, and learn at the same rate.
    """

    def loss(p, e):
        return jnp.sum(((spreads[:, None] * p) @ e[0] - e[1]) ** 2 / spreads**2) / 2

    def product(p):
        h = X @ (spreads[:, None] * p).T
        return -jnp.mean((h - (X @ teacher)[:, None]) * h * jnp.sum(X**2, 1)[:, None], 0)

    found = run(
        decayed(SGD(rate, noise_model=Isotropic(1.0)), DECAY), Objective(loss, (X, X @ teacher)),
        teacher / (1 + DECAY) / spreads[:, None], steps=steps, save_every=steps, paths=paths, key=key,
        observe={"product": product},
    )  # fmt: skip
    return np.asarray(found.observables["product"][:, -1])


def measure(key, full):
    keys = jax.random.split(key, 8)
    X, Y, errors = (jax.random.normal(k, (64, n)) for k, n in zip(keys, (4, 3, 3), strict=False))
    net = eqx.nn.MLP(4, 3, 6, 1, activation=jnp.tanh, key=keys[3], dtype=jnp.float64)
    feedback = FeedbackAlignment(loss, (X, Y), random_feedback(net, keys[4]))
    claims, data = [], {}
    for name, signal, run in (
        ("gradient descent", Objective(loss, (X, Y)), train), ("random feedback", feedback, train),
        ("random feedback, flow", feedback, solve), ("an error of chance", Objective(random_error, (X, errors)), train),
    ):  # fmt: skip
        product, power = at_rest(run, signal, net, X, 0.8, 16_000)
        claims.append(
            judge_equality(f"product, {name}", product, DECAY * power, mutant=DECAY * power * 0, operations=16_000)
        )

    # A linear neuron, whose noise comes from its training: white inputs, so that every weight has the same.
    teacher = jax.random.normal(keys[5], (SIZE,))
    white = jnp.linalg.qr(jax.random.normal(keys[6], (64, SIZE)))[0] * 8.0
    critical, rate, paths = anti_hebbian_noise(np.asarray(teacher), DECAY), 0.2, 20_000 if full else 1000
    shares, square = np.array([0.3, 0.7, 1.0, 1.5, 2.0]), jnp.sum(white**2, 1)
    seen = (white @ teacher) ** 2
    slow = rate * (1 + DECAY)
    for side, run, variance in (
        ("SGD", train, rate**2 / (1 - (1 - slow) ** 2)),
        ("equation", solve, rate**2 / (2 * slow)),
    ):
        spread = shares * critical / np.sqrt(variance)  # of the gradient
        found = noisy(run, keys[7], teacher, white, spread, rate, 60, paths)
        noise = (shares * critical) ** 2
        right = jnp.mean(square * (DECAY * seen / (1 + DECAY) ** 2 - noise[:, None] * square), 1)
        no_size = jnp.mean(square * (DECAY * seen / (1 + DECAY) ** 2 - noise[:, None]), 1)
        claims.append(judge_curve(f"alignment under noise, {side}", found, right, mutant=no_size))
        data |= {side: found, "right": np.asarray(right), "shares": shares, "no_size": np.asarray(no_size)}
    return Findings(
        claims=tuple(claims),
        data=data,
        note="Mutants: a signal that has nothing to do with the Hebbian one; noise without its factor of the input's size.",
    )


def plot(ax, data):
    shares, found = data["shares"], data["SGD"]
    ax.plot(shares, data["right"], color="#0072b2", label="predicted")
    ax.plot(shares, data["no_size"], "--", color="#d55e00", label="without the size of the input")
    ax.errorbar(
        shares, found.mean(0), found.std(0) / np.sqrt(len(found)), fmt="o", color="#1b1b1b", ms=4, label="noisy descent"
    )
    ax.axhline(0, color="#999999", lw=0.6)
    ax.set_xlabel("noise of the weights / its critical value")
    ax.set_ylabel("signal along Hebbian update")
    ax.legend(frameon=False)

"""Deep linear networks learn each mode of the data along a sigmoid of its own.

Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
networks" (arXiv:1312.6120), equations for aligned and balanced weights; recalled, derived again and verified here.

With white inputs, E[y x^T] = sum_i s_i a_i b_i^T and N layers of equal strength along these modes, each singular value of
the product obeys du/dt = N u^(2 - 2/N) (s - u). Two layers: u(t) = s e^(2st)/(e^(2st) - 1 + s/u(0)). Three, by quadrature:
t(u) = int du/(3 u^(4/3) (s - u)).
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective
from validation import judge_bound, judge_convergence

from . import Findings

STRENGTHS, START = jnp.array([3.0, 2.0, 1.0]), 0.02


def sigmoid(t, s, factor=2.0):
    return s / (1 + (s / START - 1) * jnp.exp(-factor * s * t))


def three_layers(t, s):
    u = s - (s - START) * jnp.geomspace(1, 1e-9, 200_001)
    rate = 3 * u ** (4 / 3) * (s - u)
    passed = jnp.cumsum(jnp.diff(u) * (1 / rate[1:] + 1 / rate[:-1]) / 2)
    return jnp.interp(t, jnp.concatenate([jnp.zeros(1), passed]), u)


def setup(activation, X, Y, left, right):
    """The objective of a network, and what is observed: how far the answers to the inputs go along each mode."""

    def forward(layers, x):
        for weight in layers[:-1]:
            x = activation(weight @ x)
        return layers[-1] @ x

    def strengths(layers):
        return jnp.einsum("no,nd,oi,di->i", jax.vmap(forward, (None, 0))(layers, X), X, left, right) / len(X)

    loss = lambda layers, example: jnp.sum((forward(layers, example[0]) - example[1]) ** 2) / 2  # noqa: E731
    return Objective(loss, (X, Y)), {"u": strengths}


def aligned(left, right, turns):
    """Layers of equal strength, whose product is START left right^T, hidden layers turned at random."""
    sides = [right, *turns, left]
    return [START ** (1 / (len(turns) + 1)) * after @ before.T for before, after in zip(sides, sides[1:], strict=False)]


def orthogonal(key, *shape):
    return jnp.linalg.qr(jax.random.normal(key, shape))[0]


def measure(key, full):
    keys = jax.random.split(key, 6)
    left, right, one, two = (orthogonal(k, 3, 3) for k in keys[:4])
    X = jnp.sqrt(8) * orthogonal(keys[4], 8, 3)
    objective, observe = setup(lambda h: h, X, X @ right * STRENGTHS @ left.T, left, right)
    rates, curves, errors = (0.02, 0.01, 0.005), {}, {}
    for name, run, turns in (("equation", solve, [one]), ("two", train, [one]), ("three", train, [one, two])):
        for rate in rates:
            found = run(SGD(rate), objective, aligned(left, right, turns), steps=1400, observe=observe, save_every=2)
            t, u = found.times[:, None], found.observables["u"][0]
            expected, rival = sigmoid(t, STRENGTHS), sigmoid(t, STRENGTHS, 1.0)
            if name == "three":
                expected, rival = jnp.stack([three_layers(t[:, 0], s) for s in STRENGTHS], 1), expected
            errors.setdefault(name, []).append([float(jnp.max(jnp.abs(u - curve))) for curve in (expected, rival)])
            curves[name] = np.asarray(jnp.concatenate([t, u, expected, rival], 1))
    two, three, equation = (np.array(errors[name]) for name in ("two", "three", "equation"))

    # Digits with white inputs, whose principal components a tanh network learns to give back.
    x = load_digits().data[:: 1 if full else 6] / 40
    left, s, right = np.linalg.svd((x - x.mean(0)) / np.sqrt(len(x)), full_matrices=False)
    white, (s, right) = np.sqrt(len(x)) * left[:, :16], (s[:12:3], right[:12:3].T)
    starts = [aligned(right, np.eye(16)[:, :12:3], [orthogonal(k, 8, 4)]) for k in jax.random.split(keys[5], 8)]
    starts, late = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts), []
    for activation in (jnp.tanh, lambda h: h):
        objective, observe = setup(activation, white, x - x.mean(0), right, np.eye(16)[:, :12:3])
        found = train(SGD(0.1), objective, starts, steps=400, observe=observe, per_path=True)
        half = found.times[np.argmax(np.asarray(found.observables["u"]) > s / 2, axis=1)]
        late.append(np.asarray(half * 2 * s / jnp.log(s / START - 1)).mean(1))
    return Findings(
        claims=(
            judge_convergence("gradient descent, two layers, off the sigmoid", rates, two[:, 0], order=1, mutant=two[:, 1]),
            judge_convergence("its equation", rates, equation[:, 0], order=5, mutant=equation[:, 1]),
            judge_convergence("three layers", rates, three[:, 0], order=1, mutant=three[:, 1]),
        ),
        data=curves,
        beyond=(
            judge_bound("time to half of tanh on digits, in that of the sigmoid", late[0], at_least=1.0, mutant=2.0),
        ),
        note="The mutants learn at the rate of one layer less. On digits the modes of the tanh network rise in the same "
        f"order, {late[0].mean():.2f} times as late, since tanh saturates: a linear network there, {late[1].mean():.2f}.",
    )  # fmt: skip


def plot(ax, data):
    t, u, expected, rival = np.split(data["two"], [1, 4, 7], axis=1)
    ax.plot(t, expected, color="#0072b2", lw=1, label=["u(t), two layers", None, None])
    ax.plot(t, rival, "--", color="#d55e00", lw=1, label=["one layer's rate", None, None])
    ax.plot(t[::10], u[::10], ".", color="#1b1b1b", ms=4, label=["gradient descent", None, None])
    ax.set_xlim(0, 6)
    ax.set_xlabel("time, learning rate x step")
    ax.set_ylabel("strength of the mode")
    ax.legend(frameon=False)

"""Circuits that learn without phases: a late error, depth and fast plasticity cost what overlaps of stimuli say.

Source: "Does Feedback Alignment Work at Biological Timescales?" (arXiv:2510.18808); its abstract and reviews are read, the
equations are a reconstruction and the laws are derived here.

Stimuli of duration T, propagation tau_p << T << tau_w of plasticity. Of what a stimulus could teach there remains

    (1 - D/T)_+    with an error that is late by D,    1 - E|G_n - G_m| tau_p/T    in a deep net,

n stages of lag tau_p before the error at a synapse and m before its input (G_k has the Gamma distribution of k stages).
Noisy labels of variance s^2 leave a neuron with inputs of length one an error s^2 mu/(2 - mu) in the square of each weight,
mu = 1 - e^{-T/tau_w}: plasticity must be slow beside the stimuli.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, stimuli
from equations import Circuit, Weights
from validation import judge_convergence, judge_curve

from . import Findings

SIZE = 4  # neurons of a layer, and stimuli


def identity(a):
    return a


def orthogonal(key):
    return jnp.linalg.qr(jax.random.normal(key, (SIZE, SIZE)))[0]


def forward(weights):
    return jnp.stack(weights.forward)


def squared(weights):
    return jnp.mean(weights.forward[0] ** 2)


def taught(weights, targets, dt, **times):
    """For each layer the share of the learning of e z^T that takes place in a cycle of orthogonal stimuli."""
    depth = len(weights)
    circuit = Circuit((SIZE,) * (depth + 1), "SGD", activation=identity, **times)
    x = jnp.eye(SIZE)
    run = solve(
        circuit, stimuli(x, x @ targets.T, duration=1.0, order=np.arange(SIZE)), Weights(weights, None), time=2.0 * SIZE,
        dt=dt, save_every=SIZE, observe={"weights": forward},
    )  # fmt: skip
    z = [x]
    for w in weights:
        z.append(w @ z[-1])
    error, shares = targets - z[-1], []
    for place in reversed(range(depth)):
        whole = error @ z[place].T / circuit.tau_plasticity
        change = run.observables["weights"][0, 2, place] - run.observables["weights"][0, 1, place]
        shares.insert(0, float(jnp.sum(change * whole) / jnp.sum(whole**2)))
        error = weights[place].T @ error
    return np.array(shares)


def mean_distance(n, m):
    """E|G_n - G_m| of sums of n and m exponential lags, by summing over which of the sums ends first."""
    if n == 0 or m == 0:
        return float(n + m)
    return (mean_distance(n - 1, m) + mean_distance(n, m - 1)) / 2


def excess(key, slowness, full):
    """The squared error of each weight over the variance of the labels, one for each path."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (20_000, 2))
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    paths, count = (4000, 400) if full else (300, 100)
    run = solve(
        Circuit((2, 1), "SGD", 0.02, slowness), stimuli(x, jax.random.normal(keys[1], (20_000, 1)), duration=1.0),
        Weights((jnp.zeros((1, 2)),), None), time=float(count), dt=0.01, save_every=5, paths=paths, key=keys[2],
        observe={"error": squared},
    )  # fmt: skip
    return np.asarray(run.observables["error"][:, run.steps > count // 2]).mean(1)


def measure(key, full):
    keys = jax.random.split(key, 5)
    target, weights = orthogonal(keys[0]), tuple(orthogonal(k) for k in keys[1:4])
    delays, slow = np.array([0.2, 0.5, 0.8]), np.array([100.0, 200.0, 400.0])
    shares = np.array([
        [taught((0 * target,), target, 0.02, delay=delay, tau_propagation=0.04, tau_plasticity=tau)[0] for delay in delays]
        for tau in slow
    ])  # fmt: skip
    right = np.maximum(1 - delays, 0)
    off = np.max(np.abs(shares - right), 1), np.max(np.abs(shares - 1), 1)
    tau, steps = 0.04, np.array([0.01, 0.005, 0.0025])
    stages = [(5, 0), (4, 1), (3, 2)]  # of the output's error and of the input of the three layers
    lags = np.array([taught(weights, 0 * target, dt, tau_propagation=tau, tau_plasticity=1e8) for dt in steps])
    distance, mean = (1 - tau * np.array([f(n, m) for n, m in stages]) for f in (mean_distance, lambda n, m: n - m))
    slowness = (1.0, 3.0, 10.0)
    errors = np.stack([excess(k, tau, full) for k, tau in zip(jax.random.split(keys[4], 3), slowness, strict=True)], 1)
    mu = 1 - np.exp(-1 / np.array(slowness))
    return Findings(
        claims=(
            judge_convergence("what a late error teaches, error in T/tau_w", 1 / slow, off[0], order=1, mutant=off[1]),
            judge_convergence(
                "what three layers are taught, error in the time step", steps, np.max(np.abs(lags - distance), 1), order=1,
                mutant=np.max(np.abs(lags - mean), 1),
            ),
            judge_curve("error from noisy labels, fast and slow plasticity", errors, mu / (2 - mu), mutant=mu),
        ),
        data={"delays": delays, "shares": shares[-1]},
        note="Mutants: no delay; the mean lag n - m in place of E|G_n - G_m|; the error of independent steps without the "
        "factor 1/(2 - mu).",
    )  # fmt: skip


def plot(ax, data):
    x = np.linspace(0, 1.3, 100)
    ax.plot(x, np.maximum(1 - x, 0), color="#0072b2", label="overlap of the stimulus with itself")
    ax.plot(x, 0 * x + 1, "--", color="#d55e00", label="without a delay")
    ax.plot(data["delays"], data["shares"], "o", color="#1b1b1b", ms=5, label="circuit")
    ax.set_xlabel("delay of the error / duration of a stimulus")
    ax.set_ylabel("share of the stimulus that is learned")
    ax.legend(frameon=False, loc="lower left")

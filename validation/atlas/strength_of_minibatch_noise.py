"""Noise of minibatches at a finite learning rate: covariance with momentum, and the exponent of a power-law tail.

Source: Ziyin, Liu, Mori and Ueda, "Strength of Minibatch Noise in SGD" (arXiv:2102.05375), the theorem on linear
regression with label noise and the estimate of the tail index; read. Kesten, "Random difference equations and renewal
theory for products of random matrices" (Acta Mathematica 131, 1973); recalled.

Heavy ball, m' = mu m + g, w' = w - rate m', on (w.x - y)^2/2 with y = w*.x + sigma N(0, 1), x ~ N(0, A), batches of S:
    Sigma = (sigma^2/S)(1 + kappa/S) rate G^-1,    G = 2 (1-mu) - ((1-mu)/(1+mu) + 1/S) rate A,
    kappa = Tr[rate A G^-1]/(1 - Tr[rate A G^-1]/S).
With one weight and mu = 0, w' = (1 - rate <x^2>_S) w + ...: a stationary tail P(|w| > t) ~ t^-beta has Kesten's
E|1 - rate <x^2>_S|^beta = 1. The paper's estimate is beta = 2 S/(a rate) - S, 1 at a rate = S = 1, where the root is 1.091.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import time_average, train
from equations import SGD, Momentum, Objective, Population
from validation import judge_curve, judge_number, tail_index, tail_scan

from . import Findings

A, SIGMA, RATE, S, MU = np.array([0.5, 1.0, 1.5, 2.0]), 1.0, 0.1, 4, 0.8


def covariance(of_batch=1.0):
    """The variances of the weights; the mutant lets the batch act on the noise of the labels alone."""
    G = 2 * (1 - MU) - ((1 - MU) / (1 + MU) + of_batch / S) * RATE * A
    trace = np.sum(RATE * A / G)
    return SIGMA**2 / S * (1 + of_batch * trace / (1 - trace / S) / S) * RATE / G


def loss(w, example):
    return (jnp.dot(example[0], w) - example[1]) ** 2 / 2


def regression(key):
    first, second = jax.random.split(key)
    return jnp.sqrt(jnp.asarray(A)) * jax.random.normal(first, (len(A),)), SIGMA * jax.random.normal(second)


def one_weight(key):
    x, noise = jax.random.normal(key, (2,), jnp.float32).astype(float)  # of which drawing many takes half the time
    return x[None], noise


def kesten(rate):
    x = np.linspace(-9, 9, 200_001)
    return tail_index(1 - rate * x**2, np.exp(-(x**2) / 2))


def measure(key, full):
    known = time_average(
        Momentum(RATE, batch_size=S, momentum=MU), Objective(loss, Population(regression)), jnp.zeros(len(A)),
        steps=32 * (2000 if full else 120), key=key, paths=64, observe={"squares": jnp.square}, save_every=4,
    )  # fmt: skip
    paths = 8_000_000 if full else 800_000
    heavy = train(SGD(1.0, 1), Objective(loss, Population(one_weight)), jnp.zeros(1), steps=40, key=key, paths=paths,
                  save_every=40)  # fmt: skip
    scan = tail_scan(heavy.final)
    return Findings(
        claims=(
            judge_number("tail exponent of SGD at a rate = S = 1", scan.exponent, kesten(1.0), mutant=1.0),
            judge_curve("variances under momentum", known.samples["squares"], covariance(), mutant=covariance(0.0)),
        ),
        data={"scan": scan},
        note=f"The variances were averaged over a run that has {known.arrived}. The mutants: the paper's estimate of the "
        "exponent, 2S/(a rate) - S; the noise of the labels alone, without that of the inputs.",
    )  # fmt: skip


def plot(ax, data):
    scan = data["scan"]
    ax.errorbar(scan.counts, *scan.estimates, fmt="o", color="#1b1b1b", ms=3, label="Hill's estimate, SGD")
    ax.axhline(kesten(1.0), color="#0072b2", label="Kesten's root, 1.091")
    ax.axhline(1.0, color="#d55e00", ls="--", label="estimate 2S/(aη) − S")
    ax.axvspan(scan.counts[0], 8 * scan.largest, color="0.93", zorder=0)
    ax.set(
        xscale="log",
        xlabel="number of largest |w| taken (shaded: plateau)",
        ylabel="exponent of the tail",
        ylim=(0.8, 1.6),
    )
    ax.legend(frameon=False)

"""Where the noise of SGD goes with the loss, it leaves a minimum at a rate that is a power of the height of the barrier.

Source: Mori, Ziyin, Liu and Ueda, "Power-law escape rate of SGD" (arXiv:2105.09557), stationary density and escape rate in
one dimension; read, and verified here against the exact mean first-passage time.

Noise of the covariance (2 L(x)/B) h*, h* the curvature at the minimum, is additive for the potential ln L in the clock
tau = int L dt. With T = rate/B, at a minimum L* and a saddle L_s, h_s, in the clock t:
    p(x) ~ L(x)^-phi,  phi = 1 + 1/(T h*),
    kappa = (sqrt(h* |h_s|)/2 pi) (L_s/L*)^-(1/2 + 1/(T h*)),
and in the clock tau kappa/L*, without the 1/2 and with the curvatures of ln L. Exact, from 0 to |x| = a, with
c = 1/(T h*):    E t = int_0^a L(y)^c int_0^y L(z)^-c/(T h* L(z)) dz dy,    which tends to 1/(2 kappa) as T -> 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import first_passage, solve
from equations import SGD, Objective
from validation import Estimate, extrapolated, judge_convergence, judge_density, judge_number

from . import Findings

# L = s^2/2 with s = LOW + HIGH (1 - cos x): minima at 0 and 2 pi, saddles between them, bounded curvature everywhere.
LOW, HIGH, EXIT = 0.6, 0.3, 6.0
CURVED, SADDLE = LOW * HIGH, (LOW + 2 * HIGH) * HIGH
RATIO = (1 + 2 * HIGH / LOW) ** 2  # L_s/L*


def height(x, xp=np):
    return LOW + HIGH * (1 - xp.cos(x))


def loss(x, example):
    """s^2/2, and the integral of s times the noise of the example."""
    return height(x, jnp) ** 2 / 2 + example * ((LOW + HIGH) * x - HIGH * jnp.sin(x))


def kappa(T, half=0.5):
    return np.sqrt(CURVED * SADDLE) / (2 * np.pi) * RATIO ** -(half + 1 / (T * CURVED))


def exact(T, clock=0, seen_every=0.0):
    """The mean time in t, or that in tau (clock 1), which goes by L of it.

    Seen at intervals the level is passed .583 standard deviations of one too late in space (Broadie, Glasserman, Kou 1997).
    """
    late = 0.5826 * height(EXIT) * (T * CURVED * seen_every) ** 0.5
    x = np.linspace(0, EXIT + late, 200_001)
    logs = np.log(height(x) ** 2 / 2)
    inner = np.exp(-logs / (T * CURVED) - logs * (1 - clock)) / (T * CURVED)
    sums = np.concatenate([[0], np.cumsum((inner[1:] + inner[:-1]) / 2)]) * x[1]
    return np.trapezoid(np.exp(logs / (T * CURVED)) * sums, x)


def noisy(T, rate):
    return Objective(loss, jnp.array([1.0, -1.0]) * (T * CURVED / rate) ** 0.5)


def measure(key, full):
    T, temperatures = 4.0, np.array([0.8, 0.4, 0.2, 0.1])
    off = [[abs(2 * kappa(t, half) * exact(t) - 1) for t in temperatures] for half in (0.5, 0.0)]
    other = [[abs(2 * factor * kappa(t, 0.0) * RATIO**-0.5 / (LOW**2 / 2) * exact(t, 1) - 1) for t in temperatures]
             for factor in (1.0, RATIO**0.5)]  # fmt: skip
    late = exact(T, seen_every=0.4)
    options: Any = dict(observable=jnp.abs, level=EXIT, paths=4000 if full else 400)
    rates, means = (0.4, 0.2, 0.1), []
    for place, rate in enumerate(rates):
        run = first_passage(SGD(rate, 1), noisy(T, rate), jnp.array(0.0), steps=8192 * 2**place, segment=512,
                            key=jax.random.fold_in(key, place), **options)  # fmt: skip
        times = rate * run.times / exact(T, seen_every=rate)
        means.append((times.mean(), times.std() / len(times) ** 0.5))
    sgd = extrapolated(rates, Estimate(*np.array(means).T))
    passed = first_passage(
        SGD(0.4, 1), noisy(T, 0.4), jnp.array(0.0), steps=8192, segment=512, run=solve, key=key, **options
    )
    spread = solve(SGD(0.4, 1), noisy(T, 0.4), jnp.array(0.0), steps=512, save_every=128, key=key, paths=400,
                   observe={"x": lambda x: jnp.mod(x, 2 * jnp.pi)})  # fmt: skip
    phi, rival = 1 + 1 / (T * CURVED), 1 / (2 * kappa(T, 0.0) * late)
    return Findings(
        claims=(
            judge_convergence("rate in t against the exact one, T -> 0", temperatures, off[0], order=1, mutant=off[1]),
            judge_convergence("rate in tau, T -> 0", temperatures, other[0], order=1, mutant=other[1]),
            judge_number("mean time of SGD over the exact one, rate -> 0", sgd, 1.0, mutant=rival),
            judge_number("mean time of the equation over the exact one", 0.4 * passed.times / late, 1.0, mutant=rival),
            judge_density("x mod 2 pi of the equation", spread.observables["x"][:, 1:],
                          lambda x: -2 * phi * np.log(height(x)), mutant=lambda x: -2 * (phi - 1) * np.log(height(x)),
                          support=(0, 2 * np.pi)),
        ),
        data={"T": T, "sgd": exact(T) * np.array(sgd)},
        note="Mean times of SGD over the exact one at rates " + ", ".join(
            f"{rate}: {mean:.3f} ± {error:.3f}" for rate, (mean, error) in zip(rates, means, strict=True)) +
        ". The mutants: kappa without the 1/2 in its exponent, phi without the 1.",
    )  # fmt: skip


def plot(ax, data):
    T = np.linspace(1.2, 6, 60)
    ax.plot(1 / T, [1 / exact(t) for t in T], color="#0072b2", label="exact, from the first-passage time")
    ax.plot(1 / T, 2 * kappa(T), color="#0072b2", ls=":", label="2κ, for small T")
    ax.plot(1 / T, 2 * kappa(T, 0.0), color="#d55e00", ls="--", label="2κ without the 1/2")
    value, error = data["sgd"]
    ax.errorbar(1 / data["T"], 1 / value, 3 * error / value**2, fmt="o", color="#1b1b1b", label="SGD, ± 3 s.e.")
    ax.set(yscale="log", xlabel="batch size / learning rate, 1/T", ylabel="escapes per unit of time")
    ax.legend(frameon=False)

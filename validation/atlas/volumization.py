"""A box that holds weights back is weight decay where it has no volume, and a soft wall where it has.

Source: Ziyin, Wang, Yamada and Ueda, "Volumization as a Natural Generalization of Weight Decay" (arXiv:2003.11243); the
algorithm read in the authors' code, the formulas derived here.

After each step w becomes sign(w) [alpha |w| + (1 - alpha) V] where |w| > V. With V = 0, SGD on h w^2/2 with noise sigma has
the variance alpha^2 eta^2 sigma^2/(1 - alpha^2 (1 - eta h)^2), exactly. With V > 0, 1 - alpha = eta kappa and eta to 0
at T = eta sigma^2/2, the density is that of the potential: exp(-[h w^2 + kappa (|w| - V)_+^2]/2T).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Isotropic, Objective, decayed, volumized
from validation import Estimate, extrapolated, judge_equality, judge_number

from . import Findings

CURVATURE, KAPPA, VOLUME, HEAT, RATES = 0.5, 3.0, 0.7, 0.5, np.array([0.1, 0.05, 0.025])


def boxed(rate, volume):
    noise = Isotropic(np.sqrt(2 * HEAT / rate))
    return volumized(SGD(rate, noise_model=noise), volume=volume, alpha=1 - rate * KAPPA)


def density(w, kappa=KAPPA):
    return np.exp(-(CURVATURE * w**2 + kappa * np.maximum(np.abs(w) - VOLUME, 0) ** 2) / (2 * HEAT))


def second_moment(kappa=KAPPA):
    w = np.linspace(-9, 9, 20_001)
    return np.average(w**2, weights=density(w, kappa))


def measure(key, full):
    bowl = Objective(lambda w, _: CURVATURE * jnp.sum(w**2) / 2, jnp.zeros(1))
    keys, start = jax.random.split(key, 3), jnp.zeros(10_000 if full else 1000)

    def squares(run, rate, volume, key):
        """The mean of w^2 over coordinates at rest, one for each path, and the weights."""
        found = run(boxed(rate, volume), bowl, start, steps=320, key=key, paths=64)
        w = np.asarray(found.final)
        return np.mean(w**2, axis=1), w

    def limit(run, key):
        means, w = zip(
            *(squares(run, rate, VOLUME, jax.random.fold_in(key, n)) for n, rate in enumerate(RATES)), strict=True
        )
        means = np.array(means)
        return extrapolated(RATES, Estimate(means.mean(1), means.std(1, ddof=1) / 8)), w[-1]

    rate, alpha = RATES[0], 1 - RATES[0] * KAPPA
    exact = rate * 2 * HEAT / (1 - alpha**2 * (1 - rate * CURVATURE) ** 2)
    (algorithm, w), (equation, _) = limit(train, keys[0]), limit(solve, keys[1])
    flat, _ = squares(train, rate, 0.0, keys[2])

    images, labels = load_digits(return_X_y=True)
    net, static = eqx.partition(eqx.nn.MLP(64, 10, 8, 1, jnp.tanh, key=key), eqx.is_inexact_array)
    cross = lambda w, example: -jax.nn.log_softmax(eqx.combine(w, static)(example[0]))[example[1]]  # noqa: E731
    digits = Objective(cross, (jnp.asarray(images[:200] / 16), jnp.asarray(labels[:200])))
    ends = [
        np.asarray(ravel_pytree(train(one, digits, net, steps=100, key=key).final)[0])
        for one in (
            volumized(SGD(0.5, 8), volume=0.0, alpha=0.99),
            decayed(SGD(0.5 * 0.99, 8), weight_decay=0.01 / (0.99 * 0.5)),
            decayed(SGD(0.5, 8), weight_decay=0.01 / 0.5),
        )
    ]
    return Findings(
        claims=(
            judge_number("E w^2 in a box, at a vanishing rate", algorithm, second_moment(), mutant=second_moment(0)),
            judge_number("E w^2 of the equation, likewise", equation, second_moment(), mutant=second_moment(0)),
            judge_number("E w^2 without a volume", flat, alpha**2 * exact, mutant=exact),
        ),
        data={"w": w},
        beyond=(
            judge_equality("a network on digits, without a volume", ends[0], ends[1], mutant=ends[2], operations=1000),
        ),
        note="The mutants have no box, or take the step after the shrinking. On digits the reference is SGD at the rate "
        "alpha eta with the decay (1 - alpha)/(alpha eta), the mutant SGD at eta.",
    )  # fmt: skip


def plot(ax, data):
    w = np.linspace(-2.6, 2.6, 400)
    counts, edges = np.histogram(data["w"], bins=41, range=(-2.6, 2.6))
    width, middle = edges[1] - edges[0], (edges[1:] + edges[:-1]) / 2
    ax.plot(w, density(w) / np.trapezoid(density(w), w), color="#0072b2", lw=1, label="density with the wall")
    ax.plot(w, density(w, 0) / np.trapezoid(density(w, 0), w), "--", color="#d55e00", lw=1, label="without the wall")
    scale = data["w"].size * width
    label = f"SGD, η = {RATES[-1]}"
    ax.errorbar(middle, counts / scale, np.sqrt(counts) / scale, fmt="o", color="#1b1b1b", ms=3, label=label)
    ax.set_xlabel("weight")
    ax.set_ylabel("density")
    ax.legend(frameon=False)

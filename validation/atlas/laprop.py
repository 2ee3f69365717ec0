"""LaProp bounds every step whatever its momentum, and Adam's steps explode after a jump of the gradient.

Source: Ziyin, Wang and Ueda, "LaProp: Separating Momentum and Adaptivity in Adam" (arXiv:2002.04839); the algorithm read in
the authors' code, the formulas derived here.

After one gradient 1 and then gradients e, at decays mu and nu, with a_t = mu^t + e (1 - mu^t)/(1 - mu) and b_t likewise
of nu and e^2, Adam's step is [(1 - mu) a_t/(1 - mu^(t+1))]/sqrt[(1 - nu) b_t/(1 - nu^(t+1))], which grows as
(mu/sqrt(nu))^t where mu > sqrt(nu). No step of LaProp is above 1/sqrt(1 - nu), for any mu.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import Adam, LaProp, Objective
from validation import judge_bound, judge_convergence, judge_equality

from . import Findings

MU, NU, SMALL, STEPS = 0.9, 0.7, 1e-12, 300
BOUND = 1 / np.sqrt(1 - NU)
STEP = {"observe": {"w": lambda w: ravel_pytree(w)[0]}}


def sizes(run, rate):
    """The steps of every path over the learning rate, `(paths, steps, parameters)`."""
    return np.abs(np.diff(np.asarray(run.observables["w"]), axis=1)) / rate


def kept(decay, gradient, t):
    """The average of 1, then t gradients, without its bias."""
    return (1 - decay) * (decay**t + gradient * (1 - decay**t) / (1 - decay)) / (1 - decay ** (t + 1))


def measure(key, full):
    # The gradient is 1 at the start and 1e-12 ever after. Learning rate 1, so that no step is lost to rounding.
    jump = Objective(lambda w, _: jnp.where(w >= 0, w, SMALL * w), jnp.zeros(1))
    t, zero = np.arange(STEPS), jnp.zeros(())
    adam, laprop = (
        sizes(train(one(1.0, b1=MU, b2=NU, eps=0.0), jump, zero, steps=STEPS, **STEP), 1.0)[0, :, 0]
        for one in (Adam, LaProp)
    )
    expected = kept(MU, SMALL, t) / np.sqrt(kept(NU, SMALL**2, t))
    # What LaProp averages: 1 first, then each small gradient over the root of what is kept of the large one.
    units = SMALL / np.sqrt(kept(NU, SMALL**2, t))
    units[0] = 1.0
    powers = MU ** (t[:, None] - t) * (t[:, None] >= t)
    separate = powers @ units * (1 - MU) / (1 - MU ** (t + 1))

    x = jax.random.normal(key, (20, 3))
    bowl = Objective(lambda w, e: (jnp.tanh(e[0] @ w) - e[1]) ** 2 / 2, (x, jnp.tanh(x @ jnp.array([1.0, -2.0, 0.5]))))
    rates, off = (0.02, 0.01, 0.005), []
    for rate in rates:
        end = [
            run(
                one(0.02, b1=0.9, b2=0.96).scaling_limit().rescaled(rate / 0.02),
                bowl,
                jnp.array([-1.0, 1.0, 2.0]),
                steps=200,
                **STEP,
            ).observables["w"][0, round(1 / rate)]
            for run, one in ((train, LaProp), (solve, LaProp), (solve, Adam))
        ]
        off.append([float(jnp.linalg.norm(w - end[0])) for w in end[1:]])
    off = np.array(off)

    images, labels = load_digits(return_X_y=True)
    net, static = eqx.partition(eqx.nn.MLP(64, 10, 8, 1, jnp.tanh, key=key), eqx.is_inexact_array)
    cross = lambda w, example: -jax.nn.log_softmax(eqx.combine(w, static)(example[0]))[example[1]]  # noqa: E731
    digits = Objective(cross, (jnp.asarray(images[:200] / 16), jnp.asarray(labels[:200])))
    largest = [
        sizes(train(one(0.002, 4, b1=MU, b2=NU), digits, net, steps=100, key=key, paths=16, **STEP), 0.002).max((1, 2))
        for one in (LaProp, Adam)
    ]
    return Findings(
        claims=(
            judge_equality("steps of Adam after a jump", adam, expected, mutant=separate, operations=STEPS),
            judge_equality("steps of LaProp", laprop, separate, mutant=expected, operations=STEPS),
            judge_convergence("LaProp off its equation", rates, off[:, 0], order=1, mutant=off[:, 1]),
        ),
        data={"adam": adam, "laprop": laprop, "formula": expected},
        beyond=(
            judge_bound("largest step of LaProp on digits", largest[0], at_most=BOUND, mutant=1.0),
            judge_bound("largest step of Adam on digits", largest[1], at_least=BOUND, mutant=1e3),
        ),
        note="The mutants take the one algorithm for the other.",
    )  # fmt: skip


def plot(ax, data):
    ax.semilogy(data["formula"], color="#0072b2", lw=1, label="formula for Adam")
    ax.axhline(BOUND, ls="--", color="#d55e00", lw=1, label="bound of LaProp")
    for name, marker in (("adam", "o"), ("laprop", "s")):
        ax.semilogy(np.arange(STEPS)[::10], data[name][::10], marker, color="#1b1b1b", ms=4, label=f"steps of {name}")
    ax.set_xlabel("steps after the jump of the gradient")
    ax.set_ylabel("step over learning rate")
    ax.legend(frameon=False)

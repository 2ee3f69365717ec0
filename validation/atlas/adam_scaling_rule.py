"""Adam keeps its course where its learning rate grows as the root of the batch size.

Source: Malladi, Lyu, Panigrahi and Arora, "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms"
(arXiv:2205.10287), the equation of Adam and its square-root rule; recalled, verified here.

At kappa times the batch, sqrt(kappa) times the learning rate, kappa (1 - beta), eps/sqrt(kappa). Where noise sigma
dominates and batches shrink along the rule, dm = c1 (g - m) ds + noise, d theta = -m/(sigma0 (1 - e^(-c1 s))) ds in the
clock s = eta^2 step, with c1 = (1 - beta1)/eta^2 and sigma0 = eta sigma/sqrt(B): beta2 has dropped out.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.ode import odeint
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import Adam, Objective
from validation import Estimate, extrapolated, judge_curve, judge_number, scaling_rule

from . import Findings

SIZES, RATE, FORGET, START, STEPS = np.array([1, 2, 4]), 0.01, (0.05, 0.02), 0.2, 200
PLACES = 40 * np.arange(1, STEPS // 40 + 1)


def adam(size):
    b1, b2 = (1 - forget * size for forget in FORGET)
    return Adam(RATE * np.sqrt(size), int(size), b1=b1, b2=b2, eps=1e-12, scaling="batch_equivalent")


def course(steps, faster=1.0):
    """The mean of theta on theta^2/2 with gradient noise of variance 1, after so many steps at the batch size 1."""

    def velocity(y, step):
        return jnp.array([faster * RATE * y[1] / jnp.expm1(-FORGET[0] * step), FORGET[0] * (y[0] - y[1])])

    begin = START * jnp.array([1.0, FORGET[0] * 1e-6])
    return np.asarray(odeint(velocity, begin, jnp.concatenate([jnp.array([1e-6]), jnp.asarray(steps, float)]))[1:, 0])


def measure(key, full):
    x = jax.scipy.stats.norm.ppf((jnp.arange(8.0) + 0.5) / 8)
    bowl, limits = Objective(lambda w, x: (w - x) ** 2 / 2, x / x.std()), {}
    for run in (train, solve):
        means = []
        for size in SIZES:
            found = run(
                adam(size), bowl, jnp.array(START), steps=STEPS, key=jax.random.fold_in(key, size),
                paths=2**14 if full else 2**10, observe={"w": lambda w: w}, save_every=10,
            )  # fmt: skip
            w = np.asarray(found.observables["w"])[:, PLACES // size // 10]
            means.append((w.mean(0), w.std(0) / np.sqrt(len(w))))
        limits[run is train] = extrapolated(SIZES, Estimate(*np.moveaxis(np.array(means), 1, 0)))
    right, wrong = course(PLACES), course(PLACES, 2.0)

    images, labels = load_digits(return_X_y=True)
    net, static = eqx.partition(eqx.nn.MLP(64, 10, 8, 1, jnp.tanh, key=key), eqx.is_inexact_array)
    cross = lambda w, example: -jax.nn.log_softmax(eqx.combine(w, static)(example[0]))[example[1]]  # noqa: E731
    digits = Objective(cross, (jnp.asarray(images[:100] / 16), jnp.asarray(labels[:100])))
    off = {
        rule: scaling_rule(
            Adam(0.002, 2, b1=0.95, b2=0.98), digits, net, rule=rule, batch_sizes=[8], steps=80, key=key, paths=16
        ).deviations["loss"]["mean"]
        for rule in ("square_root", "linear")
    }
    off = {rule: Estimate(one.value[0], one.error[0]) for rule, one in off.items()}
    return Findings(
        claims=(
            judge_curve("mean of Adam as batches shrink along the rule", limits[True], right, mutant=wrong),
            judge_curve("mean of its equation, likewise", limits[False], right, mutant=wrong),
        ),
        data={"steps": PLACES, "measured": np.array(limits[True]), "equation": np.array(limits[False])},
        beyond=(
            judge_number(
                "loss of digits at four times the batch, off in units of its fall",
                off["square_root"], 0.0, mutant=off["linear"].value,
            ),
        ),
        note="The mutant is the linear rule, twice as fast at four times the batch.",
    )  # fmt: skip


def plot(ax, data):
    steps = np.arange(1, STEPS + 1)
    ax.plot(steps, course(steps), color="#0072b2", lw=1, label="equation of Malladi et al.")
    ax.plot(steps, course(steps, 2.0), "--", color="#d55e00", lw=1, label="linear rule, 4 x batch")
    ax.errorbar(data["steps"], *data["measured"], fmt="o", color="#1b1b1b", ms=4, label="Adam, batches to 0")
    ax.set_xlabel("examples seen")
    ax.set_ylabel("mean of θ")
    ax.legend(frameon=False)

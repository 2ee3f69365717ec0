"""The size of an adaptive step varies more and more from step to step, but never by more than 1 - 2/pi.

Source: Zhang and Ziyin, "On the Distributional Properties of Adaptive Gradients" (arXiv:2105.07222), abstract read, the
formulas derived here.

Normal gradients without a mean, beta1 = 0, beta2 to 1: the step u_t = g_t/sqrt(mean of g^2) has E u^2 = 1 and
Var |u_t| = 1 - t Gamma(t/2)^2/(pi Gamma((t + 1)/2)^2), from 0 to 1 - 2/pi. With momentum it is no longer monotone:
2 (1 + beta1^2)/(1 + beta1)^2 (1/2 - 4/pi^2) at t = 2, and (1 - 2/pi) (1 - beta1)/(1 + beta1) in the end.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import Adam, Isotropic, Objective, RMSProp
from validation import Estimate, extrapolated, judge_bound, judge_curve, judge_number

from . import Findings

TIMES, LATE, LIMIT, B2, B1 = np.arange(2, 13), np.array([40, 80, 160]), 1 - 2 / np.pi, 1 - 1e-8, 0.9


def predicted(t):
    from scipy.special import gammaln  # here, for the time that the import of SciPy takes

    return 1 - t / np.pi * np.exp(2 * gammaln(t / 2) - 2 * gammaln((t + 1) / 2))


def variances(run, equation, objective, start, steps, key):
    """Var |u_t| over parameters that move, one for each of 32 paths, `(paths, steps)`."""
    observe = {"w": lambda w: ravel_pytree(w)[0]}
    found = run(equation, objective, start, steps=steps, key=key, paths=32, observe=observe)
    sizes = np.abs(np.diff(np.asarray(found.observables["w"]), axis=1)) / float(equation.learning_rate)
    return sizes.var(axis=-1, ddof=1, where=np.all(sizes[:, :1] > 0, axis=1, keepdims=True))


def late(values):
    """The limit of many steps, of an error that falls as one over their number."""
    values = values[:, LATE - 1]
    return extrapolated(1 / LATE, Estimate(values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))))


def measure(key, full):
    flat, noise = Objective(lambda w, _: jnp.sum(w) * 0.0, jnp.zeros(1)), Isotropic(1.0)
    start, keys = jnp.zeros(5000 if full else 400), jax.random.split(key, 4)
    rms = RMSProp(1.0, decay=B2, eps=0.0, bias_correction=True, noise_model=noise)
    plain, equation = (variances(run, rms, flat, start, LATE[-1], keys[0]) for run in (train, solve))
    moving = Adam(1.0, b1=B1, b2=B2, eps=0.0, noise_model=noise)
    heavy = variances(train, moving, flat, start, LATE[-1], keys[1])
    second = 2 * (1 + B1**2) / (1 + B1) ** 2 * (1 / 2 - 4 / np.pi**2)

    images, labels = load_digits(return_X_y=True)
    net, static = eqx.partition(eqx.nn.MLP(64, 10, 8, 1, jnp.tanh, key=key), eqx.is_inexact_array)
    cross = lambda w, example: -jax.nn.log_softmax(eqx.combine(w, static)(example[0]))[example[1]]  # noqa: E731
    digits = Objective(cross, (jnp.asarray(images[:200] / 16), jnp.asarray(labels[:200])))
    seen = variances(train, RMSProp(1e-6, 4, decay=B2, eps=1e-20, bias_correction=True), digits, net, 12, keys[2])
    return Findings(
        claims=(
            judge_curve("Var |u| at steps 2 to 12", plain[:, TIMES - 1], predicted(TIMES), mutant=predicted(TIMES + 1)),
            judge_number("its limit", late(plain), LIMIT, mutant=1.0),
            judge_number("that of the equation", late(equation), LIMIT, mutant=1.0),
            judge_number("with momentum, at step 2", heavy[:, 1], second, mutant=predicted(2)),
            judge_number("with momentum, its limit", late(heavy), LIMIT * (1 - B1) / (1 + B1), mutant=LIMIT),
        ),
        data={"plain": plain, "heavy": heavy, "digits": seen},
        beyond=(judge_bound("Var |u| of a network on digits at step 12", seen[:, 11], at_most=LIMIT, mutant=0.05),),
        note="The mutants count one step more, or leave the momentum out. Single steps of the equation are not those of "
        f"the algorithm: their variance at step 2 is {equation[:, 1].mean():.2f}, since a step of the equation is divided "
        "by what was known before. The increase with time does not survive momentum.",
    )  # fmt: skip


def plot(ax, data):
    t = np.arange(1, LATE[-1] + 1)
    ax.semilogx(t, predicted(t), color="#0072b2", lw=1, label="prediction, β₁ = 0")
    ax.axhline(1.0, ls="--", color="#d55e00", lw=1, label="without a bound on u²")
    for name, marker in (("plain", "o"), ("heavy", "s"), ("digits", "^")):
        label = {"plain": "measured, β₁ = 0", "heavy": "β₁ = 0.9", "digits": "network on digits"}[name]
        steps = np.unique(np.geomspace(1, data[name].shape[1], 16).astype(int))
        values = data[name][:, steps - 1]
        error = values.std(0) / np.sqrt(len(values))
        ax.errorbar(steps, values.mean(0), error, fmt=marker, color="#1b1b1b", ms=4, label=label)
    ax.set_xlabel("step t")
    ax.set_ylabel("variance of |u|")
    ax.legend(frameon=False, loc=(0.55, 0.52))

"""Whether SGD leaves a saddle where all gradients vanish is decided by Lyapunov exponents, in four phases.

Source: Ziyin, Li, Galanti and Ueda, "The Probabilistic Stability of Stochastic Gradient Descent" (arXiv:2303.13093); the
four phases are recalled from the abstract, their exponents derived here.

loss = (u w x - y)^2 near u = w = 0, h = x y, s = (u + w)/sqrt(2), d = (u - w)/sqrt(2): a step multiplies s by 1 + 2 eta h
and d by 1 - 2 eta h, so that SGD leaves along s or d, whatever mean and variance say, where E ln|1 + 2 eta h| or
E ln|1 - 2 eta h| is positive: correct learning (+ -), incorrect learning (- +), collapse (- -), neither (+ +). The
differential equation has 2 eta (+-E h - eta Var h) in their place, which are never both positive.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import lyapunov, train
from equations import SGD, Objective
from validation import Estimate, judge_curve, judge_number

from . import Findings

# The values of h, equally likely, and the learning rate.
PHASES = {
    "correct": ((6.0, -4.0) * 5, 0.02),
    "incorrect": ((10.0, *(-1.0,) * 9), 0.2),
    "collapse": ((6.0, -4.0) * 5, 0.1),
    "neither": ((6.0, -4.0) * 5, 0.2),
}
WAYS = np.array([1.0, -1.0])  # of s and d


def of_algorithm(h, rate):
    return np.mean(np.log(np.abs(1 + 2 * rate * WAYS[:, None] * np.array(h))), axis=1)


def of_mean(h, rate):
    return np.log(np.abs(1 + 2 * rate * WAYS * np.mean(h)))


def of_equation(h, rate):
    return 2 * rate * (WAYS * np.mean(h) - rate * np.var(h))


def loss(params, h):
    return ((params["s"] ** 2 - params["d"] ** 2) / 2 - h) ** 2


def network(params, example):
    return 0.5 * (params["out"] @ jnp.tanh(params["in"] @ example[0]) - example[1]) ** 2


def judged(what, model, phases, prediction, steps, key):
    """The exponents of these phases, that of s first, where `lyapunov` gives the larger one first."""
    right, mutant = (np.array([rule(*phase) for phase in phases]) for rule in (prediction, of_mean))
    saddle, parts = dict.fromkeys("sd", jnp.zeros(())), []
    for (h, rate), (along_s, along_d) in zip(phases, right, strict=True):
        found = lyapunov(
            SGD(rate, 1), Objective(loss, jnp.array(h)), saddle, steps=steps, key=key, exponents=2, model=model,
            substeps=256,
        )  # fmt: skip
        parts.append(np.array([found.exponents, found.standard_errors])[:, :: 1 if along_s > along_d else -1])
    found = Estimate(*np.concatenate(parts, axis=1))
    return found, judge_curve(what, found, right.ravel(), mutant=mutant.ravel(), freedom=31)


def measure(key, full):
    keys, steps = jax.random.split(key, 7), 100_000 if full else 10_000
    phases = list(PHASES.values())
    found, algorithm = judged("exponents of SGD", "algorithm", phases, of_algorithm, steps, keys[0])
    _, equation = judged(
        "those of its equation where SGD leaves both ways", "equation", phases[3:], of_equation, steps // 5, keys[1]
    )
    start, options = dict.fromkeys("sd", jnp.asarray(1e-3)), dict(steps=600, save_every=600, key=keys[2], paths=64)
    ends = [train(SGD(rate, 1), Objective(loss, jnp.array(h)), start, **options).final for h, rate in phases]
    left = np.array([np.hypot(end["s"], end["d"]) > 1e-3 for end in ends]).T.astype(float)
    rules = [[float(max(rule(*phase)) > 0) for phase in phases] for rule in (of_algorithm, of_equation)]

    images, labels = load_digits(n_class=2, return_X_y=True)
    digits = Objective(network, (images[:100] / 16, 4.0 * labels[:100] - 1))
    zero = {"in": jnp.zeros((2, 64)), "out": jnp.zeros(2)}
    exponent = lyapunov(SGD(0.3, 1), digits, zero, steps=4000, key=keys[3])
    small = {name: 1e-30 * jax.random.normal(k, zero[name].shape) for name, k in zip(zero, keys[4:6], strict=True)}
    size = lambda params: jnp.log(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))) / 2  # noqa: E731
    run = train(SGD(0.3, 1), digits, small, steps=60, save_every=30, key=keys[6], paths=64, observe={"size": size})
    sizes = np.asarray(run.observables["size"])
    return Findings(
        claims=(algorithm, equation, judge_curve("runs that leave", left, rules[0], mutant=rules[1])),
        beyond=(
            judge_number(
                "growth of a tanh network on digits against its exponent", (sizes[:, 2] - sizes[:, 1]) / 30,
                Estimate(exponent.exponents[0], exponent.standard_errors[0]), mutant=exponent.in_mean, freedom=31,
            ),
        ),
        data={"found": found},
        note="Mutants: exponents of the mean step; runs that leave by the exponents of the equation.",
    )  # fmt: skip


def plot(ax, data):
    rates, (h, _) = np.linspace(0.002, 0.25, 400), PHASES["collapse"]
    for way, (name, lines) in enumerate((("correct", ("-", "--")), ("incorrect", ("-.", ":")))):
        for rule, line, color in ((of_algorithm, lines[0], "#0072b2"), (of_equation, lines[1], "#d55e00")):
            label = f"{'SGD' if rule is of_algorithm else 'equation'}, {name}"
            ax.plot(rates, [rule(h, rate)[way] for rate in rates], line, color=color, label=label)
    for (values, rate), value, error in zip(
        PHASES.values(), *(part.reshape(-1, 2) for part in data["found"]), strict=True
    ):
        if values == h:
            ax.errorbar([rate] * 2, value, 3 * error, fmt="o", color="#1b1b1b", ms=4)
    ax.axhline(0, color="#1b1b1b", lw=0.8)
    ax.set_ylim(-1, 0.8)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("Lyapunov exponent per step (± 3 s.e.)")
    ax.legend(frameon=False)

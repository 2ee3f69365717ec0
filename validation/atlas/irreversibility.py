"""Four measures of the irreversibility of a training step are one potential at small learning rates.

Source: Ziyin et al., "Thermodynamic Irreversibility of Training Algorithms" (arXiv:2605.21933), equivalence of
potentials; its abstract is recalled, the normalizations are derived here.

phi = E|g_B|^2/4, g_B the gradient of a minibatch. A step less the gradient flow (backward error), a step less n smaller
ones (time renormalized) and a step there and back (time asymmetry), each over its factor of eta^2, displace parameters by
-grad phi (1 + O(eta)); a step with a little noise makes the entropy 8 eta^2 phi/sigma^2. At rest, at any eta,
E[theta . grad L] = 2 eta E[phi].
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from dynamics import solve, train
from equations import SGD, Objective
from validation import corrected, irreversibility, judge_convergence, judge_number

from . import Findings

RATES = (0.04, 0.02, 0.01, 0.005)
MEASURES = ("backward_error", "time_renormalized", "time_asymmetry", "entropy_production")


def neuron(w, example):
    return 0.5 * (w[1] * jnp.tanh(w[0] * example[0]) - example[1]) ** 2 + 0.05 * jnp.sum(w**2)


def network(layers, example):
    logits = jnp.tanh(example[0] @ layers[0]) @ layers[1]
    return jax.nn.logsumexp(logits) - logits[example[1]]


def judged(what, loss, data, params):
    """The measures over phi at each learning rate, and the judgment: the mutant is phi of the mean gradient."""
    objective = Objective(loss, data)
    results = [irreversibility(SGD(rate, 2), objective, params, probes=0) for rate in RATES]
    mean = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(jax.jit(lambda w: objective.gradient(w))(params)))
    mutant = float(mean) / 4 / results[0].phi
    ratios = np.array([[result.values[name] for name in MEASURES] for result in results]) / results[0].phi
    right, wrong = (np.abs(ratios / value - 1).max(axis=1) for value in (1.0, mutant))
    return ratios, mutant, judge_convergence(what, RATES, right, order=1, mutant=wrong)


def measure(key, full):
    keys = jax.random.split(key, 4)
    x, noise = jax.random.normal(keys[0], (2, 8))
    data, params = (x, x + 0.5 * noise), jnp.array([1.3, 0.4])
    objective = Objective(neuron, data)
    ratios, mutant, agree = judged("largest distance of a measure from phi", neuron, data, params)

    def step(run, equations):
        return np.array([run(equation, objective, params, steps=1).final[0] for equation in equations])

    leading = [SGD(rate) for rate in RATES]
    algorithm = step(train, leading)
    with_force = np.linalg.norm(step(solve, [corrected(sgd, "time_asymmetry") for sgd in leading]) - algorithm, axis=1)
    without = np.linalg.norm(step(solve, leading) - algorithm, axis=1)

    observe = {
        "work": lambda w: jnp.sum(w * objective.gradient(w)),
        "square": lambda w: jnp.mean(jnp.sum(jax.vmap(jax.grad(neuron), (None, 0))(w, data) ** 2, axis=1)),
        "mean": lambda w: jnp.sum(objective.gradient(w) ** 2),
    }
    rate, steps = 0.3, 40_000 if full else 8_000
    run = train(SGD(rate, 1), objective, params, steps=steps, key=keys[1], paths=32, observe=observe, save_every=10)
    work, square, mean = (np.asarray(run.observables[name])[:, steps // 40 :].mean(axis=1) for name in observe)
    images, labels = load_digits(return_X_y=True)
    layers = [0.3 * jax.random.normal(k, shape) for k, shape in zip(keys[2:], ((64, 16), (16, 10)), strict=True)]
    digits = judged("the same of a tanh network on digits", network, (images[:8] / 16, labels[:8]), layers)
    return Findings(
        claims=(
            agree,
            judge_convergence("a step less the flow with the force", RATES, with_force, order=3, mutant=without),
            judge_number(
                "E[theta . grad L]/(2 eta E[phi]) at rest",
                1 + (work - rate / 2 * square) / (rate / 2 * square.mean()), 1.0, mutant=mean.mean() / square.mean(),
            ),
        ),
        beyond=(digits[2],),
        data={"ratios": ratios, "mutant": mutant},
        note="Mutants: phi of the mean gradient, the flow without a force, and |grad L|^2 in place of E|g_B|^2.",
    )  # fmt: skip


def plot(ax, data):
    for name, values, marker in zip(MEASURES, data["ratios"].T, "osd^", strict=True):
        ax.plot(RATES, values, marker, color="#1b1b1b", ms=5, mfc="none", label=name.replace("_", " "))
    ax.axhline(1, color="#0072b2", label="φ = E|g_B|²/4")
    ax.axhline(data["mutant"], color="#d55e00", ls="--", label="|E g_B|²/4")
    ax.set_xlim(0, 1.05 * RATES[0])
    ax.set_xlabel("learning rate")
    ax.set_ylabel("measure over φ")
    ax.legend(frameon=False, loc="center left")

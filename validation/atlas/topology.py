"""Neurons neither merge nor pass each other at learning rates below one over the sharpness, and do from there on.

Source: Ziyin et al. (arXiv:2510.02670), topological invariance of training and its loss at a critical learning rate;
recalled from the abstract, bound and critical rate derived here.

A step that permutes with the neurons, and gradients with the Lipschitz constant K, move two neurons from the distance d to
d' with (1 - eta K) d <= d' <= (1 + eta K) d: nothing merges below eta* = 1/K = 1/lambda_max, half the rate at which
training becomes unstable. L = K (w_1 - w_2)^2/4 has w_1' - w_2' = (1 - eta K) (w_1 - w_2). Neurons in a double well
V = (w^2 - 1)^2/4 on |w| < R change order where V''(w) = 3 w^2 - 1 > 1/eta. The flow never merges any: d = exp(-K t) d_0.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, train
from equations import SGD, Objective
from validation import judge_convergence, judge_curve, judge_equality

from . import Findings

REACH = 1.5
K = 3 * REACH**2 - 1  # of the double well, and of the pair
FACTORS = np.array([0.3, 0.6, 0.9, 1.2, 1.5, 1.8])  # learning rates times K
GAPS = (0.1, 0.01, 0.001)


def pair(w, _):
    return K * (w[0] - w[1]) ** 2 / 4


def wells(w, _):
    return jnp.sum((w**2 - 1) ** 2) / 4


def reversed_share(edge):
    """Of neurons, spread evenly, whose curvature is beyond `edge` times 1/eta."""
    return 1 - np.minimum(np.sqrt((edge * K / FACTORS + 1) / 3), REACH) / REACH


def neurons(w, example):
    """A tanh network of one input; a neuron (weight, bias, output) is a row."""
    return 0.5 * (w[:, 2] @ jnp.tanh(w[:, 0] * example[0] + w[:, 1]) / len(w) ** 0.5 - example[1]) ** 2


def on_network(keys):
    """Two neighbors on a network: the curvature of their difference counts, which is far below the sharpness."""
    x = jnp.linspace(-2, 2, 20)
    objective = Objective(neurons, (x, jnp.sin(2 * x)))
    w = jax.random.normal(keys[0], (20, 3))
    w = w.at[1].set(w[0])
    hessian = jax.jit(jax.hessian(lambda w: objective.value(w)))(w)
    values, vectors = jnp.linalg.eigh(hessian[0, :, 0] - hessian[0, :, 1])
    sharpness = float(jnp.linalg.eigvalsh(hessian.reshape(60, 60))[-1])
    rate, way = 0.5 / float(values[-1]), vectors[:, -1]
    errors = []
    for gap in GAPS:
        begin = w.at[0].add(gap / 2 * way).at[1].add(-gap / 2 * way)
        end = train(SGD(rate), objective, begin, steps=1).final[0]
        errors.append([abs(float((end[0] - end[1]) @ way) / gap - target) for target in (0.5, 1 - rate * sharpness)])
    errors, ratio = np.array(errors).T, sharpness / float(values[-1])
    return judge_convergence("gap of two tanh neurons after a step", GAPS, errors[0], order=2, mutant=errors[1]), ratio


def measure(key, full):
    keys, number = jax.random.split(key, 3), 100_000 if full else 10_000
    near, one = jnp.array([0.7, 0.3]), jnp.zeros(1)

    def gap(run, factor, **more):
        end = run(SGD(factor / K), Objective(pair, one), near, steps=5, save_every=5, **more).final[0]
        return float((end[0] - end[1]) / (near[0] - near[1]))

    gaps = np.array([gap(train, factor) for factor in FACTORS])
    flows = np.array([gap(solve, 0.6, substeps=substeps) for substeps in (1, 2, 4)])
    w = jax.random.uniform(keys[0], (number, 1), minval=-REACH, maxval=REACH) + jnp.array([0.0, 1e-9])
    ends = [train(SGD(factor / K), Objective(wells, one), w, steps=1).final[0] for factor in FACTORS]
    crossed = np.array([np.asarray(end[:, 0] > end[:, 1]) for end in ends]).T.astype(float)
    beyond, ratio = on_network(keys[1:])
    return Findings(
        claims=(
            judge_curve(
                "share of neighbors that change order in a double well", crossed, reversed_share(1),
                mutant=reversed_share(2),
            ),
            judge_equality(
                "gap after five steps", gaps, (1 - FACTORS) ** 5, mutant=(1 - FACTORS / 2) ** 5, operations=50
            ),
            judge_convergence(
                "gap in the flow less exp(-K t)", (1, 1 / 2, 1 / 4), np.abs(flows - np.exp(-3)), order=5,
                mutant=np.abs(flows - 0.4**5),
            ),
        ),
        beyond=(beyond,),
        data={"crossed": crossed.mean(axis=0), "error": crossed.std(axis=0) / number**0.5},
        note="Mutants: 2/lambda_max for 1/lambda_max, steps for the flow. On the network the bound is not tight: a pair "
        f"merges at one over the curvature of its own difference, here {ratio:.1f} times as late as at 1/lambda_max, which "
        "belongs to all neurons together.",
    )  # fmt: skip


def plot(ax, data):
    factors = np.linspace(0.2, 2, 200)
    share = lambda edge: 1 - np.minimum(np.sqrt((edge * K / factors + 1) / 3), REACH) / REACH  # noqa: E731
    ax.plot(factors, share(1), color="#0072b2", label="from 1/λ_max on")
    ax.plot(factors, share(2), "--", color="#d55e00", label="from 2/λ_max on")
    ax.errorbar(FACTORS, data["crossed"], 3 * data["error"], fmt="o", color="#1b1b1b", label="one step (± 3 s.e.)")
    ax.set_xlabel("learning rate times λ_max")
    ax.set_ylabel("share of neighbors that change order")
    ax.legend(frameon=False)

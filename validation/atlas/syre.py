"""Weight decay to a random center lets training leave the states that a symmetry of the loss holds.

Source: Ziyin, Xu and Chuang, "Remove Symmetries to Control Model Expressivity and Improve Optimization" (arXiv:2408.15495);
the method is read in a secondary source, the formulas are derived here.

Equal neurons have equal gradients, and decay gamma |w|^2 keeps them so: n of them, w and a, move as one neuron
n^{1/2} q tanh(v x/n^{1/2}) with v = n^{1/2} w, q = n^{1/2} a. Decay gamma |w - w_0|^2 to a random center, w_0 ~ N(0, s^2),
tells them apart. Where the loss sees the sum of two weights only, their difference is

    w - w' = (w_0 - w_0')(1 - e^{-2 gamma t}),    in steps of the learning rate r    (w_0 - w_0')(1 - (1 - 2 r gamma)^n).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, sweep, train
from equations import SGD, Objective, regularized, syre
from validation import judge_equality

from . import Findings

DECAY, SPREAD, COPIES, RATE = 1e-3, 0.01, 4, 0.2


def neurons(p, x):
    return p["out"] @ jnp.tanh(p["in"] @ x)


def squared(p, e):
    return (neurons(p, e[0]) - e[1]) ** 2 / 2


def shared(w, e):
    return (jnp.sum(w, 0) @ e[0] - e[1]) ** 2 / 2


def merged(p, e, decay=DECAY):
    """One neuron in place of equal ones, in coordinates in which it moves as they do."""
    one = {"in": p["in"] / np.sqrt(COPIES), "out": p["out"] * np.sqrt(COPIES)}
    return squared(one, e) + decay * (jnp.sum(p["in"] ** 2) + jnp.sum(p["out"] ** 2))


def cross_entropy(p, e):
    return -jax.nn.log_softmax(neurons(p, e[0]))[e[1]]


def digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return jnp.asarray(images[:60] / 16), jnp.asarray(labels[:60])


def equal_neurons(key, width, inputs, *outputs):
    same, out = (
        0.3 * jax.random.normal(k, shape)
        for k, shape in zip(jax.random.split(key), ((inputs,), (*outputs, 1)), strict=True)
    )
    return {"in": jnp.tile(same, (width, 1)), "out": jnp.tile(out, width)}


def ends(key, loss, examples, start, spread, seeds, steps):
    """The loss without decay and the rank of the weights in, where training ends for each random center, `(seeds,)`."""
    observe = {"loss": Objective(loss, examples).value, "rank": lambda p: jnp.linalg.matrix_rank(p["in"])}

    def experiment(seed):
        penalty = syre(start, jax.random.fold_in(key, seed), DECAY, spread)
        return dict(
            equation=SGD(RATE), objective=regularized(Objective(loss, examples), penalty), params=start, steps=steps,
            save_every=steps, observe=observe,
        )  # fmt: skip

    found = sweep(experiment, {"seed": range(seeds)}, run=train)
    return (found[name].values[:, 0, -1] for name in observe)


def measure(key, full):
    keys = jax.random.split(key, 4)
    X = jax.random.normal(keys[0], (60, 3))
    y = jax.vmap(lambda x: jnp.array([1.0, -1.0, 0.7]) @ jnp.tanh(1.5 * jnp.eye(3) @ x))(X)
    penalty = syre(jnp.zeros((2, 3)), keys[1], DECAY * 10, SPREAD)
    apart = penalty.center[0] - penalty.center[1]
    pair, claims, data = regularized(Objective(shared, (X, y)), penalty), [], {}
    for side, run in (("descent", train), ("flow", solve)):
        found = run(
            SGD(RATE), pair, jnp.ones((2, 3)), steps=1000, save_every=50, observe={"difference": lambda w: w[0] - w[1]}
        )
        share = 1 - (1 - 20 * RATE * DECAY) ** found.steps if run is train else 1 - jnp.exp(-20 * DECAY * found.times)
        right = share[:, None] * apart
        claims.append(
            judge_equality(
                f"difference of weights that are alike, {side}",
                found.observables["difference"][0],
                right,
                mutant=0 * right,
                operations=1000,
                scale=1.0,
            )  # fmt: skip
        )
        data |= {side: found.observables["difference"][0, :, 0] / apart[0], "t": found.times, "right": share}

    examples, seeds, steps = (X, y), 32 if full else 6, 20_000
    start = equal_neurons(keys[2], COPIES, 3)
    plain, one_rank = ends(keys[3], squared, examples, start, 0.0, 2, steps)
    random, full_rank = ends(keys[3], squared, examples, start, SPREAD, seeds, steps)
    merged_start = {"in": np.sqrt(COPIES) * start["in"][:1], "out": np.sqrt(COPIES) * start["out"][:1]}
    one = train(
        SGD(RATE),
        Objective(merged, examples),
        merged_start,
        steps=steps,
        save_every=steps,
        observe={"loss": Objective(partial(merged, decay=0.0), examples).value},
    ).observables["loss"][0, -1]
    images = digits()
    alike = equal_neurons(keys[2], 6, 64, 10)
    (held, _), (left, rank) = (ends(keys[3], cross_entropy, images, alike, s, 3, 3000) for s in (0.0, SPREAD))
    claims += [
        judge_equality("loss of equal tanh neurons", plain, one + 0 * plain, mutant=random[:2], operations=steps),
        judge_equality("rank of their weights", one_rank, 0 * one_rank + 1, mutant=0 * one_rank + 3, operations=1),
        judge_equality("rank with a random center", full_rank, 0 * full_rank + 3, mutant=0 * full_rank + 1, operations=1),
    ]  # fmt: skip
    sizes = " and ".join(f"{np.mean(a):.2g} for {np.mean(b):.2g}" for a, b in ((random, one), (left, held)))
    return Findings(
        claims=tuple(claims),
        beyond=(
            judge_equality("rank of six neurons of digits", rank, 0 * rank + 6, mutant=0 * rank + 1, operations=1),
        ),
        data=jax.tree.map(np.asarray, data),
        note="Mutants: equal weights stay equal; the loss with a center. With a center "
        f"the losses of tanh neurons and of a network of digits are {sizes}.",
    )


def plot(ax, data):
    ax.plot(data["t"], data["right"], color="#0072b2", label="1 - exp(-2γt)")
    ax.plot(data["t"], 0 * data["right"], "--", color="#d55e00", label="decay to zero")
    ax.plot(data["t"], data["flow"], "o", color="#1b1b1b", ms=4, label="gradient flow, random center")
    ax.set_xlabel("time (learning rate x steps)")
    ax.set_ylabel("difference of weights / of centers")
    ax.legend(frameon=False)

"""Steps of many training steps: the mean loss of an ensemble for the time of its training, a flow for few gradients.

The images are those of `svag.py`, 50 000 of 784 numbers in batches of 64, at a small learning rate: large batches against
Optax training, and on a tenth of the data against steps on all examples.
"""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from dynamics import Fused, solve, train
from equations import SGD

from . import svag
from ._problems import digits
from ._timing import Figure, interleave

PATHS, BATCH = 8, 32
RATE, STEPS = 1e-3, 2000  # of the images


def length(run) -> float:
    """Of the steps of a run, in training steps."""
    return float(dict(run.details)["length_of_steps"].split()[0])


def ensemble() -> list[Figure]:
    """The digits in minibatches at eta = 1e-3, the mean loss to 1 %."""
    objective, layers = digits()
    options: Any = dict(steps=4000, paths=PATHS, save_every=1000, observe={"loss": objective.value})
    sgd = SGD(1e-3, BATCH)
    run = solve(sgd, objective, layers, key=jax.random.key(1), solver_error=0.01, **options)
    times = interleave(
        {
            "large steps": lambda: (
                solve(sgd, objective, layers, key=jax.random.key(1), solver_error=0.01, **options).final
            ),
            "training": lambda: train(sgd, objective, layers, key=jax.random.key(2), **options).final,
        },
        5,
    )
    exact = train(sgd, objective, layers, key=jax.random.key(3), **options | {"paths": 64}).observables["loss"]
    mean, wanted = (np.asarray(x, float).mean(0) for x in (run.observables["loss"], exact))
    note = (
        f"{length(run):g} training steps each; {times.processor_ratio('large steps', 'training')}; with the pilot runs"
    )
    return [
        Figure("large steps: digits, eta = .001 / training", times.ratio("large steps", "training"), 1.0, note),
        Figure("large steps: digits, mean loss off that of training", float(np.max(np.abs(mean / wanted - 1))), 0.01),
    ]


def images() -> list[Figure]:
    """A network 784-128-10 at eta = 1e-3, the mean loss on 1000 of the images to 1 %."""
    sgd, paths = SGD(RATE, svag.BATCH), svag.PATHS

    def curve(size, key, error=0.01, solver=None):
        objective, layers = svag.problem(size)
        observe = {"loss": objective.take(np.arange(1000)).value}
        options: Any = dict(
            steps=STEPS, paths=paths, save_every=400, observe=observe, solver_error=error, solver=solver
        )
        return lambda: solve(sgd, objective, layers, key=jax.random.key(key), **options)

    run, exact = curve(5000, 1)(), curve(5000, 2, 1e-3, Fused())()
    mean, wanted = (np.asarray(x.observables["loss"], float).mean(0) for x in (run, exact))
    large, (objective, layers) = curve(50_000, 1), svag.problem(50_000)
    times = interleave(
        {
            "large batches": lambda: large().final,
            "Optax": lambda: svag.plain(objective, layers, jax.random.key(0), RATE, STEPS),
        },
        5,
    )
    note = (
        f"{length(large()):g} training steps each, {times.median('large batches') / STEPS * 1e3:.2f} ms a training step; "
        f"{times.processor_ratio('large batches', 'Optax')}; with the pilot runs"
    )
    off, fine = float(np.max(np.abs(mean / wanted - 1))), f"steps of {length(exact):g} training steps on all examples"
    return [
        Figure("large steps: images, eta = .001 / Optax training", times.ratio("large batches", "Optax"), 3.0, note),
        Figure("large steps: images, mean loss off the full gradient's", off, 0.01, fine),
    ]


def _double(leaf):
    return leaf.astype(float) if eqx.is_inexact_array(leaf) else leaf


def flow() -> list[Figure]:
    """The digits on the full batch, 1e5 steps at eta = 1e-4, the loss to 1e-6, in float64."""
    jax.config.update("jax_enable_x64", True)
    try:
        objective, layers = jax.tree.map(_double, digits())
        options: Any = dict(steps=100_000, save_every=10_000, observe={"loss": objective.value})
        run, finer = (solve(SGD(1e-4), objective, layers, solver_error=error, **options) for error in (1e-6, 1e-9))
        gradients = 6 / length(run)
        off = np.max(np.abs(np.asarray(run.observables["loss"] / finer.observables["loss"]) - 1))
        note = f"steps of {length(run):g} training steps"
        return [
            Figure("large steps: flow of the digits, gradients a training step", float(gradients), 0.01, note),
            Figure("large steps: flow of the digits, loss off that of short steps", float(off), 1e-6),
        ]
    finally:
        jax.config.update("jax_enable_x64", False)


def run() -> list[Figure]:
    return [*ensemble(), *images(), *flow()]

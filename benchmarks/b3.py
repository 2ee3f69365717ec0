"""Problem B3: a small network in minibatches, the steps of the default solver and others against Euler's."""

import diffrax as dfx
import jax

from dynamics import Strang, solve, train
from equations import SGD

from ._problems import b3
from ._timing import Figure, interleave

RATE, BATCH, PATHS, STEPS = 0.05, 8, 256, 200


def run() -> list[Figure]:
    objective, layers = b3()
    options = dict(steps=STEPS, key=jax.random.key(0), paths=PATHS, save_every=STEPS)

    def library(solver=None, **more):
        return lambda: solve(SGD(RATE, BATCH), objective, layers, solver=solver, **more, **options).final

    runs = {
        "Euler": library(dfx.Euler()),
        "default": library(),
        "Strang": library(Strang()),
        "Euler, two-point": library(dfx.Euler(), increments="two-point"),
        "default, three-point": library(increments="three-point"),
        "train": lambda: train(SGD(RATE, BATCH), objective, layers, **options).final,
    }
    times = interleave(runs, 15)
    limits = {"default": 3.2}
    return [
        Figure(
            f"b3: {name} / Euler",
            times.ratio(name, "Euler"),
            limits.get(name),
            f"{times.median(name) * 1e3:.0f} ms, {times.processor_ratio(name, 'Euler')}",
        )
        for name in runs
        if name != "Euler"
    ]

"""SVAG against Optax training: the equation's mean loss curve by its extrapolation, for so many training runs.

A network on 50 000 examples of 784 numbers, drawn from ten Gaussian classes, in batches of 64. On a tenth of the data the
curve is held against a run with the full gradient.
"""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dynamics import SVAG, solve
from equations import SGD, Objective

from ._problems import loss, path_keys
from ._timing import Figure, interleave

RATE, BATCH, PATHS, STEPS = 0.05, 64, 4, 200


def problem(size: int):
    """Ten classes that overlap, and a network 784-128-10, in float32."""
    rng = np.random.default_rng(0)
    means, labels = rng.normal(size=(10, 784)) * 0.1, rng.integers(0, 10, size)
    images = means[labels] + rng.normal(size=(size, 784)) * 0.5
    sizes = (784, 128, 10)
    layers = tuple(
        (jnp.asarray(rng.normal(size=(m, n)) / m**0.5, jnp.float32), jnp.zeros(n, jnp.float32))
        for m, n in zip(sizes, sizes[1:], strict=False)
    )
    return Objective(loss, (jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32))), layers


def plain(objective, layers, key, rate=RATE, steps=STEPS):
    """Optax's own loop over training steps."""
    optimizer, size = optax.sgd(rate), objective.size

    def mean_loss(layers, batch):
        return jnp.mean(jax.vmap(lambda example: loss(layers, example))(batch))

    @jax.jit
    def run(layers, data, key):
        def path(key):
            def step(carry, number):
                layers, memory = carry
                index = jax.random.randint(jax.random.fold_in(key, number), (BATCH,), 0, size)
                gradient = jax.grad(mean_loss)(layers, jax.tree.map(lambda leaf: leaf[index], data))
                updates, memory = optimizer.update(gradient, memory)
                return (optax.apply_updates(layers, updates), memory), None

            return jax.lax.scan(step, (layers, optimizer.init(layers)), jnp.arange(steps))[0][0]

        return jax.vmap(path)(path_keys(key, PATHS))

    return run(layers, objective.data, key)


def curves(size: int, paths: int, seen: int = 1000):
    """The mean loss on `seen` examples, by the default solver, by SVAG(1) and by extrapolation from it to SVAG(2)."""
    objective, layers = problem(size)
    part = objective.take(jnp.arange(seen))
    options = dict(steps=STEPS, paths=paths, observe={"loss": part.value}, save_every=20)

    def mean(solver, key):
        run = solve(SGD(RATE, BATCH), objective, layers, key=key, solver=solver, **options)
        return np.asarray(run.observables["loss"], float).mean(axis=0)

    key = jax.random.key(1)
    coarse, fine = mean(SVAG(1), key), mean(SVAG(2), key)
    return mean(None, jax.random.key(2)), coarse, 2 * fine - coarse


def run() -> list[Figure]:
    with warnings.catch_warnings():  # of what the full gradient costs
        warnings.simplefilter("ignore")
        exact, coarse, extrapolated = curves(5000, PATHS)
    off = lambda curve: float(np.max(np.abs(curve / exact - 1)))  # noqa: E731
    objective, layers = problem(50_000)
    key = jax.random.key(0)

    def by_svag(*numbers):
        options = dict(steps=STEPS, key=key, paths=PATHS, save_every=STEPS)
        return [solve(SGD(RATE, BATCH), objective, layers, solver=SVAG(n), **options).final for n in numbers]

    times = interleave(
        {"Optax": partial(plain, objective, layers, key), "SVAG(1)": lambda: by_svag(1), "both": lambda: by_svag(1, 2)},
        5,
    )

    def figure(name, limit):
        note = f"{times.median(name) / STEPS * 1e3:.2f} ms a step, {times.processor_ratio(name, 'Optax')}"
        return Figure(f"svag: {name} / Optax training", times.ratio(name, "Optax"), limit, note)

    name = "svag: mean loss by extrapolation, off the full gradient's"
    curve = Figure(name, off(extrapolated), 0.01, f"SVAG(1) {off(coarse):.2g}")
    return [curve, figure("SVAG(1)", None), figure("both", 10.0)]

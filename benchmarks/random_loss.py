"""What a random loss costs whose mean is given, over the same loss without its randomness."""

import jax
import jax.numpy as jnp

from dynamics import solve
from equations import SGD, Objective

from ._problems import digits, loss
from ._timing import Figure, interleave

RATE, BATCH, PATHS, STEPS, KEEP = 0.05, 32, 8, 20, 0.8


def tilted(layers, example, key):
    """The cross-entropy and a part of the first layer by dropout on the image, whose mean is zero."""
    kept = jax.random.bernoulli(key, KEEP, example[0].shape)
    return loss(layers, example) + jnp.sum(jnp.where(kept, 1 / KEEP - 1, -1.0) * example[0] @ layers[0][0]) / 32


def run() -> list[Figure]:
    objective, layers = digits()
    random = Objective(tilted, objective.data, random=True, mean=loss)
    sgd, key = SGD(RATE, BATCH), jax.random.key(0)

    def call(objective):
        return lambda: solve(sgd, objective, layers, steps=STEPS, key=key, paths=PATHS, save_every=STEPS).final

    times = interleave({"plain": call(objective), "random": call(random)}, 15)
    note = f"{times.median('random') / STEPS * 1e3:.2f} ms a step, {times.processor_ratio('random', 'plain')}"
    return [Figure("random loss with its mean / plain", times.ratio("random", "plain"), 1.1, note)]

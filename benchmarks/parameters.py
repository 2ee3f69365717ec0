"""The fused step over one full gradient as the network grows, and the memory that it takes."""

import sys
from functools import partial

import diffrax as dfx
import jax
import jax.numpy as jnp

from dynamics import solve
from equations import SGD

from ._problems import digits, full_gradient, moved, size
from ._timing import Figure, interleave, peak_memory, print_peak_memory

RATE, BATCH, PATHS = 0.01, 32, 8
# Two hidden layers of these widths; parameters; steps in a run.
SIZES = {69: ("1e4", 60), 280: ("1e5", 20), 963: ("1e6", 4)}


@partial(jax.jit, static_argnames=("steps", "paths"))
def gradients(layers, data, steps, paths):
    """Full gradients one after another, each where the one before has moved the parameters."""

    def path(layers):
        def step(layers, _):
            return moved(layers, (-RATE, full_gradient(layers, data))), None

        return jax.lax.scan(step, layers, None, length=steps)[0]

    # Paths that are one and the same array would be computed once.
    return jax.vmap(path)(jax.tree.map(lambda leaf: jnp.tile(leaf, (paths,) + leaf.ndim * (1,)), layers))


def fused(width: int, steps: int, paths: int, copies: int = 1):
    """The objective, the parameters and a run of the library."""
    objective, layers = digits((width, width), copies)

    def run():
        sgd, key = SGD(RATE, BATCH), jax.random.key(0)
        return solve(
            sgd, objective, layers, steps=steps, key=key, paths=paths, solver=dfx.Euler(), save_every=steps
        ).final

    return objective, layers, run


def run() -> list[Figure]:
    figures = []
    # One path alone too: drawing its normals, which no second core shares, weighs most there.
    for width, paths, limit in (*((width, PATHS, 1.15) for width in SIZES), (min(SIZES), 1, 1.15)):
        name, steps = SIZES[width]
        steps *= PATHS // paths
        objective, layers, library = fused(width, steps, paths)
        by_hand = partial(gradients, layers, objective.data, steps, paths)
        times = interleave({"gradient": by_hand, "fused": library}, repeats=11)
        note = f"{times.median('fused') / steps * 1e3:.2f} ms a step, {times.processor_ratio('fused', 'gradient')}"
        title = f"parameters: {name}, fused / full gradient, {paths} path" + "s" * (paths > 1)
        figures.append(Figure(title, times.ratio("fused", "gradient"), limit, note))

    # What a matrix of per-example gradients would take is 4 bytes * examples * parameters. The memory that a larger
    # network or more examples add is compared with what they would add to that matrix.
    peaks = {width: peak_memory(__name__, width) for width in SIZES}
    small, middle, large = SIZES
    copies = 8
    examples, parameters = len(digits()[0].data[1]), {width: size(digits((width, width))[1]) for width in SIZES}
    more = peak_memory(__name__, middle, copies)
    for name, added, matrix in (
        ("1e5 to 1e6 parameters", peaks[large] - peaks[middle], examples * (parameters[large] - parameters[middle])),
        (f"{copies} times the examples at 1e5", more - peaks[middle],
         (copies - 1) * examples * parameters[middle]),
    ):  # fmt: skip
        note = f"adds {added / 2**20:.0f} MiB; the matrix {matrix * 4 / 2**20:.0f} MiB"
        figures.append(Figure(f"parameters: memory, {name} / N x d matrix", added / (4 * matrix), 0.05, note))
    note = ", ".join(f"{peaks[width] / 2**20:.0f} MiB at {SIZES[width][0]}" for width in SIZES)
    per_parameter = (peaks[large] - peaks[middle]) / (parameters[large] - parameters[middle])
    figures.append(Figure("parameters: bytes a parameter, 1e5 to 1e6", per_parameter, None, "peaks: " + note))
    return figures


if __name__ == "__main__":  # the process whose memory is measured
    jax.block_until_ready(fused(int(sys.argv[1]), 3, 1, *map(int, sys.argv[2:]))[2]())
    print_peak_memory()

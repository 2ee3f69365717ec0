"""The fused Euler step and merged Strang splitting on a network, against the loops that one would write by hand."""

from functools import partial

import diffrax as dfx
import jax
import jax.numpy as jnp

from dynamics import Strang, solve
from equations import SGD

from ._problems import digits, distance, full_gradient, moved, path_keys, weighted_gradient
from ._timing import Figure, interleave

RATE, BATCH, PATHS = 0.05, 32, 8


def _weights(key, step, size):
    normals = jax.random.normal(jax.random.fold_in(key, step), (size,))
    return (normals - jnp.mean(normals)) / (size * BATCH) ** 0.5


@partial(jax.jit, static_argnames="steps")
def euler_by_hand(layers, data, key, steps):
    """One weighted gradient per step."""
    size = len(data[1])

    def path(key):
        def step(layers, index):
            weights = -RATE / size - RATE * _weights(key, index, size)
            return moved(layers, (1.0, weighted_gradient(layers, data, weights))), None

        return jax.lax.scan(step, layers, jnp.arange(steps))[0]

    return jax.vmap(path)(path_keys(key, PATHS))


@partial(jax.jit, static_argnames="steps")
def strang_by_hand(layers, data, key, steps):
    """Half a flow; kick and whole flow, one kick and two gradients per step; half a flow at the end. Heun's flow."""

    def flow(layers, time):
        first = full_gradient(layers, data)
        second = full_gradient(moved(layers, (-time, first)), data)
        return moved(layers, (-time / 2, first), (-time / 2, second))

    def path(key):
        def step(layers, index):
            kick = weighted_gradient(layers, data, -RATE * _weights(key, index, len(data[1])))
            return flow(moved(layers, (1.0, kick)), jnp.where(index == steps - 1, RATE / 2, RATE)), None

        return jax.lax.scan(step, flow(layers, RATE / 2), jnp.arange(steps))[0]

    return jax.vmap(path)(path_keys(key, PATHS))


def run() -> list[Figure]:
    objective, layers = digits()
    key = jax.random.key(0)
    sgd = SGD(RATE, BATCH)

    def library(solver, steps):
        def run():
            return solve(sgd, objective, layers, steps=steps, key=key, paths=PATHS, solver=solver, save_every=steps)

        return lambda: run().final

    def by_hand(loop, steps):
        return lambda: loop(layers, objective.data, key, steps)

    def measure(steps, repeats, functions):
        for name in set(functions) & {"fused", "Strang"}:
            if f"{name} by hand" in functions:
                apart = distance(functions[name](), functions[f"{name} by hand"]())
                if apart > 1e-4:
                    raise AssertionError(f"{name} ends {apart} away from the loop by hand: not the same problem.")
        times = interleave(functions, repeats)

        def figure(title, name, reference, limit):
            note = f"{times.median(name) / steps * 1e3:.2f} ms a step, {times.processor_ratio(name, reference)}"
            return Figure(f"mlp: {title}", times.ratio(name, reference), limit, note)

        return figure

    # A call of `solve` spends some 4 ms on checking its arguments: one percent of 200 steps.
    fused = measure(200, 61, {"fused": library(dfx.Euler(), 200), "fused by hand": by_hand(euler_by_hand, 200)})
    strang = measure(
        100,
        11,
        {
            "fused": library(dfx.Euler(), 100),
            "Strang": library(Strang(dfx.Heun(), kicks=1), 100),
            "Strang by hand": by_hand(strang_by_hand, 100),
            "default": library(None, 100),
        },
    )
    return [
        fused("fused Euler / by hand", "fused", "fused by hand", 1.05),
        strang("merged Strang(Heun, kicks=1) / by hand", "Strang", "Strang by hand", 1.15),
        strang("merged Strang(Heun, kicks=1) / fused Euler", "Strang", "fused", 3.5),
        strang("default, 3 gradients a step / fused Euler", "default", "fused", 3.2),
    ]

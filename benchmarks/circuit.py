"""A minute of the circles circuit, 64 replicas with weights and stimuli of their own, against a scan written by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, stimuli
from equations import Circuit

from ._problems import distance, path_keys
from ._timing import Figure, interleave

LAYERS, STEP, DURATION, TIME, REPLICAS = (3, 24, 24, 1), 1e-3, 50e-3, 60.0, 64
PROPAGATION, PLASTICITY, DECAY = 1e-3, 2.5, 500.0


def circles(count: int = 1000):
    """Points on two noisy circles, with a constant input beside them, and targets -1 and 1, in float32."""
    rng = np.random.default_rng(0)
    inner = np.arange(count) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, count), np.where(inner, 0.5, 1.0)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * rng.normal(size=(count, 2))
    x = np.concatenate([x, np.full((count, 1), 0.5)], 1)
    return jnp.asarray(x, jnp.float32), jnp.asarray(2.0 * inner - 1, jnp.float32)


X, Y = circles()


def circuit() -> Circuit:
    return Circuit(LAYERS, "KP", PROPAGATION, PLASTICITY, DECAY)


@jax.jit
def library(keys):
    model, stream = circuit(), stimuli(X, Y, duration=DURATION)

    def replica(key):
        run = solve(model, stream, model.init(key), time=TIME, dt=STEP, save_every=int(TIME / DURATION), key=key)
        return jax.tree.map(lambda leaf: leaf[0], run.final)

    return jax.vmap(replica)(keys)


@jax.jit
def by_hand(keys):
    model, per_stimulus = circuit(), round(DURATION / STEP)
    speed, learn, forget = STEP / PROPAGATION, STEP / PLASTICITY, STEP / DECAY

    def replica(key):
        weights = model.init(key)
        (w1, w2, w3), (v2, v3) = weights.forward, weights.backward
        order_key = jax.random.split(jax.random.fold_in(key, 0))[0]
        zero = jnp.zeros(24, jnp.float32)

        def stimulus(state, index):
            example = jax.random.randint(jax.random.fold_in(order_key, index), (1,), 0, X.shape[0])[0]
            x, y = X[example], Y[example]

            def step(state, _):
                z1, z2, z3, e1, e2, w1, w2, w3, v2, v3 = state
                h1, h2 = jnp.tanh(w1 @ x), jnp.tanh(w2 @ z1)
                e3 = y - z3
                d1, d2 = (1 - h1**2) * (v2 @ e2), (1 - h2**2) * (v3 @ e3)
                g1, g2, g3 = learn * jnp.outer(e1, x), learn * jnp.outer(e2, z1), learn * jnp.outer(e3, z2)
                return (
                    z1 + speed * (h1 - z1),
                    z2 + speed * (h2 - z2),
                    z3 + speed * (w3 @ z2 - z3),
                    e1 + speed * (d1 - e1),
                    e2 + speed * (d2 - e2),
                    w1 + g1 - forget * w1,
                    w2 + g2 - forget * w2,
                    w3 + g3 - forget * w3,
                    v2 + g2.T - forget * v2,
                    v3 + g3.T - forget * v3,
                ), None

            return jax.lax.scan(step, state, None, length=per_stimulus)[0], None

        state = (zero, zero, jnp.zeros(1, jnp.float32), zero, zero, w1, w2, w3, v2, v3)
        state, _ = jax.lax.scan(stimulus, state, jnp.arange(round(TIME / DURATION), dtype=jnp.int32))
        return state[5:]

    return jax.vmap(replica)(keys)


def run() -> list[Figure]:
    keys = path_keys(jax.random.key(0), REPLICAS)
    times = interleave({"by hand": lambda: by_hand(keys), "solve": lambda: library(keys)}, 9)
    hand, ours = by_hand(keys), jax.tree.leaves(library(keys))
    note = f"{times.median('solve'):.2f} s, {times.processor_ratio('solve', 'by hand')}"
    name = f"circuit: {REPLICAS} replicas, {TIME:g} s in steps of {STEP * 1e3:g} ms"
    return [
        Figure(f"{name}, solve / scan", times.ratio("solve", "by hand"), 1.2, note),
        Figure(f"{name}, largest difference of a weight", distance(list(hand), list(ours)), 1e-2),
    ]

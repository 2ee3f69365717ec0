"""A new learning rate, key or data of the same shape does not recompile."""

import diffrax as dfx
import jax
import jax.numpy as jnp

from dynamics import solve, train
from equations import SGD, Adam, Objective

from ._timing import Figure

TRACES, COMPILATIONS = [], []


def loss(params, example):
    TRACES.append(1)  # runs when the loss is traced, not when the compiled program is
    x, y = example
    return (jnp.dot(params, x) - y) ** 2


def _listen(event, duration, **kwargs):
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILATIONS.append(event)


def _counted(run, equation, key, shift, **options) -> tuple[int, int]:
    """How often the loss was traced and a program compiled."""
    x = jnp.arange(20.0, dtype=jnp.float32).reshape(10, 2) / 20 + shift
    objective = Objective(loss, (x, jnp.sin(x[:, 0])))
    start = jnp.ones(2, jnp.float32)
    before = len(TRACES), len(COMPILATIONS)
    jax.block_until_ready(run(equation, objective, start, steps=4, key=key, paths=2, **options).final)
    return len(TRACES) - before[0], len(COMPILATIONS) - before[1]


def run() -> list[Figure]:
    jax.monitoring.register_event_duration_secs_listener(_listen)
    figures = []
    for name, run, options, kind in (
        ("solve, Euler", solve, {"solver": dfx.Euler()}, SGD),
        ("solve, Strang", solve, {}, SGD),
        ("solve, Strang, Adam", solve, {}, Adam),
        ("train", train, {}, SGD),
    ):
        first = _counted(run, kind(0.1, 4), jax.random.key(0), 0.0, **options)
        # The checks of the arguments trace the loss in every call; a recompilation would trace it more often.
        same = _counted(run, kind(0.1, 4), jax.random.key(0), 0.0, **options)
        new = _counted(run, kind(0.2, 4), jax.random.key(7), 0.5, **options)
        if not (first[0] > same[0] and first[1] > 0):
            raise AssertionError("The counters do not see the first compilation.")
        note = f"traces of the loss {first[0]}, then {same[0]}, then {new[0]}; programs {first[1]}, then {new[1]}"
        figures.append(
            Figure(f"recompile: {name}, new rate, key and data", float(new[0] - same[0] + new[1]), 0.0, note)
        )
    return figures

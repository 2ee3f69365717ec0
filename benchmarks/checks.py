"""What the checks of values cost: calls with them and without, warm and for the first time, over what they may cost."""

import statistics
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from dynamics import solve, train
from equations import SGD, Adam, Langevin, Objective, from_optax, modified, scheduled
from equations.internal import unchecked

from ._problems import b3, digits
from ._timing import Figure, Ratio, interleave

WARM, FIRST = (0.03, 2e-3), (0.10, 0.5)  # the part of a call, and the seconds, of which the greater is allowed
ROUNDS = 3


def _cases():
    import optax

    quadratic = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), jnp.ones((8, 3)) * jnp.arange(8.0)[:, None])
    network, images = b3(), digits()
    halving = optax.exponential_decay(1.0, 20, 0.5)
    few = dict(steps=50, paths=4, key=jax.random.key(0))
    yield "solve, SGD, 3 parameters", solve, SGD(0.05, 2), quadratic, jnp.zeros(3), few
    yield "solve, gradient flow, 2-16-1", solve, SGD(0.05), *network, dict(steps=50)
    yield "solve, Adam, 2-16-1", solve, Adam(0.01, 8), *network, few
    yield "solve, scheduled SGD, 2-16-1", solve, scheduled(SGD(0.05, 8), halving), *network, few
    yield "solve, Langevin, 2-16-1", solve, Langevin(0.05, 8, temperature=0.1), *network, few
    yield "solve, modified SGD, 2-16-1", solve, modified(SGD(0.05, 8)), *network, few
    yield "solve, from_optax(adam), 2-16-1", solve, from_optax(optax.adam, 0.01, 8), *network, few
    yield "train, Adam, 2-16-1", train, Adam(0.01, 8), *network, few
    yield "solve, SGD, digits", solve, SGD(0.05, 32), *images, dict(few, steps=20)


def _call(run, equation, objective, params, options):
    return lambda: run(equation, objective, params, **options).final


def _plain(call):
    def without():
        with unchecked():
            return call()

    return without


def _excess(pairs, allowed) -> Ratio:
    """What the first of each pair of times takes more than the second, over what is allowed."""
    part, seconds = allowed
    bound = max(part * statistics.median(plain for _, plain in pairs), seconds)
    excess = [(checked - plain) / bound for checked, plain in pairs]
    return Ratio(statistics.median(excess), min(excess), max(excess))


def _first(run, equation, objective, params, options):
    """Seconds of a first call with the checks and without, each on a loss that is new."""
    pairs = []
    for _ in range(ROUNDS):
        times = []
        for wrap in (lambda call: call, _plain):
            loss = objective.loss
            fresh = Objective(lambda p, example, loss=loss: loss(p, example), objective.data)
            call = wrap(_call(run, equation, fresh, params, options))
            jax.clear_caches()
            start = time.perf_counter()
            jax.block_until_ready(call())
            times.append(time.perf_counter() - start)
        pairs.append(tuple(times))
    return pairs


def run() -> Iterator[Figure]:
    for name, runner, equation, objective, params, options in _cases():
        call = _call(runner, equation, objective, params, options)
        times = interleave({"checked": call, "plain": _plain(call)}, repeats=25).seconds
        pairs = list(zip(times["checked"], times["plain"], strict=True))
        note = f"{1e3 * statistics.median(times['plain']):.1f} ms without"
        yield Figure(f"checks, warm: {name}", _excess(pairs, WARM), 1.0, note)
        pairs = _first(runner, equation, objective, params, options)
        note = f"{statistics.median(plain for _, plain in pairs):.2f} s without"
        yield Figure(f"checks, first: {name}", _excess(pairs, FIRST), 1.0, note)

"""A million float32 steps: none is lost, and memory does not grow."""

import sys

import diffrax as dfx
import jax
import jax.numpy as jnp

from dynamics import solve
from equations import AbstractDynamics, Splitting

from ._timing import Figure, interleave, peak_memory, print_peak_memory


class Counter(AbstractDynamics):
    """Counts its own kicks beside a noisy number; every whole number up to 2^24 is exact in float32."""

    def drift(self, t, state, signal):
        return {"count": jnp.ones_like(state["count"]), "x": -0.1 * state["x"]}

    def splitting(self):
        return CountedKicks(self)


class CountedKicks(Splitting):
    def flow(self, t, state, signal):
        return {"count": jnp.zeros_like(state["count"]), "x": -0.1 * state["x"]}

    def noise(self, state, signal, kicks_per_step):
        return jax.ShapeDtypeStruct((), state["x"].dtype)

    def kick(self, t, state, signal, noise, dt):
        return {"count": dt, "x": jnp.sqrt(dt) * noise}


class Line(AbstractDynamics):
    """The same count without noise."""

    def drift(self, t, state, signal):
        return {"count": jnp.ones_like(state["count"])}


def count(dynamics, solver, steps: int):
    """The final count of each of 8 paths."""
    start = {"count": jnp.zeros((), jnp.float32)} | ({"x": jnp.ones((), jnp.float32)} if dynamics is Counter else {})
    run = solve(dynamics(), None, start, steps=steps, key=jax.random.key(0), paths=8, dt=1.0, solver=solver,
                save_every=steps)  # fmt: skip
    return run.final["count"]


CASES = {"Euler": (Counter, dfx.Euler()), "Strang": (Counter, None), "Euler, no noise": (Line, dfx.Euler())}


def run() -> list[Figure]:
    steps = 10**6
    figures = []
    for name, (dynamics, solver) in CASES.items():
        counted = count(dynamics, solver, steps)
        exact = bool(jnp.all(counted == steps))
        times = interleave({"": lambda d=dynamics, s=solver: count(d, s, steps)}, repeats=1)
        note = f"counted {int(counted.min())} to {int(counted.max())}, {times.median('') / steps * 1e6:.2f} us a step"
        figures.append(Figure(f"long: 1e6 steps are exactly 1e6, {name}", exact, True, note))
    # The peak of one and the same process varies by some percent, hence the smallest of three.
    short, long = (min(peak_memory(__name__, n) for _ in range(3)) for n in (steps // 10, steps))
    note = f"{short / 2**20:.0f} and {long / 2**20:.0f} MiB"
    return [*figures, Figure("long: peak memory, 1e6 steps / 1e5 steps", long / short, 1.05, note)]


if __name__ == "__main__":  # the process whose memory is measured
    for dynamics, solver in CASES.values():
        jax.block_until_ready(count(dynamics, solver, int(sys.argv[1])))
    print_peak_memory()

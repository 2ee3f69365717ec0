"""What a modified equation costs, in plain gradients of a network, and what it saves against the steps it replaces."""

import dataclasses
from functools import partial

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp

from dynamics import solve, train
from equations import SGD, Modified, modified

from ._problems import b3, digits, full_gradient, moved
from ._timing import Figure, interleave

RATE, PATHS, STEPS = 0.05, 4, 20
LIMITS = {("derivatives", 2): 1.8, ("derivatives", 3): 4.0, ("map", 2): 2.0, ("map", 3): 3.0, ("map", 5): 5.0}
# In a small network the steps of the map cost less than the loop around them, which one cannot time.
SMALL = {key: limit for key, limit in LIMITS.items() if key[0] == "derivatives"}
# Where a network is wide enough for matrix products to be what a gradient costs, a derivative along it takes as many again
# in the first layer (two) and twice as many in later ones (six for three): no limit, for information.
WIDE = LIMITS | {("derivatives", 2): None, ("derivatives", 3): None}


def _tiled(layers):
    return jax.tree.map(lambda leaf: jnp.stack([leaf * (1 + 0.01 * path) for path in range(PATHS)]), layers)


@eqx.filter_jit
def _gradients(layers, data, loss):
    def path(layers):
        def step(state, _):
            return moved(state, (-RATE, full_gradient(state, data, loss))), None

        return jax.lax.scan(step, layers, None, STEPS)[0]

    return jax.vmap(path)(_tiled(layers))


@eqx.filter_jit
def _drifts(equation, layers, objective):
    def path(layers):
        def step(state, _):
            return moved(state, (RATE, equation.drift(jnp.zeros(()), state, objective))), None

        return equation.params(jax.lax.scan(step, equation.init(layers), None, STEPS)[0])

    return jax.vmap(path)(_tiled(layers))


class Counted(Modified):
    """Counts the evaluations of its drift, on the host."""

    def drift(self, t, state, signal):
        jax.debug.callback(lambda: _COUNT.append(1))
        return super().drift(t, state, signal)


_COUNT = []


def flow_of_gradient_descent(objective, network, rate=0.004, steps=10_000, tolerance=1e-3):
    """Relative error of the loss along `steps` of gradient descent, and how many fewer gradients the flow takes.

    The flow is the modified equation of second order by an adaptive solver; an evaluation of its field counts as the two
    gradients that it costs.
    """
    observe = {"loss": objective.value}
    arguments = {"steps": steps, "save_every": steps // 10, "observe": observe}
    run = train(SGD(rate), objective, network, **arguments)
    _COUNT.clear()
    equation = modified(SGD(rate), order=2)
    equation = Counted(**{field.name: getattr(equation, field.name) for field in dataclasses.fields(equation)})
    controller = dfx.PIDController(rtol=tolerance, atol=tolerance)
    flow = solve(equation, objective, network, solver=dfx.Heun(), stepsize_controller=controller, **arguments)
    jax.block_until_ready(flow.final)
    jax.effects_barrier()
    error = jnp.max(jnp.abs(flow.observables["loss"] / run.observables["loss"] - 1))
    return float(error), steps / (2 * len(_COUNT))


def costs(name, objective, layers, limits) -> list[Figure]:
    """Evaluations of the field in gradients of the network."""
    functions = {"gradient": partial(_gradients, layers, objective.data, objective.loss)}
    for route, order in limits:
        equation = modified(SGD(RATE), order=order, route=route)
        functions[f"{route} {order}"] = partial(_drifts, equation, layers, objective)
    times = interleave(functions, 15)
    return [
        Figure(
            f"modified: order {order} by {route} / gradient, {name}, {PATHS} paths",
            times.ratio(f"{route} {order}", "gradient"),
            limit,
            times.processor_ratio(f"{route} {order}", "gradient"),
        )
        for (route, order), limit in limits.items()
    ]


def run() -> list[Figure]:
    figures = costs("network 2-16-1 (B3)", *b3(), SMALL) + costs("network 64-32-10 (digits)", *digits(), WIDE)
    error, fewer = flow_of_gradient_descent(*digits())
    note = f"{fewer:.0f} times fewer gradients"
    figures.append(Figure("modified: loss along 1e4 steps of gradient descent, relative", error, 0.01, note))
    figures.append(Figure("modified: gradients of the flow / of gradient descent", 1 / fewer, 1 / 30))
    return figures
